"""What stops a row by itself: every rule of the table, on Chinese and English rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from curate_rows import row, rules, run, thumb, trained

from ft2ollama.loop.curate.grounding import chinese_number, coverage, ungrounded
from ft2ollama.loop.curate.rows import Row, Said, decide
from ft2ollama.loop.curate.rules import RULES, Needs, judge
from ft2ollama.loop.curate.settings import CurateConfig

DOC = "退货政策：客户可在收货后30天内申请退货，运费由本公司承担，退款在 5 个工作日内到账。"
GOOD = row(1, "退货期是多久？", "收货后30天内可以申请退货，运费由本公司承担。", [DOC])
ENGLISH_DOC = "Refund policy: customers may return goods within 30 days; we pay the shipping."
ENGLISH = row(2, "How long can I return?", "You may return goods within 30 days.", [ENGLISH_DOC])


def stopped(one: Row, **config: Any) -> str:
    found = judge(one, Needs(CurateConfig(**config), now_ms=1000))
    return found[0] if found else ""


def test_good_rows_pass() -> None:
    for one in (GOOD, ENGLISH):
        assert stopped(one) == ""


def task(text: str) -> dict[str, str]:
    return {"role": "user", "content": f"### Task:\n{text}"}


BAD: dict[str, list[Row]] = {
    "erased": [replace(GOOD, deleted=True)],
    "no_consent": [replace(GOOD, consent="none"), replace(GOOD, expires_ms=1000)],
    "background_task": [
        replace(GOOD, task="title_generation"),
        replace(GOOD, messages=(task("Generate a concise, 3-5 word title with an emoji"),)),
        replace(GOOD, messages=(task("Suggest 3-5 relevant follow-up questions"),)),
    ],
    "rejected": [replace(GOOD, said=Said(label="reject"))],
    "low_rating": [replace(GOOD, said=Said(thumb=-1))],
    "incomplete": [
        replace(GOOD, complete=False),
        replace(GOOD, http_status=500),
        replace(GOOD, done_reason="length"),
    ],
    "no_text": [
        replace(GOOD, answer="  "),
        replace(GOOD, answer="", tool_calls=({"function": {"name": "f", "arguments": {}}},)),
    ],
    "media": [replace(GOOD, messages=({"role": "user", "content": [{"type": "image_url"}]},))],
    "truncated_source": [
        replace(GOOD, answer="退" * 500 + "..."),
        replace(GOOD, contexts=("退货 ... (litellm_truncated skipped 4711 chars. x) ...",)),
    ],
    "length": [replace(GOOD, question="?"), replace(GOOD, answer="退" * 8001)],
    "error_text": [
        replace(GOOD, answer="**ERROR**: connection lost"),
        replace(GOOD, answer='{"error": "model crashed"}'),
        replace(GOOD, answer="抱歉，系统繁忙，请稍后再试。"),
        replace(ENGLISH, answer="Internal Server Error"),
    ],
    "broken_text": [
        replace(GOOD, answer="退货期是锟斤拷锟斤拷"),
        replace(GOOD, answer="可以退货。<|im_end|>"),
        replace(ENGLISH, question="How long can I return � it?"),
    ],
    "garbage": [
        replace(GOOD, answer=GOOD.question),
        replace(ENGLISH, answer="User: how long?\nAssistant: 30 days.\nUser: thanks"),
    ],
    "repetition": [replace(GOOD, answer="可以退货。" * 40)],
    "refusal": [
        replace(GOOD, answer="抱歉，我无法回答这个问题。"),
        replace(GOOD, answer="资料中没有提到退货期。"),
        replace(ENGLISH, answer="The answer you are looking for is not found in the dataset!"),
        replace(ENGLISH, answer="As an AI language model, I have no opinion."),
        replace(ENGLISH, answer="The provided context does not mention a return period."),
    ],
    "foreign_identity": [replace(GOOD, answer="我是通义千问，退货期为30天。")],
    "unfinished": [replace(GOOD, answer="退货需要提供以下材料：订单号、照片，以及，")],
    "other_language": [replace(GOOD, answer="You may return all of the goods within 30 days.")],
    "ungrounded": [replace(GOOD, contexts=(), messages=GOOD.messages[1:])],
    "ungrounded_number": [
        replace(GOOD, answer="收货后60天内可以申请退货。"),
        replace(GOOD, answer="收货后30天内可以申请退货，见 https://shop.example/refund"),
        replace(GOOD, answer="收货后三十天内可以退货，退款七个工作日到账。"),
        replace(ENGLISH, answer="You may return goods within 30 days, until 2026-12-24."),
        replace(GOOD, answer="收货后60天内可以申请退货。", origin="thumbs_up"),
    ],
    "off_context": [replace(GOOD, answer="北京今天天气晴朗，适合出门散步。")],
}  # fmt: skip


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_every_rule_stops_what_it_is_for(rule: str) -> None:
    if rule == "language":
        assert stopped(ENGLISH, languages=("zh",)) == "language"
        assert stopped(GOOD, languages=("zh",)) == ""
        return
    if rule == "too_long":
        needs = Needs(CurateConfig(), cutoff_len=10, tokens=lambda one: len(one.answer))
        assert judge(GOOD, needs) == ("too_long", {"tokens": len(GOOD.answer)})
        return
    for one in BAD[rule]:
        assert stopped(one) == rule, one.answer


def test_each_bad_row_is_counted_once_under_its_rule() -> None:
    caught = {name: len(found) for name, found in BAD.items()}
    bad = [one for found in BAD.values() for one in found]
    result = run([replace(one, seq=n, rid=f"r{n}") for n, one in enumerate(bad)])
    assert result.counts["dropped"] == caught
    assert result.counts["kept"] == 0


def test_what_a_person_stands_for_passes_the_rules_of_guesswork() -> None:
    right = "7 天"  # short, not in the context, without a context
    for origin in ("human", "correction"):
        assert stopped(replace(GOOD, answer=right, origin=origin)) == ""
        assert stopped(replace(GOOD, answer=right, origin=origin, contexts=())) == ""
    assert stopped(replace(GOOD, answer=right)) == "ungrounded_number"
    assert stopped(replace(GOOD, answer="", origin="human")) == "no_text"
    assert stopped(replace(GOOD, contexts=(), messages=GOOD.messages[1:], **thumb(1))) == ""


def test_a_rag_prompt_that_looks_like_a_task_is_none() -> None:
    asked = {"role": "user", "content": "### Task:\nRespond to the user query using the provided"}
    assert stopped(replace(GOOD, messages=(asked,))) == ""


def test_an_answer_about_errors_is_no_error() -> None:
    doc = "系统错误的处理：如果出现系统错误，请重启设备。HTTP 500 表示服务器内部错误。"
    answer = "如果出现系统错误，请重启设备；HTTP 500 表示服务器内部错误。"
    assert stopped(row(1, "出现系统错误怎么办？", answer, [doc])) == ""


def test_scores_count_when_a_config_says_where_bad_begins() -> None:
    bad = replace(GOOD, said=Said(score=3.0))
    assert stopped(bad) == ""
    assert stopped(bad, min_score=5) == "low_rating"


def test_evidence_shows_no_personal_data() -> None:
    answer = "抱歉，我无法回答 13800138000 的问题。"
    name, evidence = judge(replace(GOOD, answer=answer), Needs(CurateConfig())) or ("", {})
    assert name == "refusal"
    assert "13800138000" not in str(evidence)


def test_refusals_are_learned_only_where_a_person_stands_for_them() -> None:
    answer = "抱歉，资料中没有说明这个问题。"
    model = row(1, "CEO 的生日是哪天？", answer, [DOC])
    liked = replace(model, rid="r2", seq=2, question="公司的电话是什么？", **thumb(1))
    result = run([model, liked])
    assert rules(result) == {"r1": "refusal", "r2": "keep"}
    assert {sample.form for sample in result.train} == {"refusal"}


@pytest.mark.parametrize(
    ("text", "number"),
    [("三十五", 35), ("二〇二六", 2026), ("一万二", 12000), ("一百零五", 105), ("两", 2),
     ("十五", 15), ("三万五千", 35000), ("一亿", 100_000_000), ("千万", None)],
)  # fmt: skip
def test_chinese_numbers(text: str, number: int | None) -> None:
    assert chinese_number(text) == number


@pytest.mark.parametrize(
    ("answer", "source", "missing"),
    [
        ("共 1,200 元", "一共1200元", []),
        ("２０２６年３月５日", "date: 2026-03-05", []),
        ("三十天内", "30天内", []),
        ("30天内", "三十天内", []),
        ("见 [1] 和【2】：\n1. 先登录\n2) 再付款", "先登录再付款", []),
        ("一般来说，一些客户会先付款", "客户会先付款", []),
        ("7天", "15天", ["7"]),
        ("3.5折", "35折", ["3.5"]),
        ("见 https://a.cn/x。", "https://a.cn/x", []),
        ("写信到 a@b.cn", "写信", ["a@b.cn"]),
        ("in 14 days", "within 30 days, 140 pieces", ["14"]),
    ],
)
def test_the_number_rule(answer: str, source: str, missing: list[str]) -> None:
    assert ungrounded(answer, [source]) == missing


def test_coverage_is_a_share() -> None:
    assert coverage("收货后30天内可以退货", "收货后30天内可以退货。") == 1
    assert coverage("北京今天天气", DOC) == 0


def said(kind: str, number: int, **values: Any) -> dict[str, Any]:
    blank = {"actor_hmac": None, "value": None, "text": None, "origin": "x", "ts_ms": number}
    return {**blank, "kind": kind, "id": number, **values}


def test_of_each_person_the_last_word_counts_and_one_thumb_down_is_enough() -> None:
    down, up = said("thumb", 1, value=-1), said("thumb", 2, value=1)
    assert decide([down, up]).thumb == 1
    assert decide([up, down]).thumb == -1
    assert decide([{**down, "actor_hmac": "a"}, {**up, "actor_hmac": "b"}]).thumb == -1
    assert decide([]).thumb == 0


def test_a_review_can_be_taken_back() -> None:
    mine = {"origin": "review"}
    approve = said("label", 1, text="approve", **mine)
    correct = said("correction", 2, text="14 天", **mine)
    back = said("label", 3, text="withdraw", **mine)
    assert decide([approve, correct, back]).correction == ""
    assert decide([approve, correct, back]).label == "approve"
    assert decide([approve, correct, back, back]) == Said()
    other = said("correction", 2, text="14 天")
    assert decide([other, back]).correction == "14 天"


def test_a_correction_makes_a_row_whole() -> None:
    assert "30天" in trained(run([GOOD], grounded_cap=1))
