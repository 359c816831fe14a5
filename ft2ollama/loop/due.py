"""Is it time to retrain? A count of rows and a calendar, and no second try on the same rows.

In: the ledger, a line, the trigger.  Out: `Due` with the reason, for people and for the exit code.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from ft2ollama.loop import states
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.dataset import record_set_sha256
from ft2ollama.loop.curate.store import pending_rids
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.settings import Trigger
from ft2ollama.loop.texts import Sentence

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
    if count >= trigger.rows:
        return Due(True, count, Sentence("due-enough", count=count, wanted=trigger.rows))
    days = _days_since_promotion(ledger, line, now_ms)
    old = days is None or days >= trigger.days
    since = "never" if days is None else "since"
    if count >= trigger.few and old:
        return Due(True, count, Sentence(f"due-{since}", count=count, days=days))
    wanted = trigger.few if old else trigger.rows
    return Due(False, count, Sentence(f"wait-{since}", count=count, wanted=wanted, days=days))


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
