"""How a chat template prints a content: as it is, or trimmed at the ends.

In: `render` and a probe. Out: per item the `define` block that prints it the same way, or a refusal
when the content is changed in a way that is not known.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate.probe import Probe, Render, Unknown, conversation, mark, tool

_ODD = '\n \u3000a "quoted" \\ <b> & \u4e2d\n\n c \u3000\n'
_THOUGHT = "<think>\nso and so\n</think>\n\nthe answer\n"
_WAYS: Mapping[str, Callable[[str], str]] = {
    "": lambda text: text,
    "trim": str.strip,
    "trimleft": str.lstrip,
    "trimright": str.rstrip,
    "trimlines": lambda text: text.strip("\n"),
    "trimlinesleft": lambda text: text.lstrip("\n"),
    "trimlinesright": lambda text: text.rstrip("\n"),
    "chars": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
}
_SHAPES = {
    "system": ("suau", "su"),
    "user": ("uau", "suau", "u"),
    "assistant": ("uau", "suau"),
    "thinking": ("uctau", "uct", "uau"),
    "tool": ("uct", "uctau"),
}


@dataclass(frozen=True)
class Printed:
    """block: the `define` that prints a content, "" for as it is.

    after_think: the block for what follows </think> in an answer that holds it, if only that is
    printed of such an answer.
    """

    block: str = ""
    after_think: str | None = None


def contents(render: Render, *, tools: bool, thinking: bool) -> dict[str, Printed]:
    """Item -> how it is printed, for the items that are not printed as they are."""
    found = {}
    for kind, shapes in _SHAPES.items():
        if (kind == "thinking" and not thinking) or (kind == "tool" and not tools):
            continue
        for shape in shapes:
            probe = Probe(
                conversation(shape, thoughts=kind == "thinking"), (tool(1),) if "c" in shape else ()
            )
            way = _way(render, probe, kind)
            if way is not None:
                if way != Printed():
                    found[kind] = way
                break
    return found


def tells_thoughts(render: Render) -> bool:
    """Whether the template knows of <think>: it writes it, or takes it out of old answers."""
    for thinking in (None, True, False):
        try:
            if "<think>" in render(conversation("u"), thinking=thinking):
                return True
        except UsageError:
            continue
    probe = Probe(conversation("uau"))
    try:
        return "so and so" not in render(_with(probe, 1, "assistant", _THOUGHT))
    except UsageError:
        return False


def _way(render: Render, probe: Probe, kind: str) -> Printed | None:
    """None when the item is not printed here, or the conversation is refused."""
    number = _number(probe, kind)
    wanted = mark(kind, number)
    try:
        plain = render(probe.messages, tools=probe.tools)
        odd = render(_with(probe, number, kind, _ODD), tools=probe.tools)
        thought = render(_with(probe, number, kind, _THOUGHT), tools=probe.tools)
    except UsageError:
        return None
    if plain.count(wanted) != 1:
        return None
    head, tail = plain.split(wanted)
    block = _block(odd, head, tail, _ODD)
    if block is None:
        raise Unknown(f"it changes the content of a {kind} message: {_ODD!r} becomes {odd!r}")
    after = None
    if kind == "assistant" and _block(thought, head, tail, _THOUGHT) != block:
        after = _block(thought, head, tail, _THOUGHT.split("</think>")[1])
    return Printed(block, after)


def _block(text: str, head: str, tail: str, content: str) -> str | None:
    """The block that prints `content` as it stands between head and tail."""
    if text.startswith(head) and text.endswith(tail):
        middle = text[len(head) : len(text) - len(tail)]
        for name, way in _WAYS.items():
            if middle == way(content):
                return name
    return None


def _number(probe: Probe, kind: str) -> int:
    key = "assistant" if kind == "thinking" else kind
    return next(i for i, message in enumerate(probe.messages) if message["role"] == key)


def _with(probe: Probe, number: int, kind: str, text: str) -> tuple[Mapping[str, Any], ...]:
    key = "reasoning_content" if kind == "thinking" else "content"
    changed = {**probe.messages[number], key: text}
    return tuple(itertools.chain(probe.messages[:number], [changed], probe.messages[number + 1 :]))
