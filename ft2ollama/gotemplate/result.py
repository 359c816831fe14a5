"""What comes out of this package: a Go template, its stop words, and what people should know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ft2ollama.gotemplate.probe import common_prefix
from ft2ollama.gotemplate.slots import Findings
from ft2ollama.gotemplate.tags import thinking_tags

_TOKEN = re.compile(r"\s*(<[^<>\s]{1,60}>|\[/?[A-Z_]{2,40}\])")
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_DATE = re.compile(
    rf"\d{{4}}-\d\d-\d\d|\d{{1,2}} (?:{_MONTHS})[a-z]* \d{{4}}"
    rf"|(?:{_MONTHS})[a-z]* \d{{1,2}}, \d{{4}}"
)


@dataclass(frozen=True)
class GoTemplate:
    """What publish tells Ollama.

    system: the Modelfile's SYSTEM, the default system prompt of the chat template.  adds_bos: the
    chat template begins with the BOS token, which Ollama adds by itself (`add_bos_token`).
    capabilities: of "tools" and "thinking".  way: "derived" or "family", with its name in `family`.
    cases: on how many conversations it was equal.  explain: lines for people, what is not equal and
    what Ollama cannot do.
    """

    gotmpl: str
    stop: tuple[str, ...]
    system: str = ""
    adds_bos: bool = False
    capabilities: frozenset[str] = frozenset()
    way: str = "derived"
    family: str = ""
    cases: int = 0
    explain: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """The first case on which the two prompts differ."""

    case: str
    wanted: str
    got: str

    def __str__(self) -> str:
        place = len(common_prefix([self.wanted, self.got]))
        return "\n".join(
            [
                f"case {self.case!r}, first difference at character {place + 1}:",
                f"  chat template: {_around(self.wanted, place)}",
                f"  Go template:   {_around(self.got, place)}",
            ]
        )


def stop_words(findings: Findings, ends: Sequence[str]) -> tuple[str, ...]:
    """The texts of all end tokens, and whatever follows an answer where none of them does."""
    words = list(ends)
    for text in sorted(_behind_answers(findings)):
        if not any(text.lstrip().startswith(end) for end in ends):
            token = _TOKEN.match(text)
            words.append(token[1] if token else text.rstrip())
    return tuple(dict.fromkeys(word for word in words if word.strip()))


def notes(gotmpl: str, system: str, findings: Findings) -> Iterable[str]:
    """What people should know of a template that is equal."""
    if found := _DATE.search(gotmpl + system):
        yield (
            f"the date {found[0]!r} stays in the prompt as the chat template wrote it in training;"
            " Ollama has no date in that form"
        )
    tags = thinking_tags(gotmpl)
    if all(tags):
        yield f"Ollama takes for thoughts what stands between {tags[0]!r} and {tags[1]!r}"
    if findings.tool_form and "callname" not in findings.slots:
        yield "the chat template does not print the tool calls of the history"
    if findings.call_form == "pairs":
        yield "tool calls are not JSON: Ollama 0.9.3 leaves them in the text of the answer"
    if findings.tool_form:
        yield "several answers of tools in a row: Ollama before 0.9.6 joins them by a blank line"


def _behind_answers(findings: Findings) -> set[str]:
    """What the template writes between an answer and the next question."""
    slots = findings.slots
    heads = [
        (slot.features["prev"], slot.text)
        for slot in slots.get("user", [])
        if slot.features["prev"] in ("assistant", "close assistant")
    ]
    closes = {
        slot.text
        for slot in slots.get("close assistant", [])
        if slot.features["prev"] == "assistant"
    }
    return {
        (close if previous == "close assistant" else "") + head
        for previous, head in heads
        for close in closes or {""}
    }


def _around(text: str, place: int) -> str:
    head, tail = text[max(0, place - 40) : place], text[place : place + 40]
    dots = "..." if place > 40 else ""
    return f"{dots}{head!r} >>> {tail!r}{'...' if len(text) > place + 40 else ''}"
