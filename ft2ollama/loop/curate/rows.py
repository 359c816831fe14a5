"""Exchanges with what people said of them -> `Row`, the form in which curation sees them.

In: a connection and rids.  Out: rows in the order of the ledger (`seq`). What people said is
decided here, once: of each person the last word counts, and one thumb down is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, select

from ft2ollama.files import sha256_text
from ft2ollama.loop import tables as t
from ft2ollama.loop.records import canonical

PERSONS = ("human", "correction")  # origins whose answer a person stands for
REVIEW = "review"  # origin of feedback from `collect review`
APPROVE, REJECT, WITHDRAW = "approve", "reject", "withdraw"
_CHUNK = 500  # rids in one query; SQLite takes 32,766 values at most


@dataclass(frozen=True)
class Said:
    """What people said of one answer. thumb: -1, 0 or 1.  label: of a review.

    correction_ms, correction_id: when, and its place among all that was said.
    """

    thumb: int = 0
    score: float | None = None
    correction: str = ""
    correction_ms: int = 0
    correction_id: int = 0
    label: str = ""
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One exchange. answer: the corrected one where there is one.  instead_of: what it corrects.
    said_ms: when it was said.

    origin: human | correction | thumbs_up | model; groundedness is decided by `grounding`.
    messages: the conversation up to and with the question.
    """

    seq: int
    rid: str
    ts_ms: int
    question: str
    question_sha256: str
    answer: str
    messages: tuple[Mapping[str, Any], ...]
    contexts: tuple[str, ...] = ()
    origin: str = "model"
    said: Said = field(default_factory=Said)
    said_ms: int = 0
    complete: bool = True
    http_status: int | None = None
    done_reason: str = ""
    task: str = ""
    consent: str = ""
    expires_ms: int | None = None
    deleted: bool = False
    instead_of: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def said_sha256(self) -> str:
        """Identity of what was said, for draws: the id is another one in every ledger."""
        return sha256_text(canonical([self.messages, self.answer]))

    @property
    def by_person(self) -> bool:
        """Does a person stand for the answer?"""
        return self.origin in PERSONS

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """What was said before the question, without the system prompt."""
        return tuple(m for m in self.messages[:-1] if m.get("role") != "system")

    @property
    def age(self) -> tuple[int, int, int]:
        """Orders answers by when they were said: clocks differ, so ties go by the ledger."""
        return self.said_ms, self.said.correction_id, self.seq


def load_rows(connection: Connection, rids: Iterable[str]) -> list[Row]:
    """Rows in the order of `seq`; a rid that is not in the ledger raises KeyError."""
    wanted = sorted(set(rids))
    rows: list[Row] = []
    for start in range(0, len(wanted), _CHUNK):
        part = wanted[start : start + _CHUNK]
        said = _said(connection, part)
        query = select(t.exchange).where(t.exchange.c.rid.in_(part))
        rows += [_row(dict(one), said.get(one["rid"], Said()))
                 for one in connection.execute(query).mappings()]  # fmt: skip
    if len(rows) != len(wanted):
        missing = sorted(set(wanted) - {row.rid for row in rows})
        raise KeyError(f"not in the ledger: {', '.join(missing[:3])}")
    return sorted(rows, key=lambda row: row.seq)


def _row(one: Mapping[str, Any], said: Said) -> Row:
    origin = _origin(one["origin"], said)
    corrected = bool(said.correction.strip())
    return Row(
        seq=one["seq"],
        rid=one["rid"],
        ts_ms=one["ts_ms"],
        question=one["question"],
        question_sha256=one["question_sha256"],
        answer=said.correction if corrected else one["answer"],
        messages=tuple(one["messages"] or ()),
        contexts=tuple(text_of(context) for context in one["contexts"] or () if text_of(context)),
        origin=origin,
        said=said,
        said_ms=said.correction_ms if corrected else one["ts_ms"],
        # A correction is a whole answer, whatever became of the one it replaces.
        complete=corrected or bool(one["complete"]),
        http_status=None if corrected else one["http_status"],
        done_reason="" if corrected else one["done_reason"] or "",
        task=one["task"] or "",
        consent=one["consent"] or "",
        expires_ms=one["expires_ms"],
        deleted=one["deleted_ms"] is not None,
        instead_of=one["answer"] or "" if corrected else "",
        tools=tuple(one["tools"] or ()),
        tool_calls=() if corrected else tuple(one["tool_calls"] or ()),
    )


def text_of(context: Any) -> str:
    """The text of a context, which importers write as an object and some as bare text."""
    text = context.get("text", "") if isinstance(context, Mapping) else context
    return text.strip() if isinstance(text, str) else ""


def _origin(stored: str, said: Said) -> str:
    if said.correction.strip():
        return "correction"
    if said.label == APPROVE:
        return "human"
    if stored == "model" and said.thumb > 0:
        return "thumbs_up"
    return stored


def _said(connection: Connection, rids: Sequence[str]) -> dict[str, Said]:
    query = select(t.feedback).where(t.feedback.c.rid.in_(rids)).order_by(t.feedback.c.id)
    by_rid: dict[str, list[Mapping[str, Any]]] = {}
    for one in connection.execute(query).mappings():
        by_rid.setdefault(one["rid"], []).append(dict(one))
    return {rid: decide(list(events)) for rid, events in by_rid.items()}


def decide(events: Sequence[Mapping[str, Any]]) -> Said:
    """What a list of feedback comes to, in the order in which it was given."""
    said = Said()
    thumbs: dict[str, int] = {}
    scores: dict[str, float] = {}
    for one in _standing(events):
        who, value, text = one["actor_hmac"] or "", one["value"], one["text"] or ""
        if one["kind"] == "thumb" and value is not None:
            thumbs[who] = (value > 0) - (value < 0)
        elif one["kind"] == "score" and value is not None:
            scores[who] = value
        elif one["kind"] == "correction":
            said = replace(
                said, correction=text, correction_ms=one["ts_ms"], correction_id=one["id"]
            )
        elif one["kind"] == "label":
            said = replace(said, label=text)
        elif one["kind"] == "comment" and text:
            said = replace(said, comments=(*said.comments, text))
    thumb = -1 if -1 in thumbs.values() else max(thumbs.values(), default=0)
    return replace(said, thumb=thumb, score=min(scores.values(), default=None))


def _standing(events: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The events that were not taken back: `withdraw` takes back the reviewer's word before it."""
    standing: list[Mapping[str, Any]] = []
    for one in events:
        if one["kind"] == "label" and one["text"] == WITHDRAW:
            places = [n for n, old in enumerate(standing) if old["origin"] == one["origin"]]
            if places:
                del standing[places[-1]]
        else:
            standing.append(one)
    return iter(standing)
