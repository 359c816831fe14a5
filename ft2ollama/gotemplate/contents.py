"""How a chat template prints a content: as it is, or trimmed at the ends.

In: `render` and a probe. Out: per item the `define` block that prints it the same way, or a refusal
when the content is changed in a way that is not known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate.probe import Probe, Render, Unknown, conversation, mark, tool

_ODD = '\n \u3000a "quoted" \\ <b> & \u4e2d\n\n c \u3000\n'
_WAYS: Mapping[str, Callable[[str], str]] = {
    "": lambda text: text,
    "trim": str.strip,
    "trimleft": str.lstrip,
    "trimright": str.rstrip,
    "trimlines": lambda text: text.strip("\n"),
    "trimlinesleft": lambda text: text.lstrip("\n"),
    "trimlinesright": lambda text: text.rstrip("\n"),
}
_SHAPES = {
    "system": ("suau", "su"),
    "user": ("uau", "suau", "u"),
    "assistant": ("uau", "suau"),
    "thinking": ("uctau", "uct", "uau"),
    "tool": ("uct", "uctau"),
}


def trims(render: Render, *, tools: bool, thinking: bool) -> dict[str, str]:
    """Item -> block of `defines.TRIMS`, for the items that are not printed as they are."""
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
                if way:
                    found[kind] = way
                break
    return found


def _way(render: Render, probe: Probe, kind: str) -> str | None:
    """None when the item is not printed here, or the conversation is refused."""
    number = _number(probe, kind)
    wanted = mark(kind, number)
    try:
        plain = render(probe.messages, tools=probe.tools)
        odd = render(_with(probe, number, kind), tools=probe.tools)
    except UsageError:
        return None
    if plain.count(wanted) != 1:
        return None
    head, tail = plain.split(wanted)
    if odd.startswith(head) and odd.endswith(tail):
        middle = odd[len(head) : len(odd) - len(tail)]
        for name, way in _WAYS.items():
            if middle == way(_ODD):
                return name
    raise Unknown(f"it changes the content of a {kind} message: {_ODD!r} becomes {odd!r}")


def _number(probe: Probe, kind: str) -> int:
    key = "assistant" if kind == "thinking" else kind
    return next(i for i, message in enumerate(probe.messages) if message["role"] == key)


def _with(probe: Probe, number: int, kind: str) -> tuple[Mapping[str, Any], ...]:
    key = "reasoning_content" if kind == "thinking" else "content"
    changed = {**probe.messages[number], key: _ODD}
    return tuple(itertools.chain(probe.messages[:number], [changed], probe.messages[number + 1 :]))
