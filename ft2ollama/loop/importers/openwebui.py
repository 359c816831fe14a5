"""Open WebUI 0.12: ratings with their whole chats, and chats (models/feedbacks.py, chats.py).

In: feedback-history-export-*.json (a list of rows of table `feedback`, each with a snapshot of the
chat), chat-export-*.json, all-chats-export-*.json, or the NDJSON of /api/v1/chats/all.  Out: the
rated answer, or every answer on the branch that the person went on with, with the retrieved sources
and the rating. An answer that was made anew and left aside is rejected unless it is rated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    each,
    exchange,
    first,
    ms_of,
    raw_of,
    reject,
    string,
    text_of,
    thumb_of,
)  # fmt: skip
from ft2ollama.loop.importers.refused import Refused
from ft2ollama.loop.importers.rows import rows_of
from ft2ollama.loop.records import Exchange, Feedback

_ORIGIN = "openwebui"
_TOO_DEEP = 10_000


def _one(row: Any, place: str) -> Iterator[Item]:
    if "snapshot" in row or ("data" in row and "meta" in row and "chat" not in row):
        yield _rated(row, place)
    else:
        yield from _chat(row, place)


def _rated(row: Row, place: str) -> Item:
    """A row of table feedback."""
    meta, data = row.get("meta") or {}, row.get("data") or {}
    message_id, chat_id = string(meta.get("message_id")), string(meta.get("chat_id"))
    said = _feedback(data, row.get("user_id"), ms_of(first(row, "updated_at", "created_at")))
    named = tuple(_named(one, message_id, chat_id) for one in said) if message_id else ()
    chat = _history((row.get("snapshot") or {}).get("chat"))
    if chat is None:
        return reject(BadRow("openwebui-no-snapshot"), place, row, named)
    outside = {key: value for key, value in row.items() if key != "snapshot"}
    try:
        made = _answer(chat, message_id, chat_id, row.get("user_id"), outside,
                       ms_of(row.get("created_at")))  # fmt: skip
    except BadRow as error:
        return reject(error, place, outside, named)
    return Record(place, made, tuple(said))


def _chat(row: Row, place: str) -> Iterator[Item]:
    """A chat: the answers of the current branch, and rated ones of the others."""
    chat = _history(row)
    if chat is None:
        raise BadRow("openwebui-no-history")
    history = chat["history"]
    messages, chat_id = history["messages"], string(first(row, "id", "chat_id"))
    current = set(_path(messages, string(history.get("currentId"))))
    outside = {key: value for key, value in row.items() if key != "chat"}
    for message_id, message in messages.items():
        if message.get("role") != "assistant":
            continue
        said = _feedback(message.get("annotation") or {}, row.get("user_id"),
                         ms_of(message.get("timestamp")))  # fmt: skip
        try:
            if current and message_id not in current and not said:
                raise BadRow("other-branch")
            made = _answer(chat, message_id, chat_id, row.get("user_id"), outside,
                           ms_of(row.get("created_at")))  # fmt: skip
            yield Record(f"{place}: {message_id}", made, tuple(said))
        except BadRow as error:
            named = [_named(one, message_id, chat_id) for one in said if chat_id]
            yield reject(error, f"{place}: {message_id}", message, named)


def _answer(
    chat: Row, message_id: str, chat_id: str, user: Any, outside: Row, created: int
) -> Exchange:
    messages = chat["history"]["messages"]
    message = messages.get(message_id)
    if not isinstance(message, Mapping) or message.get("role") != "assistant":
        raise BadRow("openwebui-no-message", message=message_id)
    if message.get("error"):
        raise BadRow("answer-error", reason=str(message["error"])[:200])
    if message.get("done") is False:
        raise BadRow("answer-unfinished")
    before = [messages[key] for key in _path(messages, message_id)[1:]][::-1]
    system = text_of(first(chat.get("params") or {}, "system") or chat.get("system"))
    asked = [{"role": "system", "content": system}] if system.strip() else []
    for turn in before:
        if turn.get("role") in ("system", "user", "assistant"):
            asked.append({"role": turn["role"], "content": text_of(turn.get("content"))})
    contexts = list(_sources(message.get("sources") or message.get("citations")))
    return exchange(
        asked, text_of(message.get("content")), contexts=contexts,
        context_extractor="openwebui-sources" if contexts else "",
        ext_id=message_id, message_id=message_id, chat_id=chat_id,
        model=string(first(message, "model", "selectedModelId")), user_hmac=hmac_user(string(user)),
        ts_ms=ms_of(message.get("timestamp")) or created, usage=message.get("usage") or {},
        raw=raw_of({"row": outside, "message": message}),
    )  # fmt: skip


def _history(chat: Any) -> Row | None:
    """The object with the history; exports nest `chat` in `chat`, once or twice."""
    for _ in range(4):
        if not isinstance(chat, Mapping):
            return None
        history = chat.get("history")
        if isinstance(history, Mapping) and isinstance(history.get("messages"), Mapping):
            return chat
        chat = chat.get("chat")
    return None


def _path(messages: Row, last: str) -> list[str]:
    """Ids from a message to the first one. Raises BadRow when the parents run in a circle."""
    found: list[str] = []
    while last and last in messages:
        if last in found[-_TOO_DEEP:]:
            raise BadRow("openwebui-circle", message=last)
        found.append(last)
        last = string(messages[last].get("parentId"))
    return found


def _sources(sources: Any) -> Iterator[dict[str, Any]]:
    """[{"source": {"name"}, "document": [text], "metadata": [{}], "distances": [score]}]."""
    for source in sources if isinstance(sources, list) else ():
        about, documents = source.get("source") or {}, source.get("document") or ()
        scores, notes = source.get("distances") or (), source.get("metadata") or ()
        for number, text in enumerate(documents):
            if not isinstance(text, str) or not text.strip():
                continue
            note = notes[number] if number < len(notes) and notes[number] else {}
            name = first(note, "name", "source") or first(about, "name", "id")
            one: dict[str, Any] = {"text": text}
            if name:
                one["source"] = string(name)
            if number < len(scores) and isinstance(scores[number], int | float):
                one["score"] = scores[number]
            yield one


def _feedback(data: Row, user: Any, ts_ms: int) -> list[Feedback]:
    """rating 1 or -1, details.rating 1 to 10, a reason and a comment."""
    who = hmac_user(string(user))
    found = []
    if (thumb := thumb_of(data.get("rating"))) is not None:
        found.append(Feedback("thumb", ts_ms, _ORIGIN, value=thumb, actor_hmac=who))
    score = (data.get("details") or {}).get("rating")
    if isinstance(score, int | float) and not isinstance(score, bool):
        found.append(Feedback("score", ts_ms, _ORIGIN, value=float(score), actor_hmac=who))
    words = ": ".join(filter(None, (string(data.get("reason")), string(data.get("comment")))))
    if words:
        found.append(Feedback("comment", ts_ms, _ORIGIN, text=words, actor_hmac=who))
    return found


def _named(said: Feedback, message_id: str, chat_id: str) -> Feedback:
    return Feedback(said.kind, said.ts_ms, said.origin, chat_id=chat_id, message_id=message_id,
                    value=said.value, text=said.text, actor_hmac=said.actor_hmac)  # fmt: skip


def read(path: Path) -> Iterator[Item]:
    """Rows of either export. Raises Refused for the CSV, which holds no text."""
    if path.suffix.lower() in (".csv", ".tsv"):
        raise Refused("openwebui-csv", str(path))
    return each(rows_of(path), _one)


_CSV = {"rating", "model_id", "chat_id", "message_id"}


def _sniff(head: Head) -> Sniff:
    fields = head.fields
    if {"snapshot", "data", "meta"} <= fields:
        return Sniff(95, "data, meta, snapshot: a feedback export")
    if head.suffix == ".csv":
        flat = {name.rpartition(".")[2] for name in fields}
        found = "rating" in flat and len(flat & (_CSV | {"user_id", "reason", "comment"})) >= 4
        dify = "ai_response" in fields
        return (
            Sniff(85, "rating and ids without text: a feedback CSV")
            if found and not dify
            else Sniff()
        )
    if any(isinstance(row, Mapping) and _history(row) is not None for row in head.rows):
        return Sniff(95, "chat.history.messages")
    return Sniff()


OPENWEBUI = Importer("openwebui", _sniff, read)
