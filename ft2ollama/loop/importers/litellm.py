"""LiteLLM: its spend logs, or the payloads it writes to S3 and GCS.

In: rows of LiteLLM_SpendLogs (dumped as JSON or CSV) or StandardLoggingPayload objects.  Out: one
answer a row. The database cuts every string over 2,048 characters in its middle and notes
`(litellm_truncated skipped N chars`; such a row is refused, as is one without text (the default of
store_prompts_in_spend_logs).
"""

from __future__ import annotations

import re
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
from ft2ollama.loop.records import canonical

_CUT = re.compile(r"\(litellm_truncated skipped \d+ chars")
_CHATS = ("completion", "acompletion", "responses", "aresponses", "anthropic_messages", "")


def _one(row: Any, place: str) -> Iterator[Item]:
    _refuse(row)
    messages, (answer, calls) = _asked(row), _answer(decoded(row.get("response")))
    made = exchange(
        messages, answer, tool_calls=calls, ext_id=string(first(row, "request_id", "id")),
        message_id=string(first(row, "request_id", "id")),
        chat_id=string(first(row, "session_id", "trace_id")), ts_ms=ms_of(row.get("startTime")),
        model=string(first(row, "model_group", "model")),
        user_hmac=hmac_user(string(first(row, "end_user", "user"))), raw=raw_of(row),
    )  # fmt: skip
    yield Record(place, made)


def _refuse(row: Row) -> None:
    if string(row.get("call_type")) not in _CHATS:
        raise BadRow("litellm-no-chat", type=string(row.get("call_type")))
    if row.get("status") == "failure" or row.get("error_str"):
        raise BadRow("answer-error", reason=string(row.get("error_str"))[:200] or "status: failure")
    texts = canonical([row.get("messages"), row.get("response"), row.get("proxy_server_request")])
    if _CUT.search(texts):
        raise BadRow("litellm-cut")


def _asked(row: Row) -> list[dict[str, Any]]:
    for name in ("messages", "proxy_server_request"):
        value = decoded(row.get(name))
        if isinstance(value, Mapping):
            value = value.get("messages")
        if isinstance(value, str) and value:
            return [{"role": "user", "content": value}]
        if isinstance(value, list) and value:
            return [dict(turn) for turn in value]
    raise BadRow("litellm-no-text")


def _answer(response: Any) -> tuple[str, list[Any]]:
    if isinstance(response, Mapping) and response.get("choices"):
        response = response["choices"][0].get("message") or {}
    if isinstance(response, Mapping):
        return text_of(response.get("content")), list(response.get("tool_calls") or ())
    if not response:
        raise BadRow("litellm-no-text")
    return string(response), []


def read(path: Path) -> Iterator[Item]:
    """Rows of either form."""
    return each(rows_of(path), _one)


def _sniff(head: Head) -> Sniff:
    known = {"call_type", "messages", "response"} <= head.fields
    more = head.fields & {"startTime", "request_id", "litellm_call_id", "model_group"}
    if {"call_type", "request_id"} <= head.fields or (known and more):
        return Sniff(95, "call_type, messages, response")
    return Sniff()


LITELLM = Importer("litellm", _sniff, read)
