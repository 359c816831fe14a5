"""Rows that say again what another row says, and rows whose answer is out of date.

In: rows that passed the rules.  Out: for each row that has to go the rule, and the row that stays.

Order matters: first who is right, then who is alike. An answer that a person wrote or corrected
retires every other answer to the same question that says something else: older ones as superseded,
a model's newer ones as overruled. The same question is the same text but for case, width, spaces,
a greeting and its end, after the same conversation; a similarity would take "who leads Alpha?"
for "who leads Beta?". Then copies go; of near copies only a model's, because two sentences of
people that differ in one name are two facts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from ft2ollama.data.duplicates import Sides, facts, grams, jaccard, near_pairs, normal
from ft2ollama.loop.curate.rows import Row
from ft2ollama.loop.curate.rules import text_in

_WORDS = re.compile(r"[^\W\u3400-\u9fff]+|[\u3400-\u9fff]")  # a Chinese character is a word
_ALIKE = 0.7  # answers this similar, with equal numbers and negations, say the same
_POLITE = re.compile(r"^(?:(?:请问|麻烦问一?下|你好|您好|hello|hi|please)[\s,，!！。.、:：]*)+")
_ENDS = ".?!。？！…~～ "
RANKS = {"human": 0, "correction": 0, "thumbs_up": 1, "model": 2, "grounded_model": 2}


@dataclass(frozen=True)
class Gone:
    """A row that has to go. rule: superseded | overruled | exact_dup | near_dup.  kept: a rid."""

    rid: str
    rule: str
    kept: str
    evidence: Mapping[str, Any]


def same_question_key(row: Row) -> str:
    """Equal for rows that ask the same thing after the same conversation."""
    history = [f"{m.get('role')}: {normal(text_in(m))}" for m in row.history]
    return "\n".join([*history, asked(row.question)])


def asked(question: str) -> str:
    """A question without case, width, spaces, a greeting and the punctuation at its end."""
    text = unicodedata.normalize("NFKC", question).casefold().strip(_ENDS)
    return "".join(_POLITE.sub("", text).split()) or text


def agrees(one: str, other: str) -> bool:
    """Do two answers to one question say the same? Their numbers, dates and negations are equal."""
    mine, theirs = normal(one), normal(other)
    if mine == theirs:
        return True
    if facts(mine) != facts(theirs):
        return False
    return jaccard(grams(mine), grams(theirs)) >= _ALIKE


def retired(rows: Iterable[Row], known: Mapping[str, str]) -> list[Gone]:
    """Rows whose answer a person's answer to the same question has overtaken.

    known: old rid -> new rid, as somebody decided before; the older row goes in any case.
    """
    gone = []
    by_question: dict[str, list[Row]] = {}
    for row in rows:
        if row.rid in known:
            evidence = {"by": known[row.rid], "decided": "before"}
            gone.append(Gone(row.rid, "superseded", known[row.rid], evidence))
        else:
            by_question.setdefault(same_question_key(row), []).append(row)
    for group in by_question.values():
        persons = [row for row in group if row.by_person]
        if not persons or len(group) == 1:
            continue
        right = max(persons, key=lambda row: row.age)
        gone += [_overtaken(row, right) for row in group
                 if row is not right and _otherwise(row, right)]  # fmt: skip
    return gone


def corrected_since(rows: Iterable[Row]) -> list[Gone]:
    """Rows that say word for word what a person later corrected where something else was asked.

    A model that learned "a ticket costs 14" says it to whoever asks in other words, and is
    corrected there. It also says it where a child's ticket was meant: a suspicion, no more.
    """
    newest: dict[str, Row] = {}
    rows = list(rows)
    for row in rows:
        if row.instead_of and normal(row.instead_of) != normal(row.answer):
            key = normal(row.instead_of)
            newest[key] = max(newest.get(key, row), row, key=lambda one: one.age)
    return [
        Gone(row.rid, "corrected_since", right.rid, {"by": right.rid})
        for row in rows
        if (right := newest.get(normal(row.answer))) and row.age < right.age
    ]


def _otherwise(row: Row, right: Row) -> bool:
    """Persons' answers that are alike are two where a word took another's place: "Pier Nine" is not
    "Pier Four", but "Pier Nine, thanks" is "Pier Nine".
    """
    if not agrees(row.answer, right.answer):
        return True
    return row.by_person and _replaced(normal(row.answer), normal(right.answer))


def _replaced(one: str, other: str) -> bool:
    steps = SequenceMatcher(None, _WORDS.findall(one), _WORDS.findall(other), autojunk=False)
    return any(kind == "replace" for kind, *_ in steps.get_opcodes())


def _overtaken(row: Row, right: Row) -> Gone:
    rule = "superseded" if row.age < right.age else "overruled"
    return Gone(row.rid, rule, right.rid, {"by": right.rid})


def repeated(rows: Sequence[Row]) -> list[Gone]:
    """Copies, and a model's near copies; the row of the best origin stays, of these the newest."""
    ordered = sorted(rows, key=lambda row: (RANKS[row.origin], *(-part for part in row.age)))
    gone: dict[str, Gone] = {}
    first: dict[str, Row] = {}
    for row in ordered:
        both = said(row)
        kept = first.setdefault(both.key, row)
        if kept is not row:
            gone[row.rid] = Gone(row.rid, "exact_dup", kept.rid, {"copy_of": kept.rid})
    left = [row for row in ordered if row.rid not in gone]
    sides = [said(row) for row in left]
    for pair in near_pairs(len(left), sides.__getitem__):
        kept, row = left[pair.first], left[pair.second]
        if not row.by_person:
            evidence = {"like": kept.rid, "percent": pair.percent}
            gone[row.rid] = Gone(row.rid, "near_dup", kept.rid, evidence)
    return sorted(gone.values(), key=lambda one: one.rid)


def said(row: Row) -> Sides:
    """What is compared: the question with the conversation before it, and the answer."""
    history = "\n".join(f"{m.get('role')}: {text_in(m)}" for m in row.history)
    return Sides(normal(row.question), normal(row.answer), normal(history))
