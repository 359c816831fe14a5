"""Is it time to retrain? A count of rows and a calendar, and no second try on the same rows.

After a rollback only rows count that came since, until the cooldown is over.

In: the ledger, a line, the trigger.  Out: `Due` with the reason, for people and for the exit code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from ft2ollama.loop import states
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.dataset import record_set_sha256
from ft2ollama.loop.curate.store import pending_rids
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.rollback import last_rollback
from ft2ollama.loop.settings import Trigger
from ft2ollama.loop.texts import Sentence
from ft2ollama.ollama_names import canonical_name

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Due:
    """due: by the trigger.  pending: new rows.  why: a `Sentence`."""

    due: bool
    pending: int
    why: str


def is_due(ledger: Ledger, line: str, trigger: Trigger, now_ms: int) -> Due:
    """Whether `--if-due` starts a cycle now."""
    with ledger.read() as connection:
        rids = pending_rids(connection, line)
    count = len(rids)
    last = states.last_cycles(ledger, line, t.CLOSED_STATES, 1)
    gave_back = last[0] if last and last[0].state in ("REJECTED", "FAILED") else None
    if gave_back and _record_set(ledger, gave_back.run_id) == record_set_sha256(rids):
        run, state = gave_back.run_id, gave_back.state.lower()
        return Due(False, count, Sentence("wait-refused", run=run, state=state, count=count))
    cooling = cooldown(ledger, line, trigger, now_ms)
    if cooling:
        count = cooling.newer
    if count >= trigger.rows:
        return Due(True, len(rids), Sentence("due-enough", count=count, wanted=trigger.rows))
    days = _days_since_promotion(ledger, line, now_ms)
    old = days is None or days >= trigger.days
    since = "never" if days is None else "since"
    if count >= trigger.few and old:
        return Due(True, len(rids), Sentence(f"due-{since}", count=count, days=days))
    wanted = trigger.few if old else trigger.rows
    if cooling:
        values = {**cooling.values, "newer": count, "count": len(rids), "wanted": wanted}
        return Due(False, len(rids), Sentence("wait-cooling", **values))
    return Due(False, count, Sentence(f"wait-{since}", count=count, wanted=wanted, days=days))


@dataclass(frozen=True)
class Cooldown:
    """A rollback that is not long ago. since_ms: when.  newer: pending rows that came later.

    alias, tag: the name, and what it was moved back to.  left: days.
    """

    alias: str
    tag: str
    since_ms: int
    left: float
    newer: int

    @property
    def values(self) -> dict[str, Any]:
        """For sentences."""
        return {"alias": self.alias, "tag": self.tag, "left": self.left}

    @property
    def why(self) -> Sentence:
        """What --if-due does meanwhile."""
        return Sentence("cooling", **self.values)


def cooldown(ledger: Ledger, line: str, trigger: Trigger, now_ms: int) -> Cooldown | None:
    """The cooldown of a line, None when nothing was rolled back or it is over."""
    alias = canonical_name(line)
    with ledger.read() as connection:
        row = last_rollback(connection, alias)
        if row is None or now_ms - row["ts_ms"] >= trigger.cooldown * _DAY_MS:
            return None
        pending = pending_rids(connection, line)
        later = select(t.exchange.c.rid).where(t.exchange.c.seq > (row["last_seq"] or 0))
        newer = len(set(pending).intersection(connection.execute(later).scalars()))
    left = trigger.cooldown - (now_ms - row["ts_ms"]) / _DAY_MS
    return Cooldown(alias, row["to_tag"], row["ts_ms"], left, newer)


def _record_set(ledger: Ledger, run_id: str) -> str | None:
    wanted = select(t.run.c.record_set_sha256).where(t.run.c.run_id == run_id)
    with ledger.read() as connection:
        return connection.execute(wanted).scalar()


def _days_since_promotion(ledger: Ledger, line: str, now_ms: int) -> float | None:
    event = t.run_event
    wanted = (
        select(func.max(event.c.ts_ms))
        .join(t.run, t.run.c.run_id == event.c.run_id)
        .where(t.run.c.line == line, event.c.to_state == "PROMOTED")
    )
    with ledger.read() as connection:
        when = connection.execute(wanted).scalar()
    return None if when is None else (now_ms - when) / _DAY_MS
