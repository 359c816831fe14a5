"""Personal data becomes placeholders; what only looks like it stays."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from curate_rows import row, rules, run, trained

from ft2ollama.loop.curate.pii import is_card, is_iban, is_id_number, only_placeholders, scrubber

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
FOUND = {
    "手机号": ["13800138000", "138 0013 8000", "+86 138-0013-8000", "+49 170 1234567"],
    "身份证号": ["11010519491231002X", "44030819900101004X".replace("004X", "0015")],
    "银行卡号": ["4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005"],
    "国际账号": ["DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19"],
    "邮箱": ["li.lei+x@example.com.cn"],
    "IP地址": ["8.8.4.4", "192.168.3.17", "2001:4860:4860::8888"],
    "车牌号": ["京A12345", "粤BD12345", "沪A·D1234学"],
    "密钥": ["sk-proj-abcdefghijklmnopqrst123", "ghp_" + "a1" * 18, "hf_" + "Ab" * 17,
           "AKIAIOSFODNN7EXAMPLE", KEY],
    "令牌": [JWT],
}  # fmt: skip
HARMLESS = [
    "订单号 20261122000123", "4111 1111 1111 1112", "110105194912310021", "版本 1.2.3", "12:30:45",
    "127.0.0.1", "0.0.0.0", "255.255.255.0", "::1", "DE89370400440532013001", "2026-11-22",
    "价格 138,000,000 元", "12345678901234567890", "新A级产品", "std::vector", "第 13 章第 8 节",
    "a@b", "粤语", "圆周率 3.14159265358979", "300.1.2.3", "号码 23800138000",
]  # fmt: skip


def valid_id(head: str) -> str:
    """Complete 17 digits with the check digit."""
    return next(head + check for check in "0123456789X" if is_id_number(head + check))


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in FOUND.items() for value in values]
)
def test_found_between_chinese_and_english(name: str, value: str) -> None:
    if name == "身份证号" and not is_id_number(value):
        value = valid_id(value[:17])
    for text in (f"请联系{value}，谢谢", f"see {value}, please", f"（{value}）", value):
        put = scrubber("中文")
        assert value not in put(text), text
        assert re.search(rf"<{name}_1>", put(text)), put(text)
        assert put.counts.total() == 2


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_stays(text: str) -> None:
    put = scrubber("中文")
    assert put(text) == text
    assert not put.counts


def test_the_same_value_has_the_same_placeholder() -> None:
    put = scrubber("我的电话")
    assert put("13800138000 和 13900139000") == "<手机号_1> 和 <手机号_2>"
    assert put("再说一次：+86 139-0013-9000") == "再说一次：<手机号_2>"
    english = scrubber("call me")
    assert english("call +86 13800138000") == "call <PHONE_1>"
    assert english.counts == {"phone": 1}


@pytest.mark.parametrize(
    "digits", ["411111111111111", "62", "4111111111111112", "9111111111111111"]
)
def test_no_cards(digits: str) -> None:
    assert not is_card(digits)


def test_check_digits() -> None:
    assert is_id_number("11010519491231002X")
    for place in range(17):  # any digit that is wrong
        digits = list("11010519491231002X")
        digits[place] = str((int(digits[place]) + 1) % 10)
        assert not is_id_number("".join(digits))
    assert is_iban("DE89370400440532013000")
    assert not is_iban("DE88370400440532013000")


def test_rows_are_scrubbed_in_every_text() -> None:
    doc = "客户张先生，手机13800138000，退货期30天，负责人李雷。"
    asked = "客户 13800138000 的退货期是多久？"
    found = run([row(1, asked, "13800138000 的退货期是30天。", [doc])], grounded_cap=1)
    text = trained(found)
    assert "13800138000" not in text
    assert "<手机号_1> 的退货期是30天" in text
    assert found.pii["phone"] >= 3
    assert "13800138000" not in str(found.verdicts)


def test_an_answer_of_nothing_but_a_number_is_left_out() -> None:
    one = row(1, "李雷的电话是多少？", "13800138000。", ["李雷：13800138000"], origin="human")
    assert rules(run([one])) == {"r1": "pii_only"}
    assert rules(run([one], pii_keep=("13800138000",))) == {"r1": "keep"}
    assert rules(run([one], pii="off")) == {"r1": "keep"}
    other = replace(one, answer="请拨打 13800138000 找李雷。")
    assert rules(run([other])) == {"r1": "keep"}
    assert rules(run([other], pii="drop")) == {"r1": "pii"}
    assert only_placeholders("<手机号_1>。")
    assert not only_placeholders("。")
