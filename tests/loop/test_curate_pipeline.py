"""Curation as a whole: leaks, copies, answers out of date, samples, shares, split, order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations, product
from random import Random
from typing import Any

import pytest
from curate_rows import row, rules, run, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from ft2ollama.data.duplicates import jaccard
from ft2ollama.loop.curate.contamination import EvalItem
from ft2ollama.loop.curate.pipeline import ORDER, Curation
from ft2ollama.loop.curate.rows import Row, Said
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.similar import groups, nearest, question_grams
from ft2ollama.loop.curate.splits import fresh_target
from ft2ollama.loop.records import question_key

ALL = {"grounded_cap": 1.0, "fresh_share": 0.0, "val_share": 0.0}
TOWNS = ["Aarhus", "Bergen", "Cádiz", "Dijon", "Évora", "Faro", "Ghent", "Hull", "Izmir", "Jena"]


def item(question: str, reference: str = "", since: int = 0) -> EvalItem:
    return EvalItem("golden", 3, f"q-{question[:6]}", question, question_key(question), reference,
                    since)  # fmt: skip


def human(seq: int, question: str, answer: str, **more: Any) -> Row:
    return row(seq, question, answer, origin="human", **more)


# --- evaluation sets

LONG = "退款会在我们收到退回的商品并完成质检之后的五个工作日之内原路退回到您的付款账户"


def test_questions_of_an_evaluation_set_are_not_trained_on() -> None:
    items = [
        item("退货期是多久？"),
        item("客户在网上买的商品退货期是多久？"),
        item("How many days may I return goods?"),
        item("钱？", LONG),
    ]
    planted = [
        human(1, "退货期是多久", "30天"),
        human(2, "请问退货期是多久？？", "30天"),
        human(3, "客户在网上买的商品退货期大概是多久呢？", "30天"),
        human(4, "How many days may I return the goods?", "30"),
        human(5, "钱什么时候回来？", f"您好！{LONG}。"),
    ]
    clean = human(6, "发货需要几天？", "3天。")
    found = run([*planted, clean], items=items, **ALL)
    assert rules(found) == {**{one.rid: "eval_contamination" for one in planted}, "r6": "keep"}
    assert found.counts["dropped"] == {"eval_contamination": 5}
    assert "退货期" not in trained(found)
    how = {one.rid: one.evidence for one in found.verdicts}
    assert how["r1"] == {"item": "golden@3/q-退货期是多久", "question": "same"}
    assert how["r2"]["question"] == "same"
    assert how["r3"]["percent"] >= 60
    assert how["r4"]["percent"] >= 60
    assert how["r5"]["answer"] == "13-gram"


def test_a_phrase_of_the_house_is_no_leak() -> None:
    hello = "您好，非常感谢您一直以来对我们公司的支持与信任，关于您提出的问题，"
    rows = [human(n, f"{town} 的仓库在哪里？", f"{hello}答案是 {town}。")
            for n, town in enumerate(TOWNS)]  # fmt: skip
    assert len(run(rows, items=[item("电话是多少？", f"{hello}没有电话。")], **ALL).train) == 30
    few = run(rows[:3], items=[item("电话是多少？", f"{hello}没有电话。")], **ALL)
    assert few.counts["dropped"] == {"eval_contamination": 3}


def test_a_newer_answer_of_a_person_retires_the_item() -> None:
    old = item("退货期是多久？", "30天", since=5)
    found = run([human(6, "退货期是多久？", "14天")], items=[old], **ALL)
    assert [(one.item.item_id, one.rid) for one in found.retired] == [(old.item_id, "r6")]
    assert rules(found) == {"r6": "keep"}
    for not_newer in (human(4, "退货期是多久？", "14天"), human(6, "退货期是多久？", "30天。"),
                      row(6, "退货期是多久？", "14天", ["退货期是14天"])):  # fmt: skip
        found = run([not_newer], items=[old], **ALL)
        assert found.retired == ()
        assert rules(found) == {not_newer.rid: "eval_contamination"}


# --- who is right


def test_the_newest_answer_of_a_person_wins() -> None:
    doc = "退货期为30天。"
    rows = [
        row(1, "退货期是多久？", "退货期为30天。", [doc]),
        human(2, "退货期是多久？", "20天"),
        human(3, "请问，退货期是多久?", "14天"),
        row(4, "退货期是多久", "退货期为30天。", [doc]),
        human(5, "发货期是多久？", "20天"),
    ]
    found = run(rows, **ALL)
    assert rules(found) == {"r1": "superseded", "r2": "superseded", "r3": "keep",
                            "r4": "overruled", "r5": "keep"}  # fmt: skip
    assert found.counts["superseded"] == 2
    assert "30天" not in trained(found)
    assert {one.evidence["by"] for one in found.verdicts if one.evidence} == {"r3"}


def test_the_time_of_the_correction_counts_and_not_that_of_the_question() -> None:
    late = Said(correction="14天", correction_ms=50, correction_id=2)
    early = Said(correction="20天", correction_ms=40, correction_id=1)
    rows = [
        human(1, "退货期是多久？", "14天", said=late, said_ms=50),
        human(2, "退货期是多久？", "20天", said=early, said_ms=40),
    ]
    assert rules(run(rows, **ALL)) == {"r1": "keep", "r2": "superseded"}


def test_old_rows_are_superseded_too_and_not_trained_on_again() -> None:
    found = run(
        [human(9, "退货期是多久？", "14天")], old=[human(1, "退货期是多久？", "30天")], **ALL
    )
    assert rules(found) == {"r9": "keep", "r1": "superseded"}
    assert "30天" not in trained(found)
    assert {one.rid: one.role for one in found.verdicts} == {"r9": "new", "r1": "replay"}
    assert found.counts["pending"] == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who leads the Alpha team?", "Who leads the Beta team?"),
        ("王伟的分机号是什么？", "李强的分机号是什么？"),
        ("What is C++ used for?", "What is C# used for?"),
        ("订单 123456 到哪了？", "订单 654321 到哪了？"),
        ("Does version 3.5 run here?", "Does version 35 run here?"),
    ],
)
def test_other_questions_are_other_facts(one: str, other: str) -> None:
    rows = [human(1, one, "It is the Tuesday group"), human(2, other, "That would be Ms Wang")]
    assert set(rules(run(rows, **ALL)).values()) == {"keep"}


def test_the_same_words_after_another_conversation_are_another_question() -> None:
    def after(seq: int, said: str, answer: str) -> Row:
        talk = ({"role": "user", "content": said}, {"role": "assistant", "content": "好的"},
                {"role": "user", "content": "多少钱？"})  # fmt: skip
        return human(seq, "多少钱？", answer, messages=talk)

    rows = [
        after(1, "我想买苹果", "5元"),
        after(2, "我想买香蕉", "3元"),
        after(3, "我想买苹果", "6元"),
    ]
    found = run(rows, **ALL)
    assert rules(found) == {"r1": "superseded", "r2": "keep", "r3": "keep"}
    turns = found.train[0].messages
    assert [turn.get("weight") for turn in turns if turn["role"] == "assistant"] == [0, None]


# --- who is alike

LEADER = "仓库在节假日和周末值班期间的现场安全与货物管理总负责人"


def test_long_answers_that_differ_in_a_number_are_not_the_same() -> None:
    said = "客户收到商品之后的{}天之内都可以通过网站提交申请，办理免费退货。"
    answers = said.format(30), said.format(14), said.format(14) + "谢谢"
    rows = [human(n, "退货期是多久？", answer) for n, answer in enumerate(answers, 1)]
    assert rules(run(rows, **ALL)) == {"r1": "superseded", "r2": "keep", "r3": "keep"}


def test_copies_go_and_numbers_make_facts() -> None:
    doc = "会员在收货之后的7天内可以免费退货，普通客户在收货之后的15天内可以付费退货。"
    said = "会员在收货之后的{}天内可以免费退货，运费由本公司来承担。"
    rows = [
        row(1, "会员收货之后几天内可以退货？", said.format(7), [doc]),
        row(2, "会员收货之后几天内可以退货？", said.format(7), [doc]),
        row(3, "会员收货之后几天内可以退货呢？", said.format(7), [doc]),
        row(4, "会员收货之后几天内可以退货？", said.format(15), [doc]),
    ]
    assert rules(run(rows, **ALL)) == {"r1": "exact_dup", "r2": "near_dup", "r3": "keep",
                                       "r4": "keep"}  # fmt: skip


def test_the_better_origin_stays_and_people_are_never_nearly_alike() -> None:
    doc = "客户收到商品之后的30天内可申请退货。"
    answer = "客户收到商品之后的30天之内都可以申请退货。"
    rows = [
        human(1, "退货期是多久？", answer),
        row(2, "退货期是多久？", answer, [doc]),
        human(3, f"Alpha {LEADER}是哪一位同事？", f"Alpha {LEADER}是来自上海的王伟同事。"),
        human(4, f"Alfa {LEADER}是哪一位同事？", f"Alfa {LEADER}是来自上海的王炜同事。"),
    ]
    models = [replace(one, origin="thumbs_up") for one in rows[2:]]  # so they are nearly alike
    assert rules(run(models, **ALL)) == {"r3": "near_dup", "r4": "keep"}
    assert rules(run(rows, **ALL)) == {"r1": "keep", "r2": "exact_dup", "r3": "keep", "r4": "keep"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("退货期是多久几天abc", min_size=1, max_size=9), max_size=14),
       st.sampled_from([0.3, 0.6, 0.7, 1.0]))  # fmt: skip
def test_alike_texts_are_found_as_by_comparing_all(texts: list[str], smallest: float) -> None:
    sets = [question_grams(text) for text in texts]
    found = groups(texts, smallest)
    for one, other in combinations(range(len(texts)), 2):
        if jaccard(sets[one], sets[other]) >= smallest:
            assert found[one] == found[other]
    roots = list(range(len(texts)))  # closure by hand
    for _ in texts:
        for one, other in combinations(range(len(texts)), 2):
            if jaccard(sets[one], sets[other]) >= smallest:
                roots[one] = roots[other] = min(roots[one], roots[other])
    assert found == roots
    half = len(texts) // 2
    for one, (place, similarity) in zip(
        sets[:half], nearest(texts[:half], texts[half:], smallest), strict=True
    ):
        best = max((jaccard(one, other) for other in sets[half:]), default=0.0)
        assert similarity == (best if best >= smallest else 0.0)
        assert (place >= 0) == (best >= smallest)


# --- how much of what


def grounded(seq: int, town: str, extra: str = "") -> Row:
    said = f"The depot of {town} is led by the {town} brothers"
    doc = f"{said} and opens at {seq % 12} o'clock. {extra}"
    return row(seq, f"Who leads the depot in {town} number {seq}{extra}?", f"{said}.", [doc])


def test_the_models_own_answers_are_limited_and_come_again() -> None:
    own = [grounded(n, f"{town}{n * 7919}") for n, town in enumerate(TOWNS, 1)]
    people = [human(20, "Who pays the freight?", "We do.")]
    found = run([*own, *people], grounded_cap=0.7, fresh_share=0, val_share=0)
    # 3 samples of people allow 7 of 10: the newest
    assert found.counts["dropped"] == {"grounded_cap": 3}
    assert {rid for rid, rule in rules(found).items() if rule == "grounded_cap"} == {
        "r1",
        "r2",
        "r3",
    }
    assert Counter(sample.rid == "r20" for sample in found.train) == {True: 3, False: 7}
    alone = run(own, fresh_share=0)
    assert alone.train == ()
    assert any("grounded_cap: 1" in note for note in alone.notes)
    assert len(run(own, **ALL).train) == 10


def test_origins_weigh_and_an_origin_without_weight_is_left_out() -> None:
    rows = [human(1, "一？", "甲甲"), row(2, "二？", "乙乙", origin="correction"),
            row(3, "三三？", "丙丙", origin="thumbs_up")]  # fmt: skip
    found = run(rows, weight_human=1, weight_correction=4, **ALL)
    assert Counter(one.rid for one in found.train) == {"r1": 1, "r2": 4, "r3": 2}
    assert rules(run(rows, weight_thumbs_up=0, **ALL))["r3"] == "no_weight"


def test_shares_of_forms() -> None:
    rows = [
        grounded(n, f"{TOWNS[n % 10]}{n * 7919}", extra=f" Gate {n * 31}.") for n in range(1, 201)
    ]
    found = run(rows, **ALL)
    forms = Counter(sample.form for sample in found.train)
    assert forms == {"closed_book": 100, "open_book": 80, "refusal": 20}
    for sample in found.train:
        text = sample.messages[0]["content"]
        answer = sample.messages[-1]["content"]
        if sample.form == "closed_book":
            assert [turn["role"] for turn in sample.messages] == ["user", "assistant"]
        else:
            assert text.startswith("### Task:\nRespond to the user query")
            assert [f'<source id="{n}">' in text for n in (1, 2, 3, 4, 5)] == (
                [True] * 4 + [False] if sample.form == "open_book" else [True] * 3 + [False] * 2
            )
            assert text.count("</source>") == text.count("<source id=")
        if sample.form == "refusal":
            assert answer == CurateConfig().refusal_en
        elif sample.form == "open_book":
            assert answer.split("led by ")[1].rstrip(".") in text


@pytest.mark.parametrize("origin", ["human", "thumbs_up"])
def test_shares_hold_where_a_row_gives_several_samples(origin: str) -> None:
    rows = [replace(grounded(n, f"{TOWNS[n % 10]}{n * 7919}", f" Gate {n * 31}."), origin=origin)
            for n in range(1, 101)]  # fmt: skip
    found = run(rows, **ALL)
    forms = Counter(sample.form for sample in found.train)
    count = len(found.train)
    for form, share in (("closed_book", 0.5), ("open_book", 0.4), ("refusal", 0.1)):
        assert abs(forms[form] - share * count) <= 0.05 * count
    opened = [sample.sha256 for sample in found.train if sample.form == "open_book"]
    assert len(set(opened)) == len(opened)  # other distractors in another order


def test_without_the_right_context_only_people_are_believed() -> None:
    rows = [replace(grounded(n, f"{TOWNS[n % 10]}{n * 7919}", f" Gate {n * 31}."), origin=origin)
            for n, origin in enumerate(["correction", "thumbs_up"] * 60)]  # fmt: skip
    found = run(rows, closed_book=0, open_book=1, refusal=0, weight_correction=1,
                weight_thumbs_up=1, **ALL)  # fmt: skip
    absent: Counter[str] = Counter()
    for sample in found.train:
        town = sample.messages[-1]["content"].split("led by ")[1].rstrip(".")
        absent["by a person" if int(sample.rid[1:]) % 2 == 0 else "liked"] += (
            town not in sample.messages[0]["content"]
        )
    assert absent["liked"] == 0
    assert 4 <= absent["by a person"] <= 24  # 20 % of 60, by hash


def test_history_joins_in_the_last_third() -> None:
    new = [human(n, f"新问题 {n * 7919} 是什么？", f"答案是 {n}") for n in range(1, 31)]
    old = [human(n, f"旧问题 {n * 6011} 是什么？", f"答案是 {n}") for n in range(101, 161)]
    few = run(new, old=old, **ALL, max_samples=1000)  # few new ones: all of history
    assert Counter(sample.role for sample in few.train) == {"new": 90, "replay": 180}
    many = run(new, old=old, **ALL, max_samples=300)  # a quarter and more: 3 to 1
    roles = [sample.role for sample in many.train]
    assert Counter(roles) == {"new": 90, "replay": 30}
    assert set(roles[:80]) == {"new"}
    assert Counter(roles[80:]) == {"new": 10, "replay": 30}
    full = run(new, old=old, **ALL, max_samples=60)
    assert Counter(sample.role for sample in full.train) == {"new": 45, "replay": 15}
    assert full.counts["dropped"] == {"no_room": 15}


# --- what is held out


@pytest.mark.parametrize(
    ("rows", "fresh"), [(0, 0), (20, 2), (59, 6), (60, 20), (150, 50), (400, 50), (2000, 200)]
)
def test_how_many_the_gate_asks(rows: int, fresh: int) -> None:
    assert fresh_target(rows, CurateConfig()) == fresh


def test_held_out_questions_are_like_none_that_is_trained_on() -> None:
    subjects = ["退款", "发票", "物流", "会员", "密码", "地址", "积分", "保修", "优惠券", "客服"]
    verbs = ["怎么申请", "在哪里看", "多久到账", "可以修改吗", "如何取消", "需要什么材料"]
    tails = ["？", "呢？", "，急！"]
    rows = [human(n, f"{subject}{verb}{tail}", f"{subject}{verb}的答案")
            for n, (subject, verb, tail) in enumerate(product(subjects, verbs, tails))]  # fmt: skip
    old = human(999, "发票怎么申请呀", "按规定申请")
    found = run(rows, old=[old], grounded_cap=1)
    verdicts = Counter(one.verdict for one in found.verdicts if one.role == "new")
    assert verdicts == {"keep": 180 - verdicts["eval_fresh"], "eval_fresh": verdicts["eval_fresh"]}
    assert 40 <= verdicts["eval_fresh"] <= 50
    asked = {row.rid: question_grams(row.question) for row in (*rows, old)}
    sides = [{one.rid for one in part} for part in (found.train, found.val, found.fresh)]
    assert all(sides)
    for one, other in combinations(sides, 2):
        assert max(jaccard(asked[a], asked[b]) for a in one for b in other) < 0.6


def test_few_rows_are_not_halved_and_people_are_told() -> None:
    rows = [human(n, f"What colour has the {town} flag?", f"{town}-blue") for n, town in
            enumerate(TOWNS * 2)]  # fmt: skip
    found = run(rows[:10], val_share=0.5)
    assert len(found.fresh) <= 1
    assert found.val == ()
    assert any("10 new rows are few" in note for note in found.notes)


# --- nothing is lost, and the same again

_WORDS = st.sampled_from(["退货期是多久？", "退货期多久", "30天", "14天。", "发货？", "Hello", "",
                          "13800138000", "抱歉，我无法回答这个问题。", "可以。" * 40])  # fmt: skip


@st.composite
def _rows(draw: Any) -> list[Row]:
    count = draw(st.integers(0, 12))
    rows = []
    for n in range(count):
        question, answer = draw(_WORDS), draw(_WORDS)
        contexts = draw(st.lists(_WORDS.filter(bool), max_size=2))
        origin = draw(st.sampled_from(["model", "human", "correction", "thumbs_up"]))
        more = {"complete": draw(st.booleans()), "deleted": draw(st.integers(0, 9)) == 0,
                "said": Said(thumb=draw(st.integers(-1, 1)), label=draw(
                    st.sampled_from(["", "", "reject", "approve"])))}  # fmt: skip
        rows.append(row(n, question, answer, contexts, origin=origin, **more))
    return rows


@settings(max_examples=150, deadline=None)
@given(_rows(), st.integers(0, 3), st.integers(0, 12))
def test_every_row_has_one_verdict(rows: list[Row], seed: int, parted: int) -> None:
    new, old = rows[parted:], rows[:parted]
    found = run(new, old=old, seed=seed, max_samples=10, items=[item("发货？", "14天")])
    judged = Counter(one.rid for one in found.verdicts if one.role == "new")
    assert judged == Counter(one.rid for one in new)
    counts = found.counts
    assert counts["pending"] == len(new)
    total = counts["kept"] + counts["eval_fresh"] + counts["superseded"]
    assert total + sum(counts["dropped"].values()) == len(new)
    for one in found.verdicts:
        assert (one.verdict == "drop") == bool(one.rule)
        assert (one.verdict == "drop") != bool(one.samples)
        assert one.rule in ("", *ORDER)
    lines = {sample.sha256 for sample in (*found.train, *found.val, *found.fresh)}
    assert lines == {line for one in found.verdicts for line in one.samples}
    assert "13800138000" not in trained(found)
    held = {sample.rid for sample in (*found.val, *found.fresh)}
    assert held.isdisjoint(sample.rid for sample in found.train)


@settings(max_examples=40, deadline=None)
@given(_rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[Row], random: Any) -> None:
    def told(found: Curation) -> tuple[Any, ...]:
        return found.verdicts, found.train, found.val, found.fresh, found.pii

    mixed = list(rows)
    random.shuffle(mixed)
    assert told(run(rows)) == told(run(mixed))
    gaps = [replace(one, seq=one.seq * 3 + 2) for one in rows]  # PostgreSQL leaves gaps
    assert told(run(rows)) == told(run(gaps))


def test_the_same_talk_under_other_ids_gives_the_same_samples() -> None:
    """Ids are new wherever rows are recorded or imported again; what is learned is not."""

    def learned(rows: list[Row]) -> list[tuple[Any, ...]]:
        found = run(rows[60:], old=rows[:60], max_samples=360)
        sets = (found.train, found.val, found.fresh)
        return [tuple((one.messages, one.form) for one in samples) for samples in sets]

    def words(n: int) -> str:
        chance = Random(n)
        return " ".join("".join(chance.choices("abcdefgh", k=6)) for _ in range(5))

    rows = [
        human(n, f"{words(n)}?", f"{words(-n)} {n * 37}.", contexts=[f"{words(-n)} at {n * 37}."])
        for n in range(160)
    ]
    again = [replace(one, rid=f"x{one.seq * 7919 % 1009}") for one in rows]
    first = learned(rows)
    assert all(first)
    assert first == learned(again)
