"""The bytes of a reply -> text, thinking, tool calls, and whether it was heard to its end.

One reader per form: Ollama's JSON lines (one line when it does not stream) and OpenAI's chunks
(server-sent events, or one document).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft2ollama.loop.proxy.capture import Capture

_KNOWN_ENCODINGS = ("", "identity", "gzip", "x-gzip", "deflate")


_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_BAD_CHARS = re.compile("[\x00\ud800-\udfff]")


def storable(value: Any, text: bytes) -> Any:
    """The parsed JSON `text` without NUL and lone surrogates, which no database keeps."""
    return _clean(value) if _UNSTORABLE.search(text) else value


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _BAD_CHARS.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(one) for name, one in value.items()}
    return value


@dataclass
class Reply:
    """What the model said. complete: to its end, and the server reported no error."""

    text: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    done_reason: str = ""
    complete: bool = False
    model: str = ""
    usage: dict[str, Any] = field(default_factory=dict)


def read_reply(capture: Capture) -> tuple[Reply, dict[str, Any]]:
    """The reply, and notes on what could not be read."""
    if capture.encoding not in _KNOWN_ENCODINGS:
        return Reply(), {"reply": f"Content-Encoding {capture.encoding} is not read"}
    body = capture.reply.body
    if body is None:
        return Reply(), {"reply": capture.reply.note}
    parts, errors = _documents(body, events="event-stream" in capture.content_type)
    reader = _openai if capture.route.startswith("/v1/") else _ollama
    reply = reader(parts)
    if errors:
        reply.complete = False
    return reply, {"error": errors[0]} if errors else {}


def _documents(body: bytes, *, events: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The JSON objects of a body; what it said of errors. A last line that was cut is left out."""
    parts: list[dict[str, Any]] = []
    errors: list[str] = []
    for line in _lines(body, events=events):
        try:
            part = storable(json.loads(line), line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(part, dict):
            continue
        if part.get("error"):
            error = part["error"]
            errors.append(str(error.get("message") if isinstance(error, dict) else error)[:1000])
        parts.append(part)
    return parts, errors


def _lines(body: bytes, *, events: bool) -> Iterator[bytes]:
    if not events:
        whole = body.strip()
        # One document over several lines is no JSON lines.
        return iter([whole] if _is_json(whole) else whole.split(b"\n"))
    found = (line[5:].strip() for line in body.split(b"\n") if line.startswith(b"data:"))
    return (line for line in found if line != b"[DONE]")


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _ollama(parts: Iterable[Mapping[str, Any]]) -> Reply:
    """Lines {"message": {"content", "thinking", "tool_calls"}} or {"response", "thinking"}."""
    reply = Reply()
    text, thinking = [], []
    for part in parts:
        message = part.get("message")
        said = message if isinstance(message, dict) else part
        text.append(_text(said.get("content") if said is message else part.get("response")))
        thinking.append(_text(said.get("thinking")))
        reply.tool_calls += [one for one in said.get("tool_calls") or () if isinstance(one, dict)]
        reply.model = _text(part.get("model")) or reply.model
        if part.get("done") is True:
            reply.complete = True
            reply.done_reason = _text(part.get("done_reason"))
            reply.usage = _ollama_usage(part)
    reply.text, reply.thinking = "".join(text), "".join(thinking)
    return reply


def _ollama_usage(last: Mapping[str, Any]) -> dict[str, Any]:
    """Counts under OpenAI's names; durations in nanoseconds under Ollama's."""
    names = {"prompt_eval_count": "prompt_tokens", "eval_count": "completion_tokens"}
    durations = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    names |= {name: name for name in durations}
    return {ours: last[theirs] for theirs, ours in names.items() if theirs in last}


def _openai(parts: Iterable[Mapping[str, Any]]) -> Reply:
    """choices[0] of chunks (`delta`), of documents (`message`), or of completions (`text`)."""
    reply = Reply()
    text, thinking = [], []
    calls: dict[int, dict[str, Any]] = {}
    for part in parts:
        reply.model = _text(part.get("model")) or reply.model
        if isinstance(part.get("usage"), dict):
            reply.usage = dict(part["usage"])
        for choice in part.get("choices") or ():
            if not isinstance(choice, dict) or choice.get("index", 0) != 0:
                continue
            said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
            text.append(_text(said.get("content")))
            thinking.append(_text(said.get("reasoning") or said.get("reasoning_content")))
            _add_calls(calls, said.get("tool_calls") or ())
            if reason := _text(choice.get("finish_reason")):
                reply.complete, reply.done_reason = True, reason
    reply.text, reply.thinking = "".join(text), "".join(thinking)
    reply.tool_calls = [calls[index] for index in sorted(calls)]
    return reply


def _add_calls(calls: dict[int, dict[str, Any]], pieces: Iterable[Any]) -> None:
    """A call comes whole, or its arguments in pieces under one index."""
    for place, piece in enumerate(pieces):
        if not isinstance(piece, dict):
            continue
        index = piece.get("index")
        index = index if isinstance(index, int) else place
        said = piece.get("function") or {}
        call = calls.setdefault(
            index, {"id": piece.get("id"), "type": "function",
                    "function": {"name": said.get("name"), "arguments": ""}}
        )  # fmt: skip
        call["function"]["arguments"] += _text(said.get("arguments"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
