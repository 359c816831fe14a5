"""Kept rows -> samples in three forms: without contexts, with them, and with the wrong ones.

In: rows, config and seed.  Out: `Sample`s. closed_book moves knowledge into the weights; open_book
teaches to read among distractors (RAFT, Zhang et al. 2024); refusal teaches to say that the answer
is not there. Each row gives as many samples as its origin weighs, in different forms first, so that
the data set comes near the wanted shares. All choices are hashes of seed and row: the order of the
rows, the machine and the database do not matter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from ft2ollama.data.answer_checks import script
from ft2ollama.loop.curate.grounding import coverage, has_citations, numbers_in, without_citations
from ft2ollama.loop.curate.prompts import House, Messages, captured, house, plain
from ft2ollama.loop.curate.rows import Row
from ft2ollama.loop.curate.rules import is_refusal, text_in
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.records import canonical

Form = Literal["closed_book", "open_book", "refusal"]
FORMS: tuple[Form, ...] = ("closed_book", "open_book", "refusal")
_TRIES = 12  # contexts of other rows looked at for one distractor
_ACCORDING = re.compile(
    r"^(?:根据|按照|依据)(?:上述|以上|所?提供的|给定的|现有的?|相关)?(?:资料|文档|文件|上下文|信息|内容|知识库)"
    r"(?:显示|可知|所述)?[,，:：]\s*"
    r"|^(?:According to|Based on) the (?:provided |given |above )?"
    r"(?:context|documents?|information|sources?)(?: provided)?,\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sample:
    """A line of a data set. role: new | replay | general.

    copy: number among equal lines of a row: a row weighs more by standing there several times.
    """

    messages: tuple[Mapping[str, Any], ...]
    form: str
    rid: str = ""
    role: str = "new"
    tools: tuple[Mapping[str, Any], ...] = ()
    copy: int = 0

    @property
    def record(self) -> dict[str, Any]:
        """As it is written: messages as the OpenAI fine-tuning API takes them, and whence."""
        extra = {"tools": list(self.tools)} if self.tools else {}
        about: dict[str, Any] = {"rid": self.rid} if self.rid else {}
        about |= {"form": self.form, **({"copy": self.copy} if self.copy else {})}
        return {"messages": list(self.messages), **extra, "metadata": about}

    @cached_property
    def sha256(self) -> str:
        """Identity of the line."""
        return sha256(canonical(self.record).encode()).hexdigest()

    @cached_property
    def said_sha256(self) -> str:
        """Identity of what is learned from it, whatever the id of its row."""
        return sha256(canonical([self.messages, self.form, self.tools]).encode()).hexdigest()


def rid_of(record: Mapping[str, Any]) -> str:
    """The row of which a line of a data set was made; "" for a line that has none."""
    about = record.get("metadata")
    return str(about.get("rid", "")) if isinstance(about, Mapping) else ""


def draw(*parts: object) -> int:
    """A number of 64 bits that depends on nothing but the parts."""
    return int.from_bytes(sha256("|".join(map(str, parts)).encode()).digest()[:8], "big")


class Builder:
    """Makes the samples of rows. rows: all that stay, whose contexts are distractors for others."""

    def __init__(self, rows: Sequence[Row], config: CurateConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        ordered = sorted(rows, key=lambda row: row.seq)
        self._pool = list(dict.fromkeys(c for row in ordered for c in row.contexts))
        self._houses: dict[str, House] = {
            language: house(
                [row for row in ordered if _language(row) == language],
                config.template_zh if language == "zh" else config.template_en,
            )
            for language in ("zh", "en")
        }
        self._counts: Counter[str] = Counter()

    def build(self, rows: Sequence[Row], role: str) -> Iterator[Sample]:
        """The samples of each row, in an order drawn by the seed."""
        for row in sorted(
            rows, key=lambda row: (draw(self._seed, "form", row.said_sha256), row.rid)
        ):
            used: list[Form] = []
            equal: Counter[str] = Counter()
            for copy in range(self._config.weight(row.origin)):
                form = self._choose(row, used)
                used.append(form)
                self._counts[form] += 1
                made = self._sample(row, form, copy, role)
                yield replace(made, copy=equal[made.sha256])
                equal[made.sha256] += 1

    def closed(self, row: Row, role: str = "new") -> Sample:
        """The row as the gate asks it: without contexts."""
        return self._sample(row, "closed_book", 0, role)

    def _choose(self, row: Row, used: Sequence[Form]) -> Form:
        """The form furthest below its share that the row can have; a form that the row has not had
        yet goes first, as long as it is not above its share.
        """
        total = sum(self._counts.values()) + 1
        shares = {"closed_book": self._config.closed_book, "open_book": self._config.open_book,
                  "refusal": self._config.refusal}  # fmt: skip
        missing = {form: shares[form] * total - self._counts[form] for form in FORMS}
        possible = self._possible(row)
        wanted = [form for form in possible if shares[form] > 0] or possible
        fresh = [form for form in wanted if form not in used and missing[form] > 0] or wanted
        return max(fresh, key=lambda form: (missing[form], -FORMS.index(form)))

    def _possible(self, row: Row) -> list[Form]:
        if is_refusal(row.answer):
            return ["refusal"]
        if row.tools or row.tool_calls or any(m.get("role") == "tool" for m in row.messages):
            return ["open_book"]  # with its tools, as it was
        if not row.contexts:
            return ["closed_book"]
        return list(FORMS) if len(self._pool) > len(row.contexts) else ["closed_book", "open_book"]

    def _sample(self, row: Row, form: Form, copy: int, role: str) -> Sample:
        answer = row.answer
        if form == "closed_book":
            messages = _closed(row)
            answer = _without_sources(answer)
        elif form == "open_book":
            messages = self._open(row, copy)
        else:
            messages, answer = self._refusal(row, copy)
        turn: dict[str, Any] = {"role": "assistant", "content": answer}
        if row.tool_calls and form == "open_book":
            turn["tool_calls"] = [dict(call) for call in row.tool_calls]
        return Sample((*messages, turn), form, row.rid, role, row.tools)

    def _open(self, row: Row, copy: int) -> Messages:
        if not row.contexts:
            return plain(row.messages)
        own = list(dict.fromkeys(row.contexts))
        if has_citations(row.answer):  # its numbers count the contexts as they stand
            return self._prompt(row, [*own, *self._others(row, copy, self._missing(len(own) - 1))])
        golden = golden_of(row.answer, own)
        rest = [context for context in own if context not in golden]
        others = self._others(row, copy, self._missing(len(rest)))
        absent = (
            draw(self._seed, "golden", row.said_sha256, copy) % 1000
            >= 1000 * self._config.golden_share
        )
        if absent and row.by_person and (rest or others):
            golden = []
        return self._prompt(row, self._shuffled(row, copy, [*golden, *rest, *others]))

    def _missing(self, have: int) -> int:
        return max(0, self._config.distractors - have)

    def _refusal(self, row: Row, copy: int) -> tuple[Messages, str]:
        if is_refusal(row.answer):
            return plain(row.messages), row.answer
        own = list(dict.fromkeys(row.contexts))
        golden = golden_of(row.answer, own)
        rest = [context for context in own if context not in golden]
        others = self._others(row, copy, max(1, len(golden), self._missing(len(rest))))
        zh = _language(row) == "zh"
        sentence = self._config.refusal_zh if zh else self._config.refusal_en
        return self._prompt(row, self._shuffled(row, copy, [*rest, *others])), sentence

    def _prompt(self, row: Row, contexts: Sequence[str]) -> Messages:
        found = captured(row)
        if found is not None:
            return found.fill(contexts)
        return self._houses[_language(row)].fill(row, contexts)

    def _others(self, row: Row, copy: int, count: int) -> list[str]:
        """Contexts of other rows that do not answer the question."""
        found: list[str] = []
        best = max((coverage(row.answer, context) for context in row.contexts), default=0.0)
        for number in range(_TRIES * count if self._pool else 0):
            if len(found) == count:
                break
            place = draw(self._seed, "other", row.said_sha256, copy, number) % len(self._pool)
            context = self._pool[place]
            known = context in row.contexts or context in found
            if not known and not supports(context, row.answer, best):
                found.append(context)
        return found

    def _shuffled(self, row: Row, copy: int, contexts: Sequence[str]) -> list[str]:
        return sorted(
            contexts, key=lambda c: (draw(self._seed, "order", row.said_sha256, copy, c), c)
        )


def golden_of(answer: str, contexts: Sequence[str]) -> list[str]:
    """The contexts that hold the answer: the one that shares most with it, and its like."""
    best = max((coverage(answer, context) for context in contexts), default=0.0)
    return [context for context in contexts if supports(context, answer, best)]


def supports(context: str, answer: str, best: float) -> bool:
    """Could somebody answer from this context? best: what the right one shares with the answer.

    Documents of one form differ in a name or a number, so nearly as much must be shared; half of it
    is enough where the answer's numbers are all there, and not where one is missing.
    """
    part = coverage(answer, context)
    wanted = {value for _, value in numbers_in(answer)}
    if not wanted:
        return part >= 0.8 * best
    here = wanted <= {value for _, value in numbers_in(context)}
    return part >= (0.5 if here else 0.95) * best


def _closed(row: Row) -> Messages:
    """The conversation without what was retrieved."""
    history = [
        message for message in row.messages[:-1]
        if not any(context in text_in(message) for context in row.contexts)
    ]  # fmt: skip
    return [*plain(history), {"role": "user", "content": row.question}]


def _without_sources(answer: str) -> str:
    return _ACCORDING.sub("", re.sub(r"[ \t]+(?=[,.!?，。！？]|$)", "", without_citations(answer)))


def _language(row: Row) -> str:
    return "zh" if script(row.question) == "han" else "en"
