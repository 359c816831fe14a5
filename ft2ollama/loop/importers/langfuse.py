"""Langfuse: observations, scores and dataset items, as its UI and its blob storage export them.

In: JSON, JSONL or CSV.  Out: the output of each GENERATION, with the outputs of the RETRIEVER
observations of its trace as contexts; scores as feedback, a CorrectionScore's `stringValue` as the
corrected answer (its value is always 0); an item's expectedOutput as an answer people wrote. The
file is read twice: contexts may stand after the answer.
"""

from __future__ import annotations

from collections import defaultdict
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
    Said,
    Sniff,
    contexts_of,
    decoded,
    each,
    exchange,
    first,
    ms_of,
    raw_of,
    string,
    text_of,
)  # fmt: skip
from ft2ollama.loop.importers.rows import rows_of
from ft2ollama.loop.records import Feedback

_Contexts = Mapping[str, list[dict[str, Any]]]
_THUMBS = ("user-feedback", "user_feedback", "thumb", "thumbs", "feedback", "rating")


def read(path: Path) -> Iterator[Item]:
    """Rows of any of the three exports."""
    found = _retrieved(path)
    return each(rows_of(path), lambda row, place: _one(row, place, found))


def _retrieved(path: Path) -> _Contexts:
    """traceId -> what its RETRIEVER observations gave."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, row in rows_of(path):
        if isinstance(row, Mapping) and row.get("type") == "RETRIEVER":
            output = decoded(row.get("output"))
            if isinstance(output, Mapping):
                output = first(output, "documents", "chunks", "results", "contexts", "output")
            pieces = output if isinstance(output, list) else [output]
            found[string(_of(row, "traceId"))] += contexts_of(pieces)
    return found


def _of(row: Row, name: str) -> Any:
    """A field by its name in the API, or as the blob storage writes it (trace_id)."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return first(row, name, snake)


def _one(row: Any, place: str, contexts: _Contexts) -> Iterator[Item]:
    if "expectedOutput" in row or "expected_output" in row or _of(row, "datasetId"):
        yield from _item(row, place)
    elif "input" in row or "output" in row or "type" in row:
        yield from _observation(row, place, contexts)
    else:
        yield from _score(row, place)


def _observation(row: Row, place: str, contexts: _Contexts) -> Iterator[Item]:
    if row.get("type") != "GENERATION":
        raise BadRow("langfuse-no-generation", type=string(row.get("type")) or "-")
    if row.get("level") == "ERROR":
        raise BadRow(
            "answer-error", reason=string(_of(row, "statusMessage"))[:200] or "level: ERROR"
        )
    trace, found = string(_of(row, "traceId")), string(row.get("id"))
    output, calls = _output(row.get("output"))
    retrieved = contexts.get(trace, [])
    usage = decoded(_of(row, "usageDetails"))
    made = exchange(
        _messages(row.get("input")), output, tool_calls=calls, contexts=retrieved,
        context_extractor="langfuse-retriever" if retrieved else "", ext_id=found,
        message_id=found, chat_id=trace, ts_ms=ms_of(_of(row, "startTime")),
        model=string(first(row, "model", "providedModelName", "provided_model_name")),
        user_hmac=hmac_user(string(_of(row, "userId"))),
        usage=usage if isinstance(usage, Mapping) else {}, raw=raw_of(row),
    )  # fmt: skip
    yield Record(place, made)


def _item(row: Row, place: str) -> Iterator[Item]:
    if row.get("status") == "ARCHIVED":
        raise BadRow("langfuse-archived")
    expected, _ = _output(_of(row, "expectedOutput"))
    made = exchange(
        _messages(row.get("input")), expected, origin="human", ext_id=string(row.get("id")),
        ts_ms=ms_of(first(row, "updatedAt", "updated_at", "createdAt", "created_at")),
        raw=raw_of(row),
    )  # fmt: skip
    yield Record(place, made)


def _score(row: Row, place: str) -> Iterator[Item]:
    trace, answer = string(_of(row, "traceId")), string(_of(row, "observationId"))
    if not trace and not answer:
        raise BadRow("feedback-nameless")
    name, text = string(row.get("name")), string(_of(row, "stringValue"))
    said = list(_kinds(row, name, text))
    comment = string(row.get("comment"))
    if comment:
        said.append(("comment", None, comment))
    if not said:
        raise BadRow("no-opinion")
    common: dict[str, Any] = {
        "ts_ms": ms_of(first(row, "timestamp", "updatedAt", "createdAt", "created_at")),
        "origin": f"langfuse:{name}" if name else "langfuse", "message_id": answer,
        "chat_id": trace,
        "actor_hmac": hmac_user(string(first(row, "authorUserId", "author_user_id"))),
    }  # fmt: skip
    yield Said(place, tuple(Feedback(kind, value=value, text=words, **common)
                            for kind, value, words in said), raw_of(row))  # fmt: skip


def _kinds(row: Row, name: str, text: str) -> Iterator[tuple[Any, float | None, str]]:
    kind = string(_of(row, "dataType")).upper()
    if kind == "CORRECTION" or name.lower() in ("correction", "output"):
        if text:
            yield "correction", None, text
        return
    try:
        value = float(row.get("value"))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return
    if name.lower() in _THUMBS and value in (-1.0, 0.0, 1.0):
        yield "thumb", value or -1.0, ""
    else:
        yield "score", value, ""


def _messages(given: Any) -> list[dict[str, Any]]:
    """input: a string, a list of messages, or an object with them or with a question."""
    value = decoded(given)
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, Mapping):
        value = first(value, "question", "query", "input", "prompt", "text")
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise BadRow("no-question")
    return [{**turn, "role": "system" if turn["role"] == "developer" else turn["role"]}
            for turn in value]  # fmt: skip


def _output(given: Any) -> tuple[str, list[Any]]:
    """output: a string, a message, or a list whose last is the message."""
    value = decoded(given)
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1]
    if isinstance(value, Mapping):
        content = first(value, "content", "answer", "text", "output", "completion")
        return text_of(content), list(value.get("tool_calls") or ())
    return string(value) if not isinstance(value, list) else text_of(value), []


def _sniff(head: Head) -> Sniff:
    fields = head.fields
    both = {name.replace("_", "").lower() for name in fields}
    if {"traceid", "type", "input", "output"} <= both:
        return Sniff(95, "traceId, type, input, output: observations")
    if {"traceid", "name"} <= both and both & {"value", "stringvalue"}:
        return Sniff(90, "traceId, name, value: scores")
    if {"input", "expectedoutput"} <= both and both & {"datasetid", "status", "sourcetraceid"}:
        return Sniff(90, "input, expectedOutput: dataset items")
    return Sniff()


LANGFUSE = Importer("langfuse", _sniff, read)
