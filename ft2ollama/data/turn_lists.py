"""A list of turns -> messages, in whatever words it is written.

In: the turns of ShareGPT ({from, value}, any tags) or of OpenAI ({role, content}, tool_calls,
weight, content parts), or a mixture.  Out: `Talk`. The keys of a turn decide, not the name of the
format: files of both kinds carry tools, thoughts and weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ft2ollama.config.expects import did_you_mean, shown
from ft2ollama.data.conversation import Message
from ft2ollama.data.problems import BadRow, Warn
from ft2ollama.data.tools import calls_of_text, calls_of_turn

Turn = Mapping[str, Any]

# The words of a role -> the role; "call" is LLaMA-Factory's function_call, an assistant's turn.
ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "observation": "tool",
    "tool": "tool",
    "function": "tool",
    "function_call": "call",
}
# What dataset_info.json calls a tag -> LLaMA-Factory's default for it, and the role.
ROLE_TAGS: Mapping[str, tuple[str, str]] = {
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"),
    "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call", "call"),
    "system_tag": ("system", "system"),
}
KEY_TAGS: Mapping[str, str] = {"role_tag": "from", "content_tag": "value"}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_KNOWN = frozenset(
    {"tool_calls", "function_call", "weight", "name", "tool_call_id", "refusal", "audio", "id"}
    | {"from", "value", "role", "content", *_THOUGHTS}
)


@dataclass(frozen=True)
class Talk:
    """messages, and the indexes of assistant turns that the data weighs with 0."""

    messages: list[Message]
    unlearned: set[int] = field(default_factory=set)


def is_turn(value: Any) -> bool:
    """Whether an object looks like one turn: somebody says something."""
    return isinstance(value, Mapping) and any({role, said} <= set(value) for role, said in _KEYS)


_KEYS = (("from", "value"), ("role", "content"), ("role", "tool_calls"))


def read_turns(turns: Any, key: str, tags: Mapping[str, str], warn: Warn) -> Talk:
    """Every turn as a message; function_call turns that follow each other are one message.

    key: how the list is called in messages to the user.  tags: those dataset_info.json names.
    """
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise BadRow("turns-wanted", key, value=shown(turns))
    known = {**ROLES, **{tags[tag]: role for tag, (_, role) in ROLE_TAGS.items() if tag in tags}}
    talk = Talk([])
    was_call = False
    for number, turn in enumerate(turns, 1):
        at = f"{key}[{number}]"
        role_key, content_key = _keys(turn, tags, at)
        role = _role(turn[role_key], known, f"{at}.{role_key}")
        message = _message(turn, role, content_key, at, warn)
        if role == "system" and not message["content"].strip():
            warn("system-empty", f"{at}.{content_key}")
            continue
        if role == "call" and was_call:
            talk.messages[-1]["tool_calls"] += message["tool_calls"]
        else:
            talk.messages.append(message)
        was_call = role == "call"
        if _weight(turn, at) == 0 and message["role"] == "assistant":
            talk.unlearned.add(len(talk.messages) - 1)
    return talk


def _keys(turn: Any, tags: Mapping[str, str], at: str) -> tuple[str, str]:
    """Which key of a turn holds the role and which the text: as the tags say, else by looking."""
    role_key = tags.get("role_tag", KEY_TAGS["role_tag"])
    content_key = tags.get("content_tag", KEY_TAGS["content_tag"])
    if not isinstance(turn, Mapping):
        raise BadRow("turn-keys", at, role=role_key, content=content_key, value=shown(turn))
    if role_key not in turn and "role_tag" not in tags:
        role_key = next((key for key in ("role", "from") if key in turn), role_key)
    if content_key not in turn and "content_tag" not in tags:
        content_key = next((key for key in ("content", "value") if key in turn), content_key)
    calls = turn.get("tool_calls") or turn.get("function_call")
    if role_key in turn and (content_key in turn or calls):
        return role_key, content_key
    keys = ", ".join(map(str, turn)) or "-"
    raise BadRow("turn-keys", at, role=role_key, content=content_key, value=keys)


def _role(word: Any, known: Mapping[str, str], at: str) -> str:
    role = known.get(word) or known.get(word.lower()) if isinstance(word, str) else None
    if role is None:
        near = did_you_mean(word, known) if isinstance(word, str) else ""
        words = ", ".join(known)
        raise BadRow("role-unknown", at, role=shown(word), known=words, near=near or "user")
    return role


def _message(turn: Turn, role: str, content_key: str, at: str, warn: Warn) -> Message:
    if role == "call":
        text = turn.get(content_key)
        calls = calls_of_text(text, f"{at}.{content_key}", warn)
        return {"role": "assistant", "content": "", "tool_calls": calls}
    for name in turn:
        if name not in _KNOWN and (near := did_you_mean(str(name), _KNOWN - {"id", "audio"})):
            warn("turn-key-near", f"{at}.{name}", near=near)
    message: Message = {"role": role, "content": ""}  # type: ignore[typeddict-item]
    if role == "assistant":
        _add_thought_and_calls(message, turn, at, warn)
    may_be_empty = "tool_calls" in message
    message["content"] = _content(turn.get(content_key), f"{at}.{content_key}", may_be_empty)
    if role == "tool":
        _add_names(message, turn, at)
    return message


def _add_thought_and_calls(message: Message, turn: Turn, at: str, warn: Warn) -> None:
    for name in _THOUGHTS:
        thought = turn.get(name)
        if thought is not None and not isinstance(thought, str):
            raise BadRow("text-wanted", f"{at}.{name}", value=shown(thought))
        if thought:
            message["reasoning_content"] = thought
            break
    calls = calls_of_turn(turn, at, warn)
    if calls:
        message["tool_calls"] = calls


def _add_names(message: Message, turn: Turn, at: str) -> None:
    for name in ("name", "tool_call_id"):
        value = turn.get(name)
        if value is not None and not isinstance(value, str):
            raise BadRow("text-wanted", f"{at}.{name}", value=shown(value))
    if turn.get("name"):
        message["name"] = turn["name"]
    if turn.get("tool_call_id"):
        message["tool_call_id"] = turn["tool_call_id"]


def _content(value: Any, at: str, may_be_missing: bool) -> str:
    """Text as it stands, or the text parts of OpenAI's list of parts, joined."""
    if value is None and may_be_missing:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return "".join(_part(part, f"{at}[{number}]") for number, part in enumerate(value, 1))
    if not isinstance(value, str):
        raise BadRow("text-wanted", at, value=shown(value))
    return value


def _part(part: Any, at: str) -> str:
    if not isinstance(part, Mapping):
        raise BadRow("content-part", at, kind=shown(part))
    if part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise BadRow("content-part", at, kind=shown(part.get("type")))
    return str(part["text"])


def _weight(turn: Turn, at: str) -> int:
    """0 or 1, as the OpenAI fine-tuning API takes it; 1 where there is none."""
    weight = turn.get("weight")
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadRow("weight-wrong", f"{at}.weight", value=shown(weight))
    return int(weight)
