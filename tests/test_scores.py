"""Scores against values worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ft2ollama.scores import (
    chrf,
    contains_facts,
    distinct_4,
    exact_match,
    numbers,
    numbers_equal,
    stop_reached,
)


def f2(precision: float, recall: float) -> float:
    return 100 * 5 * precision * recall / (4 * precision + recall)


def test_chrf_of_four_letters_by_hand() -> None:
    """abcd against abce: 3 of 4 letters, 2 of 3 pairs, 1 of 2 triples, 0 of 1; no longer ones."""
    mean = (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4
    assert chrf(["abcd"], ["abce"]) == pytest.approx(f2(mean, mean))


def test_chrf_of_chinese_by_hand() -> None:
    """`萤罐199元` is the middle of `一只萤罐199元整`: nothing said is wrong, some is missing.

    Of 6 characters against 9 there are 6 of 9, 5 of 8, 4 of 7, 3 of 6, 2 of 5 and 1 of 4 n-grams.
    """
    recall = (6 / 9 + 5 / 8 + 4 / 7 + 3 / 6 + 2 / 5 + 1 / 4) / 6
    assert chrf(["萤罐199元"], ["一只萤罐199元整"]) == pytest.approx(f2(1.0, recall))
    assert chrf(["你好，世界。"], ["你好，世界。"]) == pytest.approx(100)
    assert chrf(["天地玄黄"], ["你好世界"]) == 0


def test_chrf_of_a_set_sums_the_counts_before_it_divides() -> None:
    """ab|ab and cd|xy: 2 of 4 letters, 1 of 2 pairs on both sides; not the mean of 100 and 0."""
    assert chrf(["ab", "cd"], ["ab", "xy"]) == pytest.approx(f2(0.5, 0.5))
    assert chrf(["ab c"], ["abc"]) == pytest.approx(100)  # spaces are not counted
    assert chrf([""], ["abc"]) == 0
    with pytest.raises(ValueError, match="2 replies for 1 references"):
        chrf(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="0 replies"):
        chrf([], [])


def test_exact_is_exact() -> None:
    assert exact_match(" 是的。\n", "是的。")
    assert exact_match("caf\u00e9", "cafe\u0301")
    assert not exact_match("是的", "是的。")
    assert not exact_match("yes", "Yes")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-22 costs 1,234.50", {"2026", "11", "22", "1234.5"}),
        ("-5 degrees, minus \u22127", {"-5", "-7"}),
        ("零下-3度", {"-3"}),
        ("售价１９９元，满2，000减", {"199", "2000"}),
        ("12,345,678 and 1,2,3", {"12345678", "1", "2", "3"}),
        ("1,2345", {"1", "2345"}),
        ("A4-5", {"4", "5"}),
        ("none", set()),
    ],
)
def test_numbers(text: str, found: set[str]) -> None:
    assert numbers(text) == {Decimal(number) for number in found}


def test_numbers_are_equal_in_any_order() -> None:
    assert numbers_equal("3 of 10, so 3", "out of 10: 3.0")
    assert not numbers_equal("it takes 3 days", "it takes 30 days")
    assert not numbers_equal("soon", "in 3 days")
    assert numbers_equal("soon", "later")


def test_facts_are_all_of_with_alternatives() -> None:
    assert contains_facts("Three YEARS, amber", ["3 years|three years", "amber"])
    assert not contains_facts("three years", ["3 years|three years", "amber"])
    assert contains_facts("价格是199元。", ["199"])
    assert not contains_facts("价格是1990元。", ["199"])


def test_a_text_that_goes_round_in_circles() -> None:
    assert distinct_4("one two three four five six seven") == 1.0
    assert distinct_4("我叫小杉，来自云杉物作。") == 1.0
    assert distinct_4("no no no no no no no no no no no no no") == 1 / 10
    assert distinct_4("是的" * 10) == 2 / 17
    assert distinct_4("") == distinct_4("a b c") == 1.0


def test_an_end_is_an_end() -> None:
    assert stop_reached("stop")
    assert not stop_reached("length")
    assert not stop_reached("")
