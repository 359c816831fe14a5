"""What a person says of answers before they are learned: approve, correct, reject, take back.

In: rows that wait.  Out: feedback rows of origin `review`, which survive every run and export.
Taking back writes a row too; nothing is deleted. A file of the same rows can go to another tool and
come back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ft2ollama.files import write_jsonl
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.rows import APPROVE, REJECT, REVIEW, WITHDRAW, Row, load_rows
from ft2ollama.loop.curate.rules import Evidence, Needs, judge
from ft2ollama.loop.curate.store import pending_rids
from ft2ollama.loop.ledger import Ledger, add_feedback, now_ms
from ft2ollama.loop.records import Feedback, FeedbackKind

# Rules after which a person's word makes the row good, the most useful first; "" is a row that no
# rule stops. What was broken off, a title or an image cannot be approved.
WORTH = ("low_rating", "ungrounded_number", "refusal", "ungrounded", "off_context", "",
         "other_language", "unfinished", "foreign_identity", "garbage", "repetition")  # fmt: skip
_DECISIONS = {"approve": APPROVE, "approved": APPROVE, "reject": REJECT, "rejected": REJECT}


@dataclass(frozen=True)
class Card:
    """A row to look at, and what stops it."""

    row: Row
    rule: str
    evidence: Evidence


def waiting(ledger: Ledger, line: str, needs: Needs, *, rule: str | None = None) -> list[Card]:
    """Rows that a person has not judged, the most useful first, of these the newest.

    rule: only those that this rule stops; "" those that none stops.
    """
    with ledger.engine.connect() as connection:
        rows = load_rows(connection, pending_rids(connection, line))
    cards = []
    for row in rows:
        if row.said.label or row.by_person:
            continue
        name, evidence = judge(row, needs) or ("", {})
        if name in WORTH and rule in (None, name):
            cards.append(Card(row, name, evidence))
    return sorted(cards, key=lambda card: (WORTH.index(card.rule), -card.row.seq))


@dataclass
class Review:
    """Writes decisions. done: the rids that were decided, in their order, for `undo`."""

    ledger: Ledger
    done: list[str] = field(default_factory=list)
    _last_ms: int = 0

    def approve(self, rid: str) -> None:
        """The answer is right as it is; it then counts as a person's."""
        self._decide(rid, "label", APPROVE)

    def reject(self, rid: str) -> None:
        """The row is never learned."""
        self._decide(rid, "label", REJECT)

    def correct(self, rid: str, answer: str) -> None:
        """The answer ought to be this."""
        self._decide(rid, "correction", answer)

    def undo(self) -> str | None:
        """Take the last decision back; its rid, None when there is none."""
        if not self.done:
            return None
        rid = self.done.pop()
        self._add(rid, "label", WITHDRAW)
        return rid

    def _decide(self, rid: str, kind: FeedbackKind, text: str) -> None:
        self._add(rid, kind, text)
        self.done.append(rid)

    def _add(self, rid: str, kind: FeedbackKind, text: str) -> None:
        self._last_ms = max(now_ms(), self._last_ms + 1)  # one word after the other
        one = Feedback(kind, self._last_ms, REVIEW, rid=rid, text=text)
        with self.ledger.begin() as connection:
            add_feedback(connection, [one])


def export(cards: Iterable[Card], path: Path) -> int:
    """Write the cards as JSONL for another tool; how many.

    The tool fills `decision` (approve, reject) or `correction`, and leaves `rid` as it is.
    """
    rows = [
        {
            "rid": card.row.rid,
            "question": card.row.question,
            "contexts": list(card.row.contexts),
            "answer": card.row.answer,
            "stopped_by": card.rule,
            "evidence": dict(card.evidence),
            "decision": "",
            "correction": "",
        }
        for card in cards
    ]
    write_jsonl(path, rows)
    return len(rows)


@dataclass(frozen=True)
class Imported:
    """seen = decided + open + known + rejected. rejected: (line, reason) of each."""

    seen: int
    decided: int
    open: int
    known: int
    rejected: tuple[tuple[int, str], ...]


def import_file(ledger: Ledger, path: Path) -> Imported:
    """Read the decisions of a file that `export` wrote; a second time nothing is written."""
    review = Review(ledger)
    counts = {"decided": 0, "open": 0, "known": 0}
    rejected: list[tuple[int, str]] = []
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in filled:
        what, reason = _decide(ledger, review, line)
        if reason:
            rejected.append((number, reason))
        else:
            counts[what] += 1
    return Imported(len(filled), rejected=tuple(rejected), **counts)


def _decide(ledger: Ledger, review: Review, line: str) -> tuple[str, str]:
    """(decided | open | known, "") or ("", why not) for a line."""
    try:
        one = json.loads(line)
    except ValueError as error:
        return "", f"no JSON: {error}"
    if not isinstance(one, dict) or not isinstance(one.get("rid"), str):
        return "", "no rid: leave the field as it was exported"
    wanted, reason = _wanted(one)
    if reason or wanted is None:
        return "open", reason
    with ledger.engine.connect() as connection:
        found = connection.execute(
            select(t.exchange.c.rid).where(t.exchange.c.rid == one["rid"])
        ).scalar()
        row = load_rows(connection, [one["rid"]])[0] if found else None
    if row is None:
        return "", f"no row {one['rid']} in this ledger"
    kind, text = wanted
    if text == (row.said.correction if kind == "correction" else row.said.label):
        return "known", ""
    if kind == "correction":
        review.correct(row.rid, text)
    elif text == APPROVE:
        review.approve(row.rid)
    else:
        review.reject(row.rid)
    return "decided", ""


def _wanted(one: Mapping[str, Any]) -> tuple[tuple[str, str] | None, str]:
    """What a line decides, None when it leaves it open; and what is wrong with it."""
    text, decision = one.get("correction") or "", one.get("decision") or ""
    if not isinstance(text, str) or not isinstance(decision, str):
        return None, "decision and correction must be text"
    if text.strip():
        return ("correction", text.strip()), ""
    if not decision.strip():
        return None, ""
    label = _DECISIONS.get(decision.strip().lower())
    if label is None:
        return None, f"decision {decision!r}: write approve or reject, or fill correction"
    return ("label", label), ""
