"""The bytes of a request and its reply -> a record.

In: `Capture`.  Out: `Exchange`, or None when nobody asked (a call that only loads a model).
Formats: Ollama's /api/chat and /api/generate (docs/api.md, api/types.go) and the OpenAI forms that
Ollama serves (openai/openai.go). What cannot be read becomes a record with a note, never an error:
a proxy must not fail over its diary.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ft2ollama.loop.frontends import Split, background_task, split_context
from ft2ollama.loop.identity import hmac_user
from ft2ollama.loop.proxy.capture import Capture
from ft2ollama.loop.proxy.replies import read_reply, storable
from ft2ollama.loop.records import Exchange, canonical
from ft2ollama.ollama_names import canonical_name

_SHOWN = {"messages", "prompt", "system", "tools", "images", "user", "context", "suffix"}
_DAY_MS = 86_400_000


def assemble(
    capture: Capture, digests: Mapping[str, str], keep_days: int | None = None
) -> Exchange | None:
    """digests: name as in /api/tags -> digest.  keep_days: after these, the row may be erased."""
    asked, notes = _asked(capture)
    if asked and _is_load(capture.route, asked):
        return None
    reply, unread = read_reply(capture)
    notes |= unread
    model = str(reply.model or asked.get("model") or "")
    told = _told(capture.headers)
    messages = _messages(asked, notes)
    split = _split(messages, capture.headers)
    task = told["task"] or background_task(_last_user(messages))
    common: dict[str, Any] = {
        "ts_ms": capture.ts_ms, "rid": capture.rid, "route": capture.route, "model": model,
        "model_digest": digests.get(_listed(model), ""), "http_status": capture.status or None,
        "done_reason": reply.done_reason, "usage": reply.usage, "latency_ms": capture.latency_ms,
        "ttft_ms": capture.ttft_ms, "consent": capture.consent, "chat_id": told["chat"],
        "message_id": told["message"], "task": task,
        "user_hmac": hmac_user(told["user"] or _text(asked.get("user"))),
        "complete": reply.complete and capture.status == 200,
        "expires_ms": capture.ts_ms + keep_days * _DAY_MS if keep_days else None,
    }  # fmt: skip
    if task:  # counted; its text repeats a conversation that is kept anyway
        return Exchange((), "", "", **common)
    return Exchange(
        messages, split.question, reply.text, **common,
        contexts=split.contexts, context_extractor=split.extractor,
        tools=[tool for tool in _list(asked.get("tools")) if isinstance(tool, dict)],
        thinking=reply.thinking, tool_calls=reply.tool_calls, raw=_raw(asked, notes),
    )  # fmt: skip


def _asked(capture: Capture) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request's JSON, and a note where it is none or was too long."""
    body = capture.request.body
    if body is None:
        return {}, {"request": capture.request.note}
    try:
        asked = storable(json.loads(body), body)
    except (ValueError, RecursionError):
        asked = None
    return (asked, {}) if isinstance(asked, dict) else ({}, {"request": "no JSON object"})


def _is_load(route: str, asked: Mapping[str, Any]) -> bool:
    """Ollama loads (or unloads) a model for an empty list of messages or an empty prompt."""
    options = asked.get("options")
    if isinstance(options, dict) and options.get("num_predict") == 0:
        return True
    if route == "/api/chat":
        return not asked.get("messages")
    return route == "/api/generate" and not asked.get("prompt") and not asked.get("images")


def _messages(asked: Mapping[str, Any], notes: dict[str, Any]) -> list[dict[str, Any]]:
    if "messages" in asked:
        found = [one for one in _list(asked["messages"]) if isinstance(one, dict)]
        return [_without_pictures(one) for one in found]
    prompt = asked.get("prompt")
    if isinstance(prompt, list):  # /v1/completions takes several; Ollama answers the first
        notes["prompts"] = len(prompt)
        prompt = prompt[0] if prompt else ""
    if prompt is None:
        return []
    message: dict[str, Any] = {"role": "user", "content": _text(prompt)}
    if asked.get("images"):
        message["images"] = [_picture(one) for one in _list(asked["images"])]
    system = _text(asked.get("system"))
    return [*([{"role": "system", "content": system}] if system else []), message]


def _without_pictures(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(message)
    if kept.get("images"):
        kept["images"] = [_picture(one) for one in _list(kept["images"])]
    if isinstance(kept.get("content"), list):
        kept["content"] = [_part(one) for one in kept["content"]]
    return kept


def _part(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    heavy = {name: value for name, value in part.items() if name not in ("type", "text")}
    small = {name: _picture(value) if len(canonical(value)) > 1000 else value
             for name, value in heavy.items()}  # fmt: skip
    return {**part, **small}


def _picture(data: Any) -> dict[str, Any]:
    text = data if isinstance(data, str) else canonical(data)
    return {"sha256": sha256(text.encode()).hexdigest(), "chars": len(text)}


def _split(messages: Sequence[Mapping[str, Any]], headers: Mapping[str, str]) -> Split:
    system = "\n".join(
        content_text(one.get("content")) for one in messages if one.get("role") == "system"
    )
    split = split_context(_last_user(messages), system)
    given = _given_context(headers.get("x-f2o-context", ""))
    return Split(split.question, given, "header") if given else split


def _given_context(header: str) -> tuple[dict[str, Any], ...]:
    """X-F2O-Context: base64 of a JSON list of texts or of {"text": ..., "source": ...}."""
    try:
        found = json.loads(base64.b64decode(header, validate=True)) if header else []
    except ValueError:
        return ()
    pieces = [{"text": one} if isinstance(one, str) else one for one in _list(found)]
    return tuple(
        one for one in pieces if isinstance(one, dict) and isinstance(one.get("text"), str)
    )


def _last_user(messages: Sequence[Mapping[str, Any]]) -> str:
    asked = [one for one in messages if one.get("role") == "user"]
    return content_text(asked[-1].get("content")) if asked else ""


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "\n".join(text for text in texts if isinstance(text, str))
    return _text(content)


def _told(headers: Mapping[str, str]) -> dict[str, str]:
    """The ids of X-F2O-*, else those that Open WebUI forwards; an unfilled {{NAME}} is none."""

    def first(*names: str) -> str:
        values = (headers.get(name, "").strip() for name in names)
        return next((value for value in values if value and "{{" not in value), "")

    return {
        "chat": first("x-f2o-chat-id", "x-openwebui-chat-id"),
        "message": first("x-f2o-message-id", "x-openwebui-message-id"),
        "task": first("x-f2o-task"),
        "user": first("x-f2o-user", "x-openwebui-user-id"),
    }


def _raw(asked: Mapping[str, Any], notes: Mapping[str, Any]) -> str:
    """The request's other fields (options, format ...), and what could not be kept."""
    rest = {name: value for name, value in asked.items() if name not in _SHOWN}
    text = canonical({**rest, "notes": notes} if notes else rest)
    return text if len(text) < 100_000 else canonical({"notes": {**notes, "fields": len(text)}})


def _listed(model: str) -> str:
    return canonical_name(model) if model else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
