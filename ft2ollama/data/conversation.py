"""One conversation in the form that chat templates take, whatever file format it came from.

The keys of a message are those that transformers' `apply_chat_template` and the templates of the
model makers read: `role`, `content`, `reasoning_content` (what an assistant thought), `tool_calls`
with the arguments as an object, and for a tool's answer `name` and `tool_call_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

Role = Literal["system", "user", "assistant", "tool"]


class Function(TypedDict):
    """What an assistant calls; arguments is an object, never JSON text."""

    name: str
    arguments: dict[str, Any]


class ToolCall(TypedDict, total=False):
    """A call as OpenAI writes it; `type` is "function"."""

    type: str
    id: str
    function: Function


class Message(TypedDict, total=False):
    """A turn. role and content are always there; content may be "" beside tool_calls."""

    role: Role
    content: str
    reasoning_content: str
    tool_calls: list[ToolCall]
    name: str
    tool_call_id: str


@dataclass(frozen=True, slots=True)  # slots: a tenth of what a short row takes in memory
class Conversation:
    """A row of training data.

    messages: an assistant turn last.  place: file and row or line.  tools: JSON schemas as OpenAI
    writes them.  unlearned: indexes of assistant turns that the data weighs with 0.  copy: number
    of a repetition that is meant (`metadata.copy`), so that nobody calls it a duplicate; else 0.
    """

    messages: tuple[Message, ...]
    place: str
    tools: tuple[Mapping[str, Any], ...] = ()
    unlearned: frozenset[int] = frozenset()
    copy: int = 0
