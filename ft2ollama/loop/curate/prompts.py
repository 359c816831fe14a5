"""Open-book prompts: the captured one with other contexts in it, or one like those of the house.

In: a row and the texts of contexts.  Out: messages up to the question. Production goes on with RAG,
so a sample must look like what the application sends: the contexts are found word for word in the
captured prompt and replaced there; what stands between them (`<source id="2">`, `[CONTEXT 1]:`) is
kept and counted on. A row without a captured prompt gets the one most rows of the ledger have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ft2ollama.loop.curate.rows import Row
from ft2ollama.loop.curate.rules import text_in

Messages = list[dict[str, Any]]
_KEPT = ("role", "content", "tool_calls", "tool_call_id", "name")
# What opens a lone context -> what stands between it and a second one; n is the second's number.
_OPENINGS = (
    (re.compile(r'<source id="(\d+)"[^>\n]*>\s*$'), '</source>\n<source id="{n}">'),
    (re.compile(r"\[CONTEXT (\d+)\]:\s*$"), "\n[END CONTEXT {last}]\n\n[CONTEXT {n}]:\n"),
)


@dataclass(frozen=True)
class Slots:
    """A text with holes for contexts: head, hole, between[0], hole, ..., tail."""

    head: str
    between: tuple[str, ...]
    tail: str

    def fill(self, contexts: Sequence[str]) -> str:
        """The text with these contexts, more or fewer than it had."""
        parts = [self.head]
        for number, context in enumerate(contexts):
            if number:
                parts.append(self._before(number))
            parts.append(context)
        return "".join([*parts, self.tail])

    def _before(self, number: int) -> str:
        """What stands before hole `number`, counted from 0."""
        if number <= len(self.between):
            return self.between[number - 1]
        if self.between:
            more = number - len(self.between)
            return re.sub(r"\d+", lambda m: _plus(m, more), self.between[-1])
        for opening, between in _OPENINGS:
            if found := opening.search(self.head):
                last = int(found[1]) + number - 1
                return between.format(last=last, n=last + 1)
        return "\n\n"


def _plus(found: re.Match[str], more: int) -> str:
    """Small numbers count contexts; a page or a year does not."""
    return str(int(found[0]) + more) if len(found[0]) < 3 else found[0]


@dataclass(frozen=True)
class Captured:
    """The prompt of a row: its messages, which of them holds the contexts, and where."""

    messages: tuple[Mapping[str, Any], ...]
    index: int
    slots: Slots

    def fill(self, contexts: Sequence[str]) -> Messages:
        """The messages with these contexts."""
        made = plain(self.messages)
        made[self.index]["content"] = self.slots.fill(contexts)
        return made


def captured(row: Row) -> Captured | None:
    """Where the contexts of a row stand in its messages; None when one is not found."""
    for index in reversed(range(len(row.messages))):
        if row.messages[index].get("role") in ("system", "user", "tool"):
            slots = find_slots(text_in(row.messages[index]), row.contexts)
            if slots is not None:
                return Captured(row.messages, index, slots)
    return None


def find_slots(text: str, contexts: Sequence[str]) -> Slots | None:
    """The holes that the contexts leave in a text, in the order in which they stand there."""
    spans = []
    for context in dict.fromkeys(contexts):
        start = text.find(context)
        if start < 0:
            return None
        spans.append((start, start + len(context)))
    spans.sort()
    if not spans or any(one[1] > two[0] for one, two in pairwise(spans)):
        return None
    between = tuple(text[one[1] : two[0]] for one, two in pairwise(spans))
    return Slots(text[: spans[0][0]], between, text[spans[-1][1] :])


@dataclass(frozen=True)
class House:
    """The prompt for rows that have none: {question} stands in head or tail, or in a turn of its
    own where role is `system`.
    """

    role: str
    slots: Slots

    def fill(self, row: Row, contexts: Sequence[str]) -> Messages:
        """Messages that ask the row's question with these contexts."""
        parts = (self.slots.head, *self.slots.between, self.slots.tail)
        head, *between, tail = (part.replace("{question}", row.question) for part in parts)
        text = Slots(head, tuple(between), tail).fill(contexts)
        history = [m for m in plain(row.messages[:-1]) if m["role"] != "system"]
        if self.role == "system":
            return [{"role": "system", "content": text}, *history,
                    {"role": "user", "content": row.question}]  # fmt: skip
        return [*history, {"role": "user", "content": text}]


def house(rows: Iterable[Row], template: str) -> House:
    """The prompt that most rows have; `template` with {contexts} and {question} when none has one.

    Of equally frequent prompts the first by text, so that the choice is always the same.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    between: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for row in rows:
        found = captured(row) if row.contexts else None
        made = _skeleton(row, found) if found else None
        if made is not None and found is not None:
            counts[made] += 1
            between[made] = max(
                between.get(made, ()), found.slots.between, key=lambda b: (len(b), b)
            )
    if not counts:
        head, tail = template.split("{contexts}", 1)
        return House("user", Slots(head, (), tail))
    role, head, tail = min(counts, key=lambda key: (-counts[key], key))
    return House(role, Slots(head, between[role, head, tail], tail))


def _skeleton(row: Row, found: Captured) -> tuple[str, str, str] | None:
    head, tail = found.slots.head, found.slots.tail
    last = found.index == len(found.messages) - 1
    role = "user" if last else "system"
    if not last:
        return (role, head, tail) if row.question in text_in(found.messages[-1]) else None
    if (head + "\0" + tail).count(row.question) != 1 or "{question}" in head + tail:
        return None
    return (
        role,
        head.replace(row.question, "{question}"),
        tail.replace(row.question, "{question}"),
    )


def plain(messages: Sequence[Mapping[str, Any]]) -> Messages:
    """Messages with text and calls alone; what the model said before is read, not learned."""
    made: Messages = []
    for message in messages:
        one = {name: message[name] for name in _KEPT if message.get(name)}
        one["content"] = text_in(message)
        if message.get("role") == "assistant":
            one["weight"] = 0
        made.append(one)
    return made
