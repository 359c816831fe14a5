"""Rows that an evaluation set knows: what is asked there is not trained on.

In: rows and the items of the evaluation sets.  Out: for each row that leaks the item and how; and
the items whose reference a newer answer of a person has overtaken, which leave their set.

A question leaks when it is the same or its character 3-grams reach a similarity of 0.6; an answer
when 13 words or Chinese characters in a row stand in an item's reference, as in GPT-3's paper
(Brown et al. 2020, appendix C). A phrase that many answers share ("thank you for your question,
...") is no leak of any of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ft2ollama.loop.curate.copies import Gone, agrees, asked
from ft2ollama.loop.curate.rows import Row
from ft2ollama.loop.curate.rules import text_in
from ft2ollama.loop.curate.similar import nearest

_GRAM = 13
_COPY = 0.8  # similarity of general questions; two of one form, such as two capitals, have 0.7
_PHRASE = 8  # questions whose answers share a 13-gram, from which it is a phrase of the house
_WORD = re.compile("[a-z0-9]+|[\u3400-\u9fff]|[\u3040-\u30ff\uac00-\ud7af]")


@dataclass(frozen=True)
class EvalItem:
    """One question of an evaluation set. since_ms: when its reference first stood in the set.

    rid: the exchange that an earlier cycle held out. Such a one leaks by its question alone, as it
    did when it was held out: the same fact asked in other words was trained on, and stays so.
    """

    set_name: str
    version: int
    item_id: str
    question: str
    question_sha256: str
    reference: str = ""
    since_ms: int = 0
    rid: str = ""

    @property
    def name(self) -> str:
        """Set, version and item in one word."""
        return f"{self.set_name}@{self.version}/{self.item_id}"


@dataclass(frozen=True)
class Retired:
    """An item whose reference is out of date, and the row that says so."""

    item: EvalItem
    rid: str


def retired_items(items: Iterable[EvalItem], rows: Iterable[Row]) -> list[Retired]:
    """Items that a person's newer answer to the same question contradicts."""
    newest: dict[str, Row] = {}
    for row in rows:
        if row.by_person and not row.history:
            key = asked(row.question)
            newest[key] = max((newest.get(key, row), row), key=lambda one: one.age)
    found = []
    for item in items:
        right = newest.get(asked(item.question))
        if right is None or not item.reference or right.said_ms <= item.since_ms:
            continue
        if not agrees(item.reference, right.answer):
            found.append(Retired(item, right.rid))
    return found


def leaks(rows: Sequence[Row], items: Sequence[EvalItem], smallest: float) -> list[Gone]:
    """Rows that must not be trained on because of an item; the surest reason is named."""
    if not items or not rows:
        return []
    exact = {item.question_sha256: item for item in reversed(items)}
    texts = {asked(item.question): item for item in reversed(items)}
    near = nearest([row.question for row in rows], [item.question for item in items], smallest)
    shared = _shared_answers(rows, items)
    gone = []
    for row, (number, similarity) in zip(rows, near, strict=True):
        same = exact.get(row.question_sha256) or texts.get(asked(row.question))
        if same is not None:
            gone.append(_leak(row, same, question="same"))
        elif number >= 0:
            gone.append(_leak(row, items[number], percent=int(100 * similarity)))
        elif row.rid in shared:
            gone.append(_leak(row, shared[row.rid], answer="13-gram"))
    return gone


def unasked(
    conversations: Sequence[Sequence[dict[str, Any]]], items: Sequence[EvalItem]
) -> list[Sequence[dict[str, Any]]]:
    """General conversations in which nothing is asked that an item asks, word for word or nearly.

    Trained on what the general set asks, a model would look as if it had forgotten nothing. Not as
    strict as for rows: the capital of Norway tells nothing of the capital of Peru.
    """
    if not items:
        return list(conversations)
    asks = [(number, text_in(one)) for number, each in enumerate(conversations)
            for one in each if one.get("role") == "user"]  # fmt: skip
    known = {asked(item.question) for item in items}
    near = nearest([text for _, text in asks], [item.question for item in items], _COPY)
    leaking = {number for (number, text), (item, _) in zip(asks, near, strict=True)
               if item >= 0 or asked(text) in known}  # fmt: skip
    return [one for number, one in enumerate(conversations) if number not in leaking]


def _leak(row: Row, item: EvalItem, **how: Any) -> Gone:
    return Gone(row.rid, "eval_contamination", "", {"item": item.name, **how})


def _shared_answers(rows: Sequence[Row], items: Sequence[EvalItem]) -> dict[str, EvalItem]:
    """rid -> item whose reference shares 13 words with the row's answer."""
    owners: dict[tuple[str, ...], EvalItem] = {}
    for item in items:
        for gram in () if item.rid else _grams(item.reference):
            owners.setdefault(gram, item)
    if not owners:
        return {}
    hits: Mapping[str, list[tuple[str, ...]]] = {
        row.rid: [gram for gram in _grams(row.answer) if gram in owners] for row in rows
    }
    asked_by: dict[str, set[tuple[str, ...]]] = {}
    for row in rows:
        asked_by.setdefault(row.question_sha256, set()).update(hits[row.rid])
    common = Counter(gram for found in asked_by.values() for gram in found)
    return {
        rid: owners[real[0]]
        for rid, found in hits.items()
        if (real := [gram for gram in found if common[gram] <= _PHRASE])
    }


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return (tuple(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1))
