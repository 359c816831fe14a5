"""Dify: annotations, the export of feedback, and messages fetched from its service API.

In: annotations as CSV (Question,Answer or 问题,答案) or {"data": [...]}, answers that people wrote;
the feedback export (CSV or {"feedback_data": [...]}), whose `ai_response` is cut to 500 characters
and "..." (api/services/feedback_service.py): such a row is refused as an answer and used as a
rating; messages of GET /v1/messages, which are whole and have the retrieved pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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
    Said,
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

CUT_TO = 500
_CUT_END = "..."
_QUESTIONS = ("question", "Question", "问题")
_ANSWERS = ("answer", "Answer", "答案")


def is_cut(answer: str) -> bool:
    """Whether Dify's feedback export cut it."""
    return len(answer) == CUT_TO + len(_CUT_END) and answer.endswith(_CUT_END)


def _annotation(row: Any, place: str) -> Iterator[Item]:
    question, answer = first(row, *_QUESTIONS), first(row, *_ANSWERS)
    if question is None or answer is None:
        raise BadRow("no-question" if question is None else "no-answer")
    asked = [{"role": "user", "content": str(question)}]
    made = exchange(
        asked, str(answer), origin="human", ext_id=string(row.get("id")),
        ts_ms=ms_of(row.get("created_at")), raw=raw_of(row),
    )  # fmt: skip
    yield Record(place, made)


def _feedback_row(row: Any, place: str) -> Iterator[Item]:
    said = tuple(_said(row))
    answer = string(row.get("ai_response"))
    try:
        if is_cut(answer):
            raise BadRow("dify-cut")
        asked = [{"role": "user", "content": string(row.get("user_query"))}]
        made = exchange(
            asked, answer, raw=raw_of(row), message_id=string(row.get("message_id")),
            ext_id=string(row.get("message_id")), chat_id=string(row.get("conversation_id")),
            ts_ms=ms_of(row.get("message_date")),
            user_hmac=hmac_user(string(row.get("from_end_user_id"))),
        )  # fmt: skip
        yield Record(place, made, said)
    except BadRow as error:
        yield reject(error, place, row, said)


def _said(row: Row) -> Iterator[Feedback]:
    who = hmac_user(string(first(row, "from_end_user_id", "from_account_name")))
    common: dict[str, Any] = {
        "ts_ms": ms_of(first(row, "feedback_date", "message_date")), "origin": "dify",
        "message_id": string(row.get("message_id")), "chat_id": string(row.get("conversation_id")),
        "actor_hmac": who,
    }  # fmt: skip
    if not common["message_id"]:
        return
    thumb = thumb_of(first(row, "feedback_rating_raw", "feedback_rating"))
    if thumb is not None:
        yield Feedback("thumb", value=thumb, **common)
    if comment := string(row.get("feedback_comment")):
        yield Feedback("comment", text=comment, **common)


def _message(row: Any, place: str) -> Iterator[Item]:
    """A message of the service API, or a row of /v1/app/feedbacks."""
    if "answer" not in row and "message_id" in row:
        said = [*_api_feedback(row)]
        if not said:
            raise BadRow("no-opinion")
        yield Said(place, tuple(said), raw_of(row))
        return
    if row.get("status") == "error" or row.get("error"):
        raise BadRow("answer-error", reason=string(row.get("error"))[:200] or "status: error")
    contexts = contexts_of(row.get("retriever_resources"))
    made = exchange(
        [{"role": "user", "content": string(row.get("query"))}], string(row.get("answer")),
        contexts=contexts, context_extractor="dify-resources" if contexts else "",
        ext_id=string(row.get("id")), message_id=string(row.get("id")),
        chat_id=string(row.get("conversation_id")), ts_ms=ms_of(row.get("created_at")),
        raw=raw_of(row),
    )  # fmt: skip
    rating = thumb_of((row.get("feedback") or {}).get("rating"))
    said = [Feedback("thumb", made.ts_ms, "dify", value=rating)] if rating is not None else []
    yield Record(place, made, tuple(said))


def _api_feedback(row: Row) -> Iterator[Feedback]:
    who = hmac_user(string(first(row, "from_end_user_id", "from_account_id")))
    ts_ms = ms_of(first(row, "updated_at", "created_at"))
    base = Feedback("thumb", ts_ms, "dify", message_id=string(row["message_id"]), actor_hmac=who)
    if (thumb := thumb_of(row.get("rating"))) is not None:
        yield replace(base, value=thumb)
    if content := string(row.get("content")):
        yield replace(base, kind="comment", text=content)


def read_annotations(path: Path) -> Iterator[Item]:
    """Question and answer as people wrote them."""
    return each(rows_of(path), _annotation)


def read_feedback(path: Path) -> Iterator[Item]:
    """The feedback export."""
    return each(rows_of(path), _feedback_row)


def read_messages(path: Path) -> Iterator[Item]:
    """What `dify_api.fetch` wrote, or pages of the API saved by hand."""
    return each(rows_of(path), _message)


def _sniff_annotations(head: Head) -> Sniff:
    fields = head.fields
    if {"question", "answer", "hit_count"} <= fields:
        return Sniff(95, "question, answer, hit_count")
    for pair in (("Question", "Answer"), ("问题", "答案")):
        if fields == set(pair) and head.suffix == ".csv":
            return Sniff(80, f"a CSV of {pair[0]},{pair[1]}")
    return Sniff()


def _sniff_feedback(head: Head) -> Sniff:
    if {"user_query", "ai_response"} <= head.fields or "feedback_data" in head.wrapper:
        return Sniff(95, "user_query, ai_response")
    return Sniff()


def _sniff_messages(head: Head) -> Sniff:
    fields = head.fields
    if "conversation_id" in fields and {"query", "answer"} <= fields:
        return Sniff(90, "conversation_id, query, answer")
    rated = {"message_id", "rating", "from_source"} <= fields
    return Sniff(90, "message_id, rating, from_source") if rated else Sniff()


ANNOTATIONS = Importer("dify-annotations", _sniff_annotations, read_annotations)
FEEDBACK = Importer("dify-feedback", _sniff_feedback, read_feedback)
MESSAGES = Importer("dify-api", _sniff_messages, read_messages)
