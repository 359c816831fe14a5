"""A turn whose content is a list of parts -> its text, thoughts and calls.

In: OpenAI's parts ({type: text, text}), or those of LLaMA-Factory's newer files ({type, value} with
text, reasoning and tool_call).  Out: `Parts`. Images and sound are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ft2ollama.config.expects import shown
from ft2ollama.data.conversation import ToolCall
from ft2ollama.data.problems import BadRow, Warn
from ft2ollama.data.tools import calls_of_text


@dataclass(frozen=True)
class Parts:
    """The parts of each kind, joined."""

    text: str
    thought: str
    calls: list[ToolCall]


def read_parts(parts: Sequence[Any], at: str, warn: Warn) -> Parts:
    """Sort the parts by their type; raises BadRow for one that is neither text nor a call."""
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[ToolCall] = []
    for number, part in enumerate(parts, 1):
        place = f"{at}[{number}]"
        kind = part.get("type") if isinstance(part, Mapping) else part
        value = part.get("text", part.get("value")) if isinstance(part, Mapping) else None
        if kind == "tool_call":
            calls += calls_of_text(value, place, warn)
        elif isinstance(kind, str) and kind in texts and isinstance(value, str):
            texts[kind].append(value)
        else:
            raise BadRow("content-part", place, kind=shown(kind))
    return Parts("".join(texts["text"]), "".join(texts["reasoning"]), calls)
