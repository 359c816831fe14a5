"""Rows of a data file -> conversations; the format is detected from the fields and said.

| format | a row has |
|---|---|
| sharegpt | `conversations`: [{from, value}], or the columns and tags of dataset_info.json |
| messages | `messages`: [{role, content}], as the OpenAI fine-tuning API takes them |
| turns | no fields at all: the row is the list of turns itself |
| alpaca | instruction, input, output, optional system and history |
| pairs | a question and an answer: prompt and response, prompt and completion, ... |

alpaca, sharegpt and dataset_info.json are as LLaMA-Factory's data/README.md describes them; a
`tools` field goes with every format, and so does `metadata` (OpenAI's), which is about the row and
is not learned. A row that cannot be trained on is a problem with its place;
what was understood and yet looks wrong is told to `warn`. Nothing is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ft2ollama.config.expects import did_you_mean, shown
from ft2ollama.data.conversation import Conversation, Message
from ft2ollama.data.order import check_order
from ft2ollama.data.problems import BadRow, Warn, unsaid
from ft2ollama.data.tools import read_tools
from ft2ollama.data.turn_lists import Talk, is_turn, read_turns

Row = Mapping[str, Any]

# What LLaMA-Factory calls a column -> its name in the file unless dataset_info.json says otherwise.
COLUMNS: Mapping[str, str] = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "messages": "conversations",
    "system": "system",
    "tools": "tools",
}
_LISTS = ("conversations", "messages")
_PAIRS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
    ("Question", "Answer"),
    ("问题", "答案"),
    ("问题", "回答"),
)
_EXTRA = frozenset({"system", "tools", "functions", "parallel_tool_calls", "metadata"})
# Fields of rows that are for something else than sft on text -> the problem.
_OTHERS = {
    **dict.fromkeys(("images", "image", "videos", "video", "audios", "audio"), "row-media"),
    **dict.fromkeys(
        ("chosen", "rejected", "chosen_messages", "rejected_messages"), "row-preference"
    ),
    **dict.fromkeys(("label", "kto_tag"), "row-disliked"),
}
_FORMATS = {"sharegpt": "sharegpt", "alpaca": "alpaca", "openai": "messages"}


@dataclass(frozen=True)
class Columns:
    """What dataset_info.json says of a file; what it leaves out keeps LLaMA-Factory's default."""

    formatting: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def name(self, column: str) -> str:
        """The field of a row that holds a column."""
        return self.columns.get(column, COLUMNS[column])


def detect_format(row: Any, columns: Columns) -> str:
    """One of the formats above: as dataset_info.json says, else from the fields of the row."""
    if isinstance(row, Sequence) and any(isinstance(turn, Mapping) for turn in row):
        return "turns"
    if not isinstance(row, Mapping):
        raise BadRow("row-not-object", value=shown(row))
    if columns.formatting in _FORMATS:
        return _FORMATS[columns.formatting]
    if "conversations" in row or columns.columns.get("messages") in row:
        return "sharegpt"
    if "messages" in row:
        return "messages"
    if columns.name("prompt") in row:
        return "alpaca"
    if _pair(row):
        return "pairs"
    if is_turn(row):
        raise BadRow("row-is-turn", value=shown(next(iter(row.values()))))
    fields = ", ".join(map(str, row)) or "-"
    near = [did_you_mean(str(name), (*_LISTS, *COLUMNS.values())) for name in row]
    hint = next(filter(None, near), "")
    raise BadRow("row-format-near" if hint else "row-no-format", fields=fields, near=hint)


def fields_read(kind: str, columns: Columns) -> frozenset[str]:
    """The fields that a format reads; the others of a row are left alone."""
    named = {"system", "tools"}
    if kind == "alpaca":
        named |= {"prompt", "query", "response", "history"}
    fields = {columns.name(column) for column in named} | _EXTRA
    if kind == "pairs":
        fields |= {name for pair in _PAIRS for name in pair}
    elif kind != "alpaca":
        fields |= {*_LISTS, columns.name("messages")}
    return frozenset(fields)


def to_conversation(row: Any, columns: Columns, place: str, warn: Warn = unsaid) -> Conversation:
    """One row as a conversation; raises BadRow with the field and the reason."""
    fields: Row = row if isinstance(row, Mapping) else {}
    _refuse_other_kinds(fields, columns)
    kind = detect_format(row, columns)
    talk = _READERS[kind](row, columns, warn)
    messages = _with_system(talk.messages, _optional(fields, columns.name("system")))
    shift = len(messages) - len(talk.messages)
    unlearned = frozenset(index + shift for index in talk.unlearned)
    tools = read_tools(fields, columns.name("tools"))
    check_order(messages, unlearned, tools, warn)
    return Conversation(tuple(messages), place, tools, unlearned, _copy(fields))


def _copy(row: Row) -> int:
    """`metadata.copy`, which the loop writes where a row is to weigh more than others."""
    metadata = row.get("metadata")
    number = metadata.get("copy") if isinstance(metadata, Mapping) else None
    return number if isinstance(number, int) and number > 0 else 0


def _refuse_other_kinds(row: Row, columns: Columns) -> None:
    """Rows with images or sound, and answers that are marked better or worse (DPO, KTO).

    When dataset_info.json names one of them as a column of ours (response: chosen), all is said.
    """
    decided = {_OTHERS.get(name) for name in columns.columns.values()}
    for name, value in row.items():
        code = _OTHERS.get(name)
        asks = value is False if code == "row-disliked" else value
        if code and asks and code not in decided:
            raise BadRow(code, name)


def _list_of_turns(row: Row, columns: Columns, warn: Warn) -> Talk:
    names = (columns.name("messages"), *_LISTS)
    key = next((name for name in names if name in row), names[0])
    if key not in row:
        raise _no_field(row, "messages", key)
    return read_turns(_decoded(row[key]), key, columns.tags, warn)


def _bare_turns(row: Any, columns: Columns, warn: Warn) -> Talk:
    return read_turns(row, "turns", columns.tags, warn)


def _alpaca(row: Row, columns: Columns, _warn: Warn) -> Talk:
    prompt, query, response, history = map(columns.name, ("prompt", "query", "response", "history"))
    for column in ("prompt", "response"):
        if columns.name(column) not in row:
            raise _no_field(row, column, columns.name(column))
    messages: list[Message] = []
    for number, pair in enumerate(_list(row, history), 1):
        messages += _exchange(*_history_pair(pair, f"{history}[{number}]"))
    # LLaMA-Factory joins them by a newline (data/converter.py, AlpacaDatasetConverter).
    question = "\n".join(filter(None, (_optional(row, prompt), _optional(row, query))))
    if not question:
        raise BadRow("text-empty", prompt)
    return Talk([*messages, *_exchange(question, _text(row, response))])


def _pairs(row: Row, columns: Columns, warn: Warn) -> Talk:
    """A question and an answer; each may also be a list of turns, of which the answer is learned.

    TRL calls that conversational prompt-completion, and learns the completion only.
    """
    left, right = _pair(row) or _PAIRS[0]
    if not isinstance(row[left], (list, tuple)):
        return Talk(_exchange(_text(row, left), _text(row, right)))
    prompt = read_turns(row[left], left, columns.tags, warn)
    answer = read_turns(row[right], right, columns.tags, warn)
    unlearned = {i for i, turn in enumerate(prompt.messages) if turn["role"] == "assistant"}
    unlearned |= {index + len(prompt.messages) for index in answer.unlearned}
    return Talk([*prompt.messages, *answer.messages], unlearned)


_READERS = {
    "sharegpt": _list_of_turns,
    "messages": _list_of_turns,
    "turns": _bare_turns,
    "alpaca": _alpaca,
    "pairs": _pairs,
}


def _pair(row: Row) -> tuple[str, str] | None:
    """The fields of a question and its answer."""
    return next((pair for pair in _PAIRS if pair[0] in row and pair[1] in row), None)


def _exchange(question: str, answer: str) -> list[Message]:
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


def _history_pair(pair: Any, key: str) -> tuple[str, str]:
    if isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2:
        question, answer = pair
        if isinstance(question, str) and isinstance(answer, str):
            return question, answer
    raise BadRow("history-pair", key, value=shown(pair))


def _with_system(messages: list[Message], system: str) -> list[Message]:
    """The system column in front; a system turn that says something else is a contradiction."""
    if not system:
        return messages
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"] != system:
            raise BadRow("system-twice", column=shown(system), turn=shown(messages[0]["content"]))
        return messages
    return [{"role": "system", "content": system}, *messages]


def _no_field(row: Row, column: str, key: str) -> BadRow:
    near = did_you_mean(key, map(str, row)) or next(
        (name for name in map(str, row) if did_you_mean(name, [key])), ""
    )
    fields = ", ".join(map(str, row)) or "-"
    return BadRow("field-missing", key, column=column, fields=fields, near=near or "FIELD")


def _decoded(value: Any) -> Any:
    """A list; in the cell of a table it is JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _list(row: Row, key: str) -> Sequence[Any]:
    value = _decoded(row.get(key)) or []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise BadRow("history-list", key, value=shown(value))
    return value


def _text(row: Row, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise BadRow("text-wanted", key, value=shown(value))
    if not value:
        raise BadRow("text-empty", key)
    return value


def _optional(row: Row, key: str) -> str:
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    raise BadRow("text-wanted", key, value=shown(value))
