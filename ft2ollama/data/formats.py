"""Rows of a data file -> conversations; the format is detected from the keys and said.

| format | a row has |
|---|---|
| sharegpt | `conversations`: [{from, value}], or the columns and tags of dataset_info.json |
| alpaca | instruction, input, output, optional system and history |
| messages | `messages`: [{role, content}], as the OpenAI fine-tuning API takes them |

The first two and dataset_info.json are as LLaMA-Factory's data/README.md describes them.

A row that cannot be trained on is a problem with its place; problems are collected, never skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ft2ollama.data.conversation import Conversation, Message, Role
from ft2ollama.data.problems import BadRow

Row = Mapping[str, Any]

ROLES: Mapping[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}


_TAGS: tuple[tuple[str, str, Role], ...] = (
    ("user_tag", "human", "user"),
    ("assistant_tag", "gpt", "assistant"),
    ("system_tag", "system", "system"),
)


@dataclass(frozen=True)
class Columns:
    """What dataset_info.json says of a file; the defaults are LLaMA-Factory's."""

    formatting: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def detect_format(row: Row, columns: Columns) -> str:
    """`sharegpt`, `alpaca` or `messages`: as dataset_info.json says, else from the keys."""
    named = {"sharegpt": "sharegpt", "alpaca": "alpaca", "openai": "messages"}
    if columns.formatting in named:
        return named[columns.formatting]
    if "conversations" in row or columns.columns.get("messages") in row:
        return "sharegpt"
    if "messages" in row:
        return "messages"
    if columns.columns.get("prompt", "instruction") in row:
        return "alpaca"
    raise BadRow("row-no-format", fields=", ".join(map(str, row)) or "-")


def to_conversation(row: Any, columns: Columns, place: str) -> Conversation:
    """One row as a conversation; raises BadRow with the field and the reason."""
    if not isinstance(row, Mapping):
        raise BadRow("row-not-object", kind=type(row).__name__)
    kind = detect_format(row, columns)
    if kind == "alpaca":
        messages = _alpaca(row, columns)
    elif kind == "messages":
        messages = _turns(row, columns.columns.get("messages", "messages"), "role", "content", {})
    else:
        messages = _sharegpt(row, columns)
    _check_order(messages)
    return Conversation(tuple(messages), place)


def _sharegpt(row: Row, columns: Columns) -> list[Message]:
    tags = columns.tags
    roles: dict[str, Role] = {tags.get(key, default): role for key, default, role in _TAGS}
    key = columns.columns.get("messages", "conversations")
    messages = _turns(
        row, key, tags.get("role_tag", "from"), tags.get("content_tag", "value"), roles
    )
    return _with_system(messages, _optional(row, columns.columns.get("system", "system")))


def _turns(
    row: Row, key: str, role_tag: str, content_tag: str, roles: Mapping[str, Role]
) -> list[Message]:
    turns = row.get(key)
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise BadRow("turns-wanted", key, value=f"{turns!r:.60}")
    known = {**ROLES, **roles}
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or role_tag not in turn or content_tag not in turn:
            raise BadRow(
                "turn-keys",
                f"{key}[{number}]",
                role_tag=role_tag,
                content_tag=content_tag,
                value=f"{turn!r:.60}",
            )
        role, content = turn[role_tag], turn[content_tag]
        if role not in known:
            raise BadRow(
                "role-unknown",
                f"{key}[{number}].{role_tag}",
                role=f"{role!r:.60}",
                known=", ".join(known),
            )
        if not isinstance(content, str):
            raise BadRow("text-wanted", f"{key}[{number}].{content_tag}", value=f"{content!r:.60}")
        messages.append({"role": known[role], "content": content})
    return messages


def _alpaca(row: Row, columns: Columns) -> list[Message]:
    def column(key: str, default: str) -> str:
        return columns.columns.get(key, default)

    prompt = _text(row, column("prompt", "instruction"))
    query = _optional(row, column("query", "input"))
    messages: list[Message] = []
    history = row.get(column("history", "history")) or []
    for number, pair in enumerate(history, 1):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise BadRow("history-pair", f"history[{number}]", value=f"{pair!r:.60}")
        messages += [
            {"role": "user", "content": str(pair[0])},
            {"role": "assistant", "content": str(pair[1])},
        ]
    # LLaMA-Factory joins them by a newline (data/converter.py, AlpacaDatasetConverter).
    messages += [
        {"role": "user", "content": f"{prompt}\n{query}" if query else prompt},
        {"role": "assistant", "content": _text(row, column("response", "output"))},
    ]
    return _with_system(messages, _optional(row, column("system", "system")))


def _with_system(messages: list[Message], system: str) -> list[Message]:
    return [{"role": "system", "content": system}, *messages] if system else messages


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise BadRow("text-wanted", key, value=f"{value!r:.60}")
    if not value:
        raise BadRow("text-empty", key)
    return value


def _optional(row: Row, key: str) -> str:
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    raise BadRow("text-wanted", key, value=f"{value!r:.60}")


def _check_order(messages: Sequence[Message]) -> None:
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        raise BadRow("system-not-first")
    turns = roles[1:] if roles[:1] == ["system"] else roles
    wanted = ["user", "assistant"] * (len(turns) // 2)
    if not turns or turns != wanted:
        raise BadRow("role-order", roles=", ".join(roles))
    for number, message in enumerate(messages, 1):
        if message["role"] == "assistant" and not message["content"].strip():
            raise BadRow("answer-empty", f"turn {number}")
