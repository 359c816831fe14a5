"""RAGFlow: the sessions of a chat (GET /api/v1/chats/{id}/sessions).

In: {"data": [session]}.  Out: an answer for each turn. Message 0 is the greeting; the contexts of
assistant message i are reference[(i - 1) // 2]. The sentence of a failed search is a refusal and
`**ERROR**` no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft2ollama.data.problems import BadRow
from ft2ollama.loop.identity import hmac_user
from ft2ollama.loop.importers.base import (
    Head,
    Importer,
    Item,
    Record,
    Row,
    Sniff,
    contexts_of,
    each,
    exchange,
    first,
    ms_of,
    raw_of,
    reject,
    string,
    thumb_of,
)  # fmt: skip
from ft2ollama.loop.importers.rows import rows_of
from ft2ollama.loop.records import Feedback

_NOT_FOUND = "The answer you are looking for is not found in the dataset"


def _session(row: Any, place: str) -> Iterator[Item]:
    messages = row["messages"]
    for index, message in enumerate(messages):
        if message.get("role") != "assistant" or not index:
            continue
        at = f"{place}: messages[{index}]"
        try:
            yield _turn(row, index, at)
        except BadRow as error:
            yield reject(error, at, message)


def _turn(row: Row, index: int, place: str) -> Item:
    messages, references = row["messages"], row.get("reference") or []
    message, answer = messages[index], string(messages[index].get("content"))
    if "**ERROR**" in answer:
        raise BadRow("answer-error", reason=answer[:200])
    if _NOT_FOUND in answer:
        raise BadRow("ragflow-not-found")
    number = (index - 1) // 2
    reference = references[number] if number < len(references) else {}
    chunks = reference.get("chunks") if isinstance(reference, dict) else reference
    start = 1 if messages[0].get("role") == "assistant" else 0
    asked = [{"role": turn["role"], "content": turn["content"]} for turn in messages[start:index]]
    contexts = contexts_of(chunks)
    turn_id = f"{string(message.get('id'))}-{index}"  # both halves of a turn have one id
    made = exchange(
        asked, answer, contexts=contexts, context_extractor="ragflow-chunks" if contexts else "",
        ext_id=turn_id, message_id=string(message.get("id")), chat_id=string(row.get("id")),
        user_hmac=hmac_user(string(row.get("user_id"))),
        ts_ms=ms_of(first(row, "create_time", "update_time")),
        raw=raw_of({"row": {k: v for k, v in row.items() if k not in ("messages", "reference")},
                    "message": message}),
    )  # fmt: skip
    said = []
    if (thumb := thumb_of(message.get("thumbup"))) is not None:
        said.append(Feedback("thumb", made.ts_ms, "ragflow", value=thumb))
    if words := string(message.get("feedback")):
        said.append(Feedback("comment", made.ts_ms, "ragflow", text=words))
    return Record(place, made, tuple(said))


def read(path: Path) -> Iterator[Item]:
    """Turns of every session."""
    return each(rows_of(path), _session)


def _sniff(head: Head) -> Sniff:
    if {"messages", "reference"} <= head.fields and head.fields & {"chat_id", "user_id", "name"}:
        return Sniff(95, "messages, reference, chat_id: sessions")
    return Sniff()


RAGFLOW = Importer("ragflow", _sniff, read)
