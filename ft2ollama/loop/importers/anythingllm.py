"""AnythingLLM: its database, and those of its exports that keep what was said apart.

In: storage/anythingllm.db (table workspace_chats; the only place with both sources and ratings); or
an export of `convertTo.js`: json, jsonAlpaca. Its jsonl joins all chats of a workspace, of all
people and threads, to one conversation: rows with several questions are refused. Its CSV has no
line breaks left in the answers: refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ft2ollama.data.placed import Placed
from ft2ollama.data.problems import BadFile, BadRow
from ft2ollama.loop.identity import hmac_user
from ft2ollama.loop.importers.base import (
    Head,
    Importer,
    Item,
    Record,
    Reject,
    Sniff,
    contexts_of,
    decoded,
    each,
    exchange,
    ms_of,
    raw_of,
    string,
    thumb_of,
)  # fmt: skip
from ft2ollama.loop.importers.openai import answers_of, is_its_system, is_lump
from ft2ollama.loop.importers.refused import Refused
from ft2ollama.loop.importers.rows import is_sqlite, rows_of
from ft2ollama.loop.records import Feedback

_ORIGIN = "anythingllm"
_CONTEXT = "\nContext:\n[CONTEXT 0]:"


def _stored(row: Any, place: str) -> Iterator[Item]:
    """A row of workspace_chats."""
    response = decoded(row["response"])
    if not isinstance(response, dict):
        raise BadRow("row-shape", reason="response is no JSON object")
    ts_ms = ms_of(row.get("createdAt"))
    user = string(row.get("user_id"))
    contexts = contexts_of(response.get("sources"))
    session = string(row.get("thread_id")) or string(row.get("api_session_id"))
    made = exchange(
        [{"role": "user", "content": string(row["prompt"])}], string(response.get("text")),
        contexts=contexts, context_extractor="anythingllm-sources" if contexts else "",
        ext_id=string(row["id"]), message_id=string(row["id"]), ts_ms=ts_ms,
        chat_id=f"{string(row.get('workspaceId'))}/{session}", user_hmac=hmac_user(user),
        usage=response.get("metrics") or {},
        raw=raw_of({**row, "response": {k: v for k, v in response.items() if k != "text"}}),
    )  # fmt: skip
    thumb = thumb_of(row.get("feedbackScore"))
    if row.get("feedbackScore") == 0:
        thumb = -1.0  # SQLite writes false as 0
    said = [Feedback("thumb", ts_ms, _ORIGIN, value=thumb)] if thumb is not None else []
    yield Record(place, made, tuple(said))


def _exported(row: Any, place: str) -> Iterator[Item]:
    if "messages" in row:
        if is_lump(row) or sum(turn.get("role") == "user" for turn in row["messages"]) > 1:
            yield Reject(place, "anythingllm-lump", {"turns": len(row["messages"])}, raw_of(row))
        else:
            yield from answers_of(row, place)
        return
    ts_ms = ms_of(row.get("sent_at"))
    if "instruction" in row:
        turns = [("system", row["instruction"]), ("user", row.get("input")), ("", row["output"])]
    else:
        turns = [("system", ""), ("user", row["prompt"]), ("", row["response"])]
    asked = [{"role": role, "content": string(text)} for role, text in turns if role]
    made = exchange(
        asked, string(turns[-1][1]), ext_id=string(row.get("id")), ts_ms=ts_ms,
        message_id=string(row.get("id")), user_hmac=hmac_user(string(row.get("username"))),
        raw=raw_of(row),
    )  # fmt: skip
    thumb = thumb_of(row.get("rating"))
    said = [Feedback("thumb", ts_ms, _ORIGIN, value=thumb)] if thumb is not None else []
    yield Record(place, made, tuple(said))


def _chats(path: Path) -> Iterator[Placed]:
    """Rows of the table, by id. Raises BadFile for another database."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            for row in connection.execute("SELECT * FROM workspace_chats ORDER BY id"):
                yield Placed(f"{path}: workspace_chats id {row['id']}", dict(row))
        except sqlite3.Error as error:
            raise BadFile("file-unreadable", str(path), reason=error) from None


def read(path: Path) -> Iterator[Item]:
    """Rows of the database or of an export. Raises Refused for the CSV."""
    if is_sqlite(path):
        return each(_chats(path), _stored)
    if path.suffix.lower() in (".csv", ".tsv"):
        raise Refused("anythingllm-csv", str(path))
    return each(rows_of(path), _exported)


def _has_chats(path: Path) -> bool:
    asked = "SELECT 1 FROM sqlite_master WHERE name = 'workspace_chats'"
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(asked).fetchone() is not None
    except sqlite3.Error:
        return False


def _sniff(head: Head) -> Sniff:
    if head.sqlite:
        return Sniff(95, "table workspace_chats") if _has_chats(head.path) else Sniff()
    fields, rows = head.fields, [row for row in head.rows if isinstance(row, dict)]
    if {"prompt", "response", "workspace"} <= fields and fields & {"sent_at", "rating"}:
        return Sniff(90, "workspace, prompt, response, rating")
    if any(_CONTEXT in string(row.get("instruction")) for row in rows):
        return Sniff(90, "instruction with [CONTEXT 0]")
    turns = [row["messages"][0] for row in rows if row.get("messages")]
    if any(is_its_system(turn) for turn in turns):
        return Sniff(85, "the system prompt of AnythingLLM")
    return Sniff()


ANYTHINGLLM = Importer("anythingllm", _sniff, read)
