"""The states of one cycle, kept in the ledger so that a killed process can be followed by another.

A cycle of a line (an alias in Ollama) is one row of `run`. Every change of state is one transaction
that also writes what the step found, and one link in a chain of hashes: an event that is edited or
taken out later is seen by `broken_links`.

    CREATED -> SNAPSHOTTED -> CURATED -> TRAINED -> EXPORTED -> REGISTERED -> EVALUATED
            -> APPROVED -> SWAPPING -> PROMOTED
    EVALUATED -> REJECTED | NEEDS_HUMAN;  NEEDS_HUMAN -> APPROVED | REJECTED
    any open state -> FAILED | ABANDONED
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from ft2ollama.errors import JobError
from ft2ollama.loop import tables as t
from ft2ollama.loop.crashpoint import crashpoint
from ft2ollama.loop.ledger import Ledger, now_ms
from ft2ollama.loop.records import canonical

_WAY = (
    "CREATED", "SNAPSHOTTED", "CURATED", "TRAINED", "EXPORTED", "REGISTERED", "EVALUATED",
    "APPROVED", "SWAPPING", "PROMOTED",
)  # fmt: skip
NEXT: dict[str, frozenset[str]] = {
    **{here: frozenset((there, "FAILED", "ABANDONED")) for here, there in pairwise(_WAY)},
    "EVALUATED": frozenset(("APPROVED", "REJECTED", "NEEDS_HUMAN", "FAILED", "ABANDONED")),
    "NEEDS_HUMAN": frozenset(("APPROVED", "REJECTED", "ABANDONED")),
}
_START = "0" * 64


@dataclass(frozen=True)
class Cycle:
    """One row of `run`, as it was read."""

    run_id: str
    line: str
    state: str
    attempt: int
    parent_run: str | None
    base_ref: str
    base_sha256: str
    config: Mapping[str, Any]
    config_sha256: str
    seed: int
    created_ms: int
    error: str | None

    @property
    def is_open(self) -> bool:
        """Is there still something to do?"""
        return self.state not in t.CLOSED_STATES


def create(connection: Connection, **values: Any) -> None:
    """A new cycle in CREATED; values: the columns of `run`. IntegrityError when one is open."""
    now = now_ms()
    connection.execute(insert(t.run).values(state="CREATED", attempt=0, created_ms=now, **values))
    _link(connection, values["run_id"], "", "CREATED", {})


def advance(
    ledger: Ledger,
    cycle: Cycle,
    to: str,
    detail: Mapping[str, Any] | None = None,
    *,
    also: Callable[[Connection], None] | None = None,
    **columns: Any,
) -> Cycle:
    """Move to state `to`, in one transaction with what `also` writes.

    columns: of `run`, to be set as well. Raises JobError when the row is no longer in the state in
    which it was read, which means that somebody else went on with it.
    """
    if to not in NEXT.get(cycle.state, frozenset()):
        raise ValueError(f"no way from {cycle.state} to {to}")
    crashpoint(f"before {to}")
    with ledger.begin() as connection:
        changed = connection.execute(
            update(t.run)
            .where(t.run.c.run_id == cycle.run_id, t.run.c.state == cycle.state)
            .values(state=to, **columns)
        )
        if changed.rowcount != 1:
            raise JobError(
                f"cycle {cycle.run_id} is no longer {cycle.state}",
                "another process went on with it",
                "ft2ollama loop status",
            )
        if also:
            also(connection)
        _link(connection, cycle.run_id, cycle.state, to, detail or {})
    crashpoint(f"after {to}")
    found = find(ledger, cycle.run_id)
    assert found is not None
    return found


def find(ledger: Ledger, run_id: str) -> Cycle | None:
    """The cycle of that id."""
    with ledger.engine.connect() as connection:
        row = connection.execute(_cycles().where(t.run.c.run_id == run_id)).mappings().first()
    return Cycle(**row) if row else None


def open_cycle(ledger: Ledger, line: str) -> Cycle | None:
    """The one cycle of a line that is not over."""
    wanted = _cycles().where(t.run.c.line == line, t.run.c.state.not_in(t.CLOSED_STATES))
    with ledger.engine.connect() as connection:
        row = connection.execute(wanted).mappings().first()
    return Cycle(**row) if row else None


def last_cycles(ledger: Ledger, line: str, states: tuple[str, ...], most: int) -> list[Cycle]:
    """The newest cycles of a line in one of `states`, newest first."""
    wanted = (
        _cycles()
        .where(t.run.c.line == line, t.run.c.state.in_(states))
        .order_by(t.run.c.created_ms.desc(), t.run.c.run_id.desc())
        .limit(most)
    )
    with ledger.engine.connect() as connection:
        return [Cycle(**row) for row in connection.execute(wanted).mappings()]


def broken_links(ledger: Ledger, run_id: str) -> list[str]:
    """What does not fit together in a cycle's chain of events; nothing when it is whole."""
    return list(_faults(ledger, run_id))


def head(connection: Connection, run_id: str) -> str:
    """The hash of the newest event."""
    newest = (
        select(t.run_event.c.sha256)
        .where(t.run_event.c.run_id == run_id)
        .order_by(t.run_event.c.seq.desc())
        .limit(1)
    )
    return connection.execute(newest).scalar() or _START


def _cycles() -> Any:
    return select(*(t.run.c[name] for name in Cycle.__dataclass_fields__))


def _link(
    connection: Connection, run_id: str, before: str, after: str, detail: Mapping[str, Any]
) -> None:
    events = t.run_event
    number = select(func.count()).select_from(events).where(events.c.run_id == run_id)
    values = {
        "run_id": run_id,
        "seq": connection.execute(number).scalar_one(),
        "ts_ms": now_ms(),
        "from_state": before,
        "to_state": after,
        "detail": canonical(detail),
        "prev_sha256": head(connection, run_id),
    }
    connection.execute(insert(events).values(**values, sha256=_hash(values)))


def _hash(values: Mapping[str, Any]) -> str:
    return sha256(
        canonical({k: v for k, v in values.items() if k != "sha256"}).encode()
    ).hexdigest()


def _faults(ledger: Ledger, run_id: str) -> Iterator[str]:
    with ledger.engine.connect() as connection:
        wanted = select(t.run_event).where(t.run_event.c.run_id == run_id)
        rows = connection.execute(wanted.order_by(t.run_event.c.seq)).mappings().all()
    before, state = _START, ""
    for number, row in enumerate(rows):
        if row["seq"] != number or row["prev_sha256"] != before:
            yield f"event {row['seq']} does not follow the one before it"
        if row["sha256"] != _hash(dict(row)):
            yield f"event {row['seq']} was changed after it was written"
        if row["from_state"] != state:
            yield f"event {row['seq']} leaves {row['from_state']}, the cycle was in {state}"
        before, state = row["sha256"], row["to_state"]
    cycle = find(ledger, run_id)
    if cycle is not None and cycle.state != state:
        yield f"the cycle is in {cycle.state}, its events end in {state}"
