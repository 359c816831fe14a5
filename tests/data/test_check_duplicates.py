"""Near-duplicates against all pairs compared one by one, and what must never count as one."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from ft2ollama.data.conversation import Conversation, Message
from ft2ollama.data.duplicates import (
    NEAR,
    Sides,
    exact_pairs,
    facts,
    grams,
    jaccard,
    near_pairs,
    normal,
    same_question,
    sides,
)

LETTERS = {
    "en": "etaoin shrdlu cmfwyp",
    "zh": "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也"
    "能下过子说产种面而方后多定行学法所民得经",
}


def talk(question: str, answer: str, system: str = "") -> Conversation:
    messages: list[Message] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return Conversation(tuple(messages), "x:1")


def rows_with_copies(language: str, seed: int) -> list[Sides]:
    """200 random rows and 200 of them again with some letters exchanged."""
    rng = random.Random(seed)
    letters = LETTERS[language]

    def text(size: int) -> str:
        return "".join(rng.choices(letters, k=size)).strip()

    def edited(text: str) -> str:
        share = rng.choice([0.01, 0.03, 0.06])
        return "".join(rng.choice(letters) if rng.random() < share else char for char in text)

    rows = [(text(rng.randint(20, 60)), text(rng.randint(40, 300))) for _ in range(200)]
    rows += [(edited(question), edited(answer)) for question, answer in rows]
    return [Sides(normal(question), normal(answer)) for question, answer in rows]


def by_hand(rows: Sequence[Sides]) -> set[int]:
    """Rows that repeat any earlier one, by comparing every pair."""
    sets = [(grams(row.whole), grams(row.question), grams(row.answer)) for row in rows]
    told = [(facts(row.question), facts(row.answer)) for row in rows]
    return {
        second
        for second in range(len(rows))
        if any(
            told[first] == told[second] and min(map(jaccard, sets[first], sets[second])) >= NEAR
            for first in range(second)
        )
    }


@pytest.mark.parametrize("language", LETTERS)
def test_finds_what_comparing_every_pair_finds(language: str) -> None:
    wanted, found = 0, 0
    for seed in range(3):
        rows = rows_with_copies(language, seed)
        truth = by_hand(rows)
        pairs = near_pairs(len(rows), rows.__getitem__)
        seconds = {pair.second for pair in pairs}
        assert seconds <= truth, "a pair that is none"
        assert len(seconds) == len(pairs)
        wanted, found = wanted + len(truth), found + len(seconds)
    assert wanted > 150
    assert found >= 0.99 * wanted


def test_similarity_is_that_of_the_texts() -> None:
    rows = [
        Sides("how do i clean it", "wipe it with a soft cloth and dry it well"),
        Sides("how do i clean it", "wipe it with a soft cloth and dry it wall"),
    ]
    (pair,) = near_pairs(2, rows.__getitem__)
    assert pair.similarity == jaccard(grams(rows[0].whole), grams(rows[1].whole))
    assert 80 <= pair.percent < 100


SAME = "请在收到商品后妥善保管包装和发票，需要时联系客服办理，我们会尽快处理您的申请。"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("退货期多久？", "7天内可以退货。" + SAME), ("退货期多久？", "15天内可以退货。" + SAME)),
        (("退货期多久？", "七天内可退货。" + SAME), ("退货期多久？", "十五天内可退货。" + SAME)),
        (("可以退货吗？", "可以退货。" + SAME), ("可以退货吗？", "不可以退货。" + SAME)),
        (("Where is order 123456?", "Order 123456 left our house today, by the usual carrier."),
         ("Where is order 654321?", "Order 654321 left our house today, by the usual carrier.")),
        (("Is it safe?", "It is safe for children to use at home and in the garden."),
         ("Is it safe?", "It is not safe for children to use at home and in the garden.")),
        (("Meeting?", "The meeting is on 2026-11-22 in the large room on the first floor."),
         ("Meeting?", "The meeting is on 2026-11-23 in the large room on the first floor.")),
    ],
)  # fmt: skip
def test_texts_with_other_facts_are_no_duplicates(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    rows = [sides(talk(*one)), sides(talk(*other))]
    assert jaccard(grams(rows[0].whole), grams(rows[1].whole)) >= NEAR, "would be one without guard"
    assert near_pairs(2, rows.__getitem__) == []


def test_paraphrases_of_a_question_with_one_answer_are_no_duplicates() -> None:
    answer = "我是小杉，由云杉物作开发的智能助手，随时为您解答关于萤罐的问题。"
    questions = ("你是谁？", "请问你叫什么名字？", "介绍一下你自己吧。")
    rows = [sides(talk(question, answer)) for question in questions]
    assert near_pairs(3, rows.__getitem__) == []


def test_another_system_prompt_is_another_row() -> None:
    rows = [sides(talk("Who are you?", "A helper.", one)) for one in ("Be kind.", "Be brief.")]
    assert near_pairs(2, rows.__getitem__) == []


def test_only_pairs_across_when_left_is_given() -> None:
    row = Sides("how do i clean it", "wipe it with a soft cloth and dry it well")
    assert [(p.first, p.second) for p in near_pairs(4, lambda _: row, left=3)] == [(0, 3)]
    assert len(near_pairs(4, lambda _: row)) == 3


def test_a_crowd_of_one_answer_hides_no_copy() -> None:
    """500 rows share an answer; each of 50 has a twin with one letter more in its question."""
    rng = random.Random(5)
    letters = [chr(code) for code in range(0x4E00, 0x5A00)]
    answer = "".join(rng.choices(letters, k=80))
    rows = [Sides("".join(rng.choices(letters, k=14)), answer) for _ in range(500)]
    rows += [Sides(row.question + "吗", answer) for row in rows[:50]]
    found = {pair.second: pair.first for pair in near_pairs(len(rows), rows.__getitem__)}
    assert sum(found.get(500 + n) == n for n in range(50)) >= 48
    assert all(second >= 500 for second in found)


def test_short_and_empty_texts() -> None:
    rows = [Sides("", ""), Sides("a", "b"), Sides("a", "b"), Sides("好", "是")]
    assert [(p.first, p.second) for p in near_pairs(4, rows.__getitem__)] == [(1, 2)]
    assert near_pairs(0, rows.__getitem__) == []
    assert near_pairs(1, rows.__getitem__) == []


def test_exact_copies_and_what_a_reader_does_not_see() -> None:
    assert [(p.first, p.second) for p in exact_pairs(["a", "b", "a", "a"])] == [(0, 2), (0, 3)]
    assert normal("  ＡＢＣ　１２３？ ") == "abc 123?".rstrip("?") == "abc 123"
    assert normal("你好。") == normal("你好")
    assert normal("1+1") != normal("1-1")


def test_same_question_counts_the_history() -> None:
    first = talk("Why?", "Because.")
    longer = Conversation((*talk("Hello.", "Hi.").messages, *first.messages), "x:2")
    short, long = same_question(first, sides(first)), same_question(longer, sides(longer))
    assert short[0] != long[0]
    assert short[1] == long[1]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("within 7 days", ("7",)),
        ("on 2026-11-22 at 10:30", ("10:30", "2026-11-22")),
        ("order a12b and qwen2.5", ("a12b", "qwen2.5")),
        ("do not, don't, never", ("n't", "never", "not")),
        ("notes and another", ()),
        ("三十天内不可退", ("三十", "不")),
    ],
)
def test_facts(text: str, wanted: tuple[str, ...]) -> None:
    assert facts(text) == wanted
