"""Rows of the training data that repeat or contradict each other, as problems.

In: conversations of all sets together.  Out: a problem at each later row, naming the earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.duplicates import Sides, exact_pairs, near_pairs, numbers, same_question, sides
from ft2ollama.data.problems import Problem

_SHOWN = 40  # characters of an answer


def repeats(rows: Sequence[Conversation]) -> list[Problem]:
    """Copies, near copies, and questions that are answered in two ways.

    A repetition that the data marks as meant is none of them.
    """
    rows = [row for row in rows if not row.copy]
    said = [sides(row) for row in rows]
    copies = {pair.second: pair.first for pair in exact_pairs(both.key for both in said)}
    found = [_warning("duplicate", rows[row], rows[first]) for row, first in copies.items()]
    distinct = [row for row in range(len(rows)) if row not in copies]
    near = near_pairs(len(distinct), lambda row: said[distinct[row]])
    known = set()
    for pair in near:
        first, second = distinct[pair.first], distinct[pair.second]
        known.add(second)
        found.append(_warning("near-duplicate", rows[second], rows[first], percent=pair.percent))
    found += _contradictions(rows, said, [row for row in distinct if row not in known])
    return found


def _contradictions(
    rows: Sequence[Conversation], said: Sequence[Sides], chosen: Sequence[int]
) -> list[Problem]:
    """Same question and history, another last answer; numbers that differ are named."""
    first: dict[str, int] = {}
    found = []
    for row in chosen:
        question, answer = same_question(rows[row], said[row])
        before = first.setdefault(question, row)
        if before == row:
            continue
        other = same_question(rows[before], said[before])[1]
        here, there = numbers(answer), numbers(other)
        only_here, only_there = here - there, there - here
        if only_here and only_there:
            values = {"here": _listed(only_here), "there": _listed(only_there)}
            found.append(_warning("facts-differ", rows[row], rows[before], **values))
        elif answer != other:
            values = {"here": _cut(answer), "there": _cut(other)}
            found.append(_warning("answer-differs", rows[row], rows[before], **values))
    return found


def _warning(code: str, row: Conversation, first: Conversation, **values: object) -> Problem:
    return Problem(code, row.place, "", {"first": first.place, **values}, "warning")


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words))[:_SHOWN]


def _cut(text: str) -> str:
    line = text.replace("\n", " ")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
