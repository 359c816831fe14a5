"""Probe conversations: turns, system prompts, tools, thoughts, whose contents are marks.

A mark holds private-use characters, which no chat template holds, so every item is found again in
a rendered text by looking for it; whatever lies between two items is literal text of the template.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ft2ollama.gotemplate.ollama_data import normal_tools

Message = Mapping[str, Any]
OPEN, SHUT = "\ue000", "\ue001"  # private use: no template holds them


class Render(Protocol):
    """The model's chat template; raises UsageError when it refuses the conversation."""

    def __call__(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        thinking: bool | None = None,
    ) -> str:
        """The text."""
        ...


@dataclass(frozen=True)
class Probe:
    """A conversation of marks."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    thinking: bool | None = None


class Unknown(Exception):
    """Probing cannot express the template; the text says why."""


def mark(role: str, number: int) -> str:
    """A content that is found again."""
    return f"{OPEN}{role}{number}{SHUT}"


SYSTEM: Message = {"role": "system", "content": mark("system", 0)}


def common_prefix(texts: Sequence[str]) -> str:
    """What all texts begin with, character by character."""
    first, last = min(texts, default=""), max(texts, default="")
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(char for char, _ in same)


def conversation(roles: str, *, thoughts: bool = False) -> tuple[Message, ...]:
    """Marks by letter: s u a t, c = call without content, b = call with content, 2 = two calls,
    e = call without arguments, f = two calls, the first without arguments.

    thoughts: every assistant message has reasoning.
    """
    messages: list[dict[str, Any]] = []
    for number, letter in enumerate(roles):
        role = {"s": "system", "u": "user", "t": "tool"}.get(letter, "assistant")
        message: dict[str, Any] = {"role": role, "content": mark(role, number)}
        if letter in "cb2ef":
            message["content"] = message["content"] if letter == "b" else ""
            calls = 2 if letter in "2f" else 1
            message["tool_calls"] = [
                call(number, one, empty=letter == "e" or (letter, one) == ("f", 0))
                for one in range(calls)
            ]
        if role == "tool":
            asked = max(i for i in range(number) if roles[i] in "cb2ef")
            name = mark("callname", 10 * asked + number - asked - 1)
            message |= {"name": name, "tool_call_id": call_id(asked, number - asked - 1)}
        if thoughts and role == "assistant":
            message["reasoning_content"] = mark("thinking", number)
        messages.append(message)
    return tuple(messages)


def tool(number: int, *, more: bool = False) -> dict[str, Any]:
    """A tool schema in Ollama's order."""
    properties: dict[str, Any] = {mark("property", number): {"type": "string", "description": "d"}}
    if more:
        properties[mark("property", number + 1)] = {"type": "integer", "enum": ["x", "y"]}
    function = {
        "name": mark("toolname", number),
        "description": mark("tooldescription", number),
        "parameters": {
            "type": "object",
            "required": [mark("property", number)],
            "properties": properties,
        },
    }
    return normal_tools([{"type": "function", "function": function}])[0]


def with_system(probe: Probe) -> Probe:
    """The probe, with a system prompt if it has none."""
    if probe.messages[0]["role"] == "system":
        return probe
    return replace(probe, messages=(SYSTEM, *probe.messages))


def text_probes(*, late_systems: bool = True) -> Iterator[Probe]:
    """Turns, system prompts (also after the first message) and the switch for thinking."""
    shapes = ["u", "uau", "uauau", "uauauau", "su", "suau", "suauau", "suauauau"]
    shapes += ["uasu", "suasu"] * late_systems
    for thinking in (None, False, True):
        yield from (Probe(conversation(shape), (), thinking) for shape in shapes)


def thought_probes() -> Iterator[Probe]:
    """History with reasoning."""
    for thinking in (None, True, False):
        for shape in ("uau", "uauau", "suau", "suauau"):
            yield Probe(conversation(shape, thoughts=True), (), thinking)


def tool_probes(thoughts: bool) -> Iterator[Probe]:
    """Tools offered, called, and answered."""
    shapes = ["u", "su", "uau", "suau", "uct", "suct", "ubt", "uctau", "ubtau", "suctau", "uauct"]
    shapes += [
        "uctct",
        "u2tt",
        "u2ttau",
        "suauctau",
        "ucta" + "uctau",
        "uctbt",
        "uauauct",
        "uet",
        "uetau",
        "ubtet",
        "uft",
        "uftt",
    ]
    pairs = ((tool(1),), (tool(1), tool(4, more=True)))
    for tools, thinking in itertools.product(pairs, (None, True, False) if thoughts else (None,)):
        for shape in shapes:
            yield Probe(conversation(shape), tools, thinking)
            if thoughts:
                yield Probe(conversation(shape, thoughts=True), tools, thinking)
    for shape in ("uct", "suctau"):  # the list of tools may be missing from a later request
        yield Probe(conversation(shape), (), None)


def call(number: int, one: int, *, empty: bool = False) -> dict[str, Any]:
    """Call `one` of message `number`."""
    place = 10 * number + one
    arguments = {} if empty else {mark(f"key{n}x", place): mark(f"value{n}x", place) for n in "12"}
    return {
        "type": "function",
        "id": call_id(number, one),
        "function": {"name": mark("callname", place), "arguments": arguments},
    }


def call_id(number: int, one: int) -> str:
    """Nine letters and digits, as Mistral's templates ask for."""
    return f"idq{number:03}z{one}x"
