"""What became of cycles, read from the ledger: for `loop status` and `lineage`.

In: a ledger, names and ids.  Out: plain values. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.states import Cycle, last_cycles
from ft2ollama.loop.steps import detail_of
from ft2ollama.loop.texts import from_kept

_STATES = ("CREATED", "SNAPSHOTTED", "CURATED", "TRAINED", "EXPORTED", "REGISTERED", "EVALUATED",
           "APPROVED", "NEEDS_HUMAN", "SWAPPING", *t.CLOSED_STATES)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A row of gate_result. why: a `Sentence` for texts.told."""

    rule: str
    passed: bool
    why: str


@dataclass(frozen=True)
class Lineage:
    """From a version back to its rows. verdicts: how many rows got which."""

    tag: str
    digest: str
    run_id: str
    line: str
    state: str
    base: str
    dataset: str
    verdicts: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """A cycle that judged a row.  samples: how many it made of it."""

    run_id: str
    line: str
    state: str
    verdict: str
    rule: str
    samples: int
    tag: str


def rulings(ledger: Ledger, run_id: str) -> list[Found]:
    """The gate's findings on a cycle, in its order; none before it was judged."""
    gate = t.gate_result
    wanted = select(gate).where(gate.c.run_id == run_id)
    with ledger.read() as connection:
        found = connection.execute(wanted).mappings().all()
    rows = sorted(found, key=lambda row: row["detail"]["number"])
    return [Found(row["rule"], row["passed"], from_kept(row["detail"])) for row in rows]


def lines(ledger: Ledger) -> list[str]:
    """Every line that ever had a cycle."""
    with ledger.read() as connection:
        return list(
            connection.execute(select(t.run.c.line).distinct().order_by(t.run.c.line)).scalars()
        )


def cycles(ledger: Ledger, line: str, most: int) -> list[Cycle]:
    """The newest cycles of a line."""
    return last_cycles(ledger, line, _STATES, most)


def live(ledger: Ledger, line: str) -> Mapping[str, Any]:
    """The newest verified deployment of a line; empty before the first."""
    one = t.deployment
    wanted = (
        select(one)
        .join(t.run, t.run.c.run_id == one.c.run_id)
        .where(t.run.c.line == line, one.c.state == "verified")
        .order_by(one.c.id.desc())
        .limit(1)
    )
    with ledger.read() as connection:
        return dict(connection.execute(wanted).mappings().first() or {})


def lineage(ledger: Ledger, digest: str) -> Lineage | None:
    """Where the version with this digest comes from; None when no cycle here made it."""
    one = t.deployment
    wanted = select(one.c.run_id, one.c.to_tag).where(one.c.to_digest == digest)
    with ledger.read() as connection:
        row = connection.execute(wanted.order_by(one.c.id.desc())).first()
        if row is None or row.run_id is None:
            return None
        run = connection.execute(select(t.run).where(t.run.c.run_id == row.run_id)).mappings().one()
        record, exchange, source = t.run_record, t.exchange, t.source
        mine = record.c.run_id == row.run_id
        verdicts = connection.execute(
            select(record.c.verdict, func.count()).where(mine).group_by(record.c.verdict)
        ).all()
        sources = connection.execute(
            select(source.c.kind, func.count())
            .join(exchange, exchange.c.source_id == source.c.id)
            .join(record, record.c.rid == exchange.c.rid)
            .where(mine, record.c.verdict == "keep")
            .group_by(source.c.kind)
        ).all()
    dataset = str(detail_of(ledger, row.run_id, "CURATED").get("dataset", ""))
    return Lineage(
        row.to_tag, digest, row.run_id, run["line"], run["state"], run["base_ref"], dataset,
        dict(sorted(map(tuple, verdicts))), dict(sorted(map(tuple, sources))),
    )  # fmt: skip


def seen_by(ledger: Ledger, rid: str) -> Sequence[Seen]:
    """Every cycle that judged a row, oldest first."""
    record, run = t.run_record, t.run
    wanted = (
        select(record, run.c.line, run.c.state)
        .join(run, run.c.run_id == record.c.run_id)
        .where(record.c.rid == rid)
        .order_by(run.c.created_ms)
    )
    with ledger.read() as connection:
        rows = connection.execute(wanted).mappings().all()
    return [
        Seen(
            row["run_id"],
            row["line"],
            row["state"],
            row["verdict"],
            row["rule"] or "",
            len(row["samples"] or ()),
            detail_of(ledger, row["run_id"], "REGISTERED").get("tag", ""),
        )
        for row in rows
    ]
