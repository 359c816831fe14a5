"""Reply proof: greedy replies of the server against those of the trained model in float32.

For every question: the stop token is reached where the reference reached it, no control token is in
the text, a tool that the reference calls is found in `tool_calls`, thoughts stand apart from the
answer, and the replies agree. Rounding to 8 bits may turn an open-ended text at some word, so
agreement is the mean share of the common beginning, and the bar depends on the type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ft2ollama.gotemplate.ollama_data import api_messages
from ft2ollama.gotemplate.tags import thinking_tags, tool_tag
from ft2ollama.ollama_api import Ollama, Reply, quiet_options
from ft2ollama.proof.cases import capabilities
from ft2ollama.proof.differences import marked
from ft2ollama.proof.prompts import Tick
from ft2ollama.thoughts import split_thought

# Faithful exports of a 135 M model reached 1.00 as F16 and 0.94 to 1.00 as Q8_0, open prompts among
# them (benchmarks/RESULTS.md). Below Q8_0 a greedy reply may part early and still be good: the bar
# only catches a broken file. The bars leave room for models whose replies are longer.
AGREEMENT = {
    "F32": 0.9, "F16": 0.9, "BF16": 0.7, "Q8_0": 0.6, "Q6_K": 0.5,
    "Q5_K_M": 0.4, "Q5_K_S": 0.4, "Q5_1": 0.4, "Q5_0": 0.4,
    "Q4_K_M": 0.3, "Q4_K_S": 0.3, "Q4_1": 0.3, "Q4_0": 0.3, "IQ4_NL": 0.3, "IQ4_XS": 0.3,
    "Q3_K_L": 0.2, "Q3_K_M": 0.2, "Q3_K_S": 0.2, "Q2_K": 0.1,
}  # fmt: skip

_COMPARED = 200  # characters, about 50 tokens
_BROKEN_CALL = "is empty: the trained model writes a tool call that is no JSON, and Ollama drops it"


@dataclass(frozen=True)
class Speech:
    """How a server takes a reply apart, by the Go template.

    special: control tokens that no reply may hold.  tools: tool calls become `tool_calls`.
    thoughts: the tags between which they stand, ("", "") for none.
    """

    special: tuple[str, ...] = ()
    tools: bool = False
    tag: str = "{"
    thoughts: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Said:
    """A reply taken apart. calls: `name(arguments)` of every tool called."""

    text: str
    thoughts: str = ""
    calls: tuple[str, ...] = ()

    @property
    def whole(self) -> str:
        """Everything in one text, for comparison."""
        return "\n".join(part for part in (self.thoughts, self.text, *self.calls) if part)


@dataclass(frozen=True)
class ReplyCheck:
    """One question: the two replies and what was found.  place: the row it is from."""

    question: str
    expected: str
    got: str
    agreement: float
    stopped: bool
    problem: str = ""
    place: str = ""


def make_speech(gotmpl: str, special: Sequence[str]) -> Speech:
    """special: the control tokens of the vocabulary; those that mark thoughts and calls are not."""
    capable = capabilities(gotmpl)
    tag = tool_tag(gotmpl) if "tools" in capable else "{"
    thoughts = thinking_tags(gotmpl) if "thinking" in capable else ("", "")
    marks = {tag, *thoughts} if thoughts[0] else {tag}
    leaks = tuple(token for token in special if not any(token in mark for mark in marks))
    return Speech(leaks, "tools" in capable, tag, thoughts)


def check_replies(
    server: Ollama,
    model: str,
    replies: Sequence[Mapping[str, Any]],
    speech: Speech,
    tick: Tick | None = None,
) -> list[ReplyCheck]:
    """Ask the server the trainer's questions, greedily, and compare.

    replies: lines of replies.jsonl: question, messages, text, ids, stopped; tools, thinking, raw
    and place where the trainer wrote them.
    """
    checks = []
    for number, reference in enumerate(replies, 1):
        answer = _ask(server, model, reference)
        checks.append(compare_reply(reference, answer, speech))
        if tick:
            tick(number, len(replies))
    return checks


def _ask(server: Ollama, model: str, reference: Mapping[str, Any]) -> Reply:
    count = len(reference["ids"])
    limit = 2 * count + 32 if reference["stopped"] else count + 1
    return server.chat(
        model,
        api_messages(reference["messages"]),
        options={**quiet_options(server.is_local), "num_predict": limit},
        tools=list(reference.get("tools") or ()) or None,
        think=reference.get("thinking"),
    )


def compare_reply(reference: Mapping[str, Any], answer: Reply, speech: Speech) -> ReplyCheck:
    """Agreement is the share of the reference that the answer begins with, in characters.

    Only beginnings are compared: once rounding has turned a word, what follows is another text.
    """
    tools = tuple(reference.get("tools") or ())
    said = take_apart(str(reference.get("raw") or reference["text"]), tools, speech)
    got = Said(answer.text, answer.thinking.strip(), tuple(map(_call, answer.tool_calls)))
    stopped = answer.done_reason == "stop"
    expected, whole = said.whole, got.whole
    if not reference["stopped"]:
        whole = whole[: len(expected)]
    same, longest = _common(expected[:_COMPARED], whole[:_COMPARED])
    return ReplyCheck(
        str(reference["question"]),
        expected,
        whole,
        same / longest if longest else 1.0,
        stopped,
        _problem(said, got, speech, ended=stopped or not reference["stopped"]),
        str(reference.get("place") or ""),
    )


def _common(one: str, other: str) -> tuple[int, int]:
    """Characters of the common beginning, and of the longer text."""
    shorter, longest = sorted((len(one), len(other)))
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), shorter), longest


def _problem(said: Said, got: Said, speech: Speech, *, ended: bool) -> str:
    leaked = [token for token in speech.special if token in got.text and token not in said.text]
    if leaked:
        return f"holds the control token {leaked[0]}"
    if speech.thoughts[0] and any(tag in got.text for tag in speech.thoughts):
        return f"has its thoughts in the text: {marked(got.text[:60])}"
    if said.calls and not got.calls:
        text = marked(got.text[:60]) or "nothing"
        return f"calls no tool; the trainer's calls {said.calls[0]}, Ollama gives {text}"
    if not got.whole.strip() and said.whole.strip():
        broken = speech.tools and speech.tag != "{" and speech.tag in said.text
        return _BROKEN_CALL if broken else "is empty"
    return "" if ended else "does not end where the trainer's reply ends"


def take_apart(raw: str, tools: Sequence[Mapping[str, Any]], speech: Speech) -> Said:
    """A reply as the model wrote it, the way Ollama hands it out."""
    opening, closing = speech.thoughts
    thoughts, text = "", raw
    if opening and closing in raw:
        begun = not raw.lstrip().startswith(opening)  # by the prompt
        thoughts, text = split_thought(raw, speech.thoughts, begun=begun)
    calls = tuple(_calls(text, tools)) if speech.tools and tools else ()
    if calls:
        text = text.partition(speech.tag)[0].strip()
    return Said(text, thoughts, calls)


def _calls(text: str, tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """JSON objects that name a tool and give its arguments, wherever they stand."""
    names = {tool.get("function", tool)["name"] for tool in tools}
    at, decoder = text.find("{"), json.JSONDecoder()
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            arguments = [v for v in found.values() if isinstance(v, dict)]
            if found.get("name") in names and arguments:
                yield _call({"function": {"name": found["name"], "arguments": arguments[0]}})
        at = text.find("{", end)


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function") or {}
    arguments = json.dumps(function.get("arguments") or {}, sort_keys=True, ensure_ascii=False)
    return f"{function.get('name')}({arguments})"
