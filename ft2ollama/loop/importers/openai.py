"""OpenAI messages and the training files of LLaMA-Factory: one record for each answer to learn.

In: rows of {"messages": [...]} (also Dify's annotation JSONL, LangSmith, Phoenix, Helicone,
OpenPipe), preference pairs ({"input", "preferred_output", "non_preferred_output"}: the preferred
one), alpaca and sharegpt. Read by data/formats, which `ft2ollama train` uses too.  Out: answers
with the conversation before them; a turn of weight 0 is only history. People gave these files as
right answers: their origin is `human` (`--origin model` says otherwise).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.formats import Columns, detect_format, to_conversation
from ft2ollama.data.problems import BadRow
from ft2ollama.loop.importers.base import (
    Head,
    Importer,
    Item,
    Record,
    Reject,
    Row,
    Sniff,
    each,
    exchange,
    first,
    ms_of,
    raw_of,
    reject,
    string,
    text_of,
)  # fmt: skip
from ft2ollama.loop.importers.rows import rows_of

# How AnythingLLM's own system prompt begins (server/models/systemSettings.js).
ANYTHINGLLM_SYSTEM = "Given the following conversation, relevant context, and a follow up question"
_TURNS = ("user", "assistant", "system", "developer", "tool")


def answers_of(row: Row, place: str) -> Iterator[Item]:
    """A record for each answer that is learned; a Reject for one that cannot be."""
    prepared = _prepared(row)
    talk = to_conversation(prepared, Columns(), place)
    learned = [
        index for index, turn in enumerate(talk.messages)
        if turn["role"] == "assistant" and index not in talk.unlearned
    ]  # fmt: skip
    raw = raw_of(row)
    for number, index in enumerate(learned):
        try:
            yield Record(place, _record(row, talk, index, raw if not number else ""))
        except BadRow as error:
            yield reject(error, place, row)


def _record(row: Row, talk: Conversation, index: int, raw: str) -> Any:
    turn = talk.messages[index]
    return exchange(
        talk.messages[:index], turn["content"],
        tool_calls=turn.get("tool_calls", ()), tools=talk.tools, origin="human", raw=raw,
        thinking=turn.get("reasoning_content", ""),
        ts_ms=ms_of(first(row, "created_at", "created", "timestamp")),
        model=string(row.get("model")),
    )  # fmt: skip


def _prepared(row: Row) -> Row:
    """The row as data/formats reads it: the preferred answer of a pair, no empty system turn."""
    if "preferred_output" in row:
        given, better = row.get("input"), row["preferred_output"]
        if not isinstance(given, Mapping) or not isinstance(better, list):
            raise BadRow("row-shape", reason="input or preferred_output")
        row = {**given, "messages": [*given.get("messages", ()), *better]}
    for key in ("messages", "conversations"):
        turns = row.get(key)
        if isinstance(turns, list):
            row = {**row, key: [turn for turn in turns if not _is_empty_system(turn)]}
    return row


def _is_empty_system(turn: Any) -> bool:
    if not isinstance(turn, Mapping) or first(turn, "role", "from") not in ("system", "developer"):
        return False
    return not text_of(turn.get("content", turn.get("value"))).strip()


def _openai(row: Any, place: str) -> Iterator[Item]:
    if not isinstance(row, Mapping):
        raise BadRow("row-shape", reason=type(row).__name__)
    if is_lump(row):
        yield Reject(place, "anythingllm-lump", {"turns": _questions(row)}, raw_of(row))
        return
    yield from answers_of(row, place)


def is_lump(row: Row) -> bool:
    """AnythingLLM's jsonl: a whole workspace, of all people and threads, as one conversation."""
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns:
        return False
    return is_its_system(turns[0]) and _questions(row) > 1


def is_its_system(turn: Any) -> bool:
    """Whether a turn is AnythingLLM's own system prompt, as text or in parts."""
    content = turn.get("content") if isinstance(turn, Mapping) else None
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        content = content[0].get("text")
    return isinstance(content, str) and content.startswith(ANYTHINGLLM_SYSTEM)


def _questions(row: Row) -> int:
    turns = row.get("messages") or ()
    return sum(isinstance(turn, Mapping) and turn.get("role") == "user" for turn in turns)


def read_openai(path: Path) -> Iterator[Item]:
    """Rows of messages."""
    return each(rows_of(path), _openai)


def read_training(path: Path) -> Iterator[Item]:
    """Rows of alpaca, sharegpt or pairs."""
    return each(rows_of(path), answers_of)


def _sniff_openai(head: Head) -> Sniff:
    if "preferred_output" in head.fields:
        return Sniff(95, "preferred_output")
    if "messages" in head.fields and not head.fields & {"response", "reference", "input", "output"}:
        return Sniff(70, "messages: [{role, content}]")
    return Sniff()


def _sniff_alpaca(head: Head) -> Sniff:
    found = {"instruction", "output"} <= head.fields
    return Sniff(80, "instruction, output") if found else Sniff()


def _sniff_sharegpt(head: Head) -> Sniff:
    return Sniff(80, "conversations") if "conversations" in head.fields else Sniff()


def _sniff_pairs(head: Head) -> Sniff:
    try:
        kind = detect_format(dict.fromkeys(head.fields), Columns())
    except BadRow:
        return Sniff()
    return Sniff(60, ", ".join(sorted(head.fields))) if kind == "pairs" else Sniff()


OPENAI = Importer("openai-messages", _sniff_openai, read_openai)
ALPACA = Importer("alpaca", _sniff_alpaca, read_training)
SHAREGPT = Importer("sharegpt", _sniff_sharegpt, read_training)
PAIRS = Importer("pairs", _sniff_pairs, read_training)
