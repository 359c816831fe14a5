"""POST /ft2ollama/feedback: what a person says of an answer.

In: JSON {"rid" | "message_id" (+ "chat_id"), "thumb": 1|-1, "score": number, "correction": text,
"comment": text, "user": id}, ids also as X-F2O-Rid, X-F2O-Message-Id, X-F2O-Chat-Id.  Out: one
`Feedback` per thing said. Nothing is overwritten: the newest counts when data is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ft2ollama.loop.identity import hmac_user
from ft2ollama.loop.records import Feedback

_KNOWN = {"rid", "message_id", "chat_id", "thumb", "score", "correction", "comment", "user"}
_LONGEST = 100_000


class Unclear(ValueError):
    """The request does not say what is said of which answer."""


def read_feedback(said: Any, headers: Mapping[str, str], ts_ms: int) -> list[Feedback]:
    """Raises Unclear with words for the caller."""
    if not isinstance(said, dict):
        raise Unclear("send a JSON object")
    if unknown := sorted(set(said) - _KNOWN):
        raise Unclear(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(_KNOWN))}")
    ids = {
        name: _text(said, name) or headers.get(f"x-f2o-{name.replace('_', '-')}", "").strip()
        for name in ("rid", "message_id", "chat_id")
    }
    if not ids["rid"] and not ids["message_id"]:
        raise Unclear("say which answer: rid (the reply's X-F2O-Rid header) or message_id")
    common = {**ids, "ts_ms": ts_ms, "origin": "api", "actor_hmac": hmac_user(_text(said, "user"))}
    found = [
        Feedback(kind, value=value, text=text, **common)  # type: ignore[arg-type]
        for kind, value, text in _said(said)
    ]
    if not found:
        raise Unclear("say something: thumb, score, correction or comment")
    return found


def _said(said: Mapping[str, Any]) -> list[tuple[str, float | None, str]]:
    found: list[tuple[str, float | None, str]] = []
    for kind in ("thumb", "score"):
        if said.get(kind) is not None:
            found.append((kind, _number(said, kind), ""))
    for kind in ("correction", "comment"):
        if text := _text(said, kind).strip():
            found.append((kind, None, text))
    return found


def _number(said: Mapping[str, Any], kind: str) -> float:
    value = said[kind]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unclear(f"{kind} is a number")
    if kind == "thumb" and value not in (1, -1):
        raise Unclear("thumb is 1 or -1")
    return float(value)


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name) or ""
    if not isinstance(value, str):
        raise Unclear(f"{name} is a text")
    if len(value) > _LONGEST:
        raise Unclear(f"{name} is longer than {_LONGEST} characters")
    return value
