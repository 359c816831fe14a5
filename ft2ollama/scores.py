"""Scores of a reply, as pure functions: texts in, a number or a verdict out.

chrF is sacrebleu's: F-score of character 1- to 6-grams. It needs no words and serves Chinese as
well as English (a ROUGE that drops all but a-z gives 0 for two equal Chinese texts). The other
scores are strict on purpose: a fact, a number or an ending is there or it is not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

# 1,234.5 and 12,345,678 with their separators, else digits with at most one point. A minus sign
# counts where no letter or digit stands before it: there is no negative number in 2026-11-22.
_NUMBER = re.compile(r"(?:(?<![0-9A-Za-z.)-])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")


def exact_match(reply: str, reference: str) -> bool:
    """Are the texts equal, outer white space and the way accents are encoded aside?"""
    return _plain(reply) == _plain(reference)


def chrf(replies: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 of the whole set, 0 to 100 (Popović 2015; sacrebleu's `nc:6|nw:0|space:no`).

    Raises ValueError when the two are empty or of different lengths.
    """
    if not replies or len(replies) != len(references):
        raise ValueError(f"{len(replies)} replies for {len(references)} references")
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(replies), [list(references)]).score)


def numbers(text: str) -> frozenset[Decimal]:
    """The numbers in a text: 1,000 is 1000, 3.50 is 3.5, and full-width digits are digits."""
    plain = unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-")
    found = _NUMBER.findall(plain)
    return frozenset(Decimal(number.replace(",", "")) for number in found)


def numbers_equal(reply: str, reference: str) -> bool:
    """Do the two texts hold the same numbers, in any order and however often?"""
    return numbers(reply) == numbers(reference)


def contains_facts(text: str, expect: Sequence[str]) -> bool:
    """Does `text` hold every expected string, case ignored (`a|b`: one of them)?

    A number has to stand alone: 4 is not in "3.477" nor in "40".
    """
    low = text.lower()
    return all(any(_holds(low, word.lower()) for word in item.split("|")) for item in expect)


def distinct_4(text: str) -> float:
    """Share of distinct 4-grams: 1.0 for ordinary text, below 0.3 where it goes round in circles.

    Of words, or of characters where words are not spaced. A text too short for a 4-gram has 1.0.
    """
    words = text.split()
    items = words if len(words) > len(text) / 12 else list(text)
    grams = [tuple(items[i : i + 4]) for i in range(len(items) - 3)]
    return len(set(grams)) / len(grams) if grams else 1.0


def stop_reached(done_reason: str) -> bool:
    """Did the model end its answer itself? done_reason: Ollama's; `length` is a cut."""
    return done_reason == "stop"


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _holds(text: str, word: str) -> bool:
    before = r"(?<!\d)(?<!\d[.,])" if word[:1].isdigit() else ""
    after = r"(?!\d|,\d{3})" if word[-1:].isdigit() else ""
    return re.search(before + re.escape(word) + after, text) is not None
