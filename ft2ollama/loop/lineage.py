"""From a model to its rows and back: what the ledger knows, and what a model says of itself.

In: a ledger, a served model.  Out: plain values. A model names its run, cycle, base and data set in
its GGUF (`ft2ollama.*`) and in a line of LICENSE, so that a machine without the ledger can tell
which ones they were; which rows these are, only the ledger knows. Nothing here writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.steps import detail_of
from ft2ollama.prove.served import Served

_DIGEST = re.compile(r"sha256-([0-9a-f]{64})$")
# Names in the GGUF that LICENSE calls otherwise.
_SAME = {"run": "run_id", "version": "ft2ollama"}


@dataclass(frozen=True)
class Ids:
    """What a model says of itself; "" where it says nothing.

    sha256 values are hex. base_sha256, data_sha256: as run.json has them.  dataset_sha256: id of a
    cycle's data set.  gguf_sha256: of the file that was exported.  file_sha256: of the one that the
    server runs.  disagree: names on which GGUF and LICENSE do not say the same.
    """

    run_id: str = ""
    cycle: str = ""
    base: str = ""
    base_sha256: str = ""
    dataset_sha256: str = ""
    data_sha256: str = ""
    kind: str = ""
    quant: str = ""
    gguf_sha256: str = ""
    ft2ollama: str = ""
    file_sha256: str = ""
    disagree: tuple[str, ...] = ()

    @property
    def untouched(self) -> bool | None:
        """Does the server run the very file that was exported? None where one is unknown."""
        if not (self.gguf_sha256 and self.file_sha256):
            return None
        return self.gguf_sha256 == self.file_sha256


@dataclass(frozen=True)
class Lineage:
    """From a version back to its rows. verdicts: rows by verdict.  sources: kept rows by origin."""

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


@dataclass(frozen=True)
class Judged:
    """A row in a cycle's snapshot or replay.  samples: how many the cycle made of it."""

    rid: str
    role: str
    verdict: str
    rule: str
    samples: int
    source: str
    origin: str


def ids_of(served: Served) -> Ids:
    """What a served model says of itself."""
    inside = {_SAME.get(key, key).replace(".", "_"): value for key, value in served.inside.items()}
    beside = served.beside
    known = {**inside, **beside}
    both = inside.keys() & beside.keys() & Ids.__dataclass_fields__.keys()
    return Ids(
        **{name: known[name] for name in Ids.__dataclass_fields__ if name in known},
        file_sha256=_file_of(served, known.get("kind", "")),
        disagree=tuple(sorted(name for name in both if inside[name] != beside[name])),
    )


def _file_of(served: Served, kind: str) -> str:
    if kind != "adapter":
        return served.shown.digest or ""
    found = [_DIGEST.search(path.name) for path in served.adapters]
    return next((one[1] for one in found if one), "")


def lineage(ledger: Ledger, digest: str, run_id: str = "") -> Lineage | None:
    """Where a version comes from, by its digest, else by the cycle that it names.

    None when no cycle of this ledger made it. A model with that cycle's id and another digest was
    made from its version: with another prompt, for example.
    """
    one = t.deployment
    wanted = select(one.c.run_id).where(one.c.to_digest == digest, one.c.run_id.is_not(None))
    with ledger.read() as connection:
        known = connection.execute(wanted.order_by(one.c.id.desc())).scalar() or run_id
        wanted = select(t.run).where(t.run.c.run_id == known)
        run = connection.execute(wanted).mappings().first()
        if run is None:
            return None
        verdicts, sources = _counts(connection, known)
    made = detail_of(ledger, known, "REGISTERED")
    dataset = str(detail_of(ledger, known, "CURATED").get("dataset", ""))
    return Lineage(
        made.get("tag", ""), made.get("digest", ""), known, run["line"], run["state"],
        run["base_ref"], dataset, verdicts, sources,
    )  # fmt: skip


def _counts(connection: Any, run_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of a cycle by verdict, and kept ones by where they come from."""
    record, exchange, source = t.run_record, t.exchange, t.source
    mine = record.c.run_id == run_id
    verdicts = select(record.c.verdict, func.count()).where(mine).group_by(record.c.verdict)
    sources = (
        select(source.c.kind, func.count())
        .join(exchange, exchange.c.source_id == source.c.id)
        .join(record, record.c.rid == exchange.c.rid)
        .where(mine, record.c.verdict == "keep")
        .group_by(source.c.kind)
    )
    return (
        dict(sorted(map(tuple, connection.execute(verdicts)))),
        dict(sorted(map(tuple, connection.execute(sources)))),
    )


def rows_of(ledger: Ledger, run_id: str) -> list[Judged]:
    """Every row that a cycle looked at, in the order in which they came."""
    record, exchange, source = t.run_record, t.exchange, t.source
    wanted = (
        select(record, source.c.kind, exchange.c.origin)
        .join(exchange, exchange.c.rid == record.c.rid)
        .join(source, source.c.id == exchange.c.source_id)
        .where(record.c.run_id == run_id)
        .order_by(exchange.c.seq)
    )
    with ledger.read() as connection:
        rows = connection.execute(wanted).mappings().all()
    return [
        Judged(
            row["rid"], row["role"], row["verdict"], row["rule"] or "", len(row["samples"] or ()),
            row["kind"], row["origin"],
        )
        for row in rows
    ]  # fmt: skip


def knows_row(ledger: Ledger, rid: str) -> bool:
    """Was there ever a row of this id?"""
    with ledger.read() as connection:
        wanted = select(t.exchange.c.rid).where(t.exchange.c.rid == rid)
        return connection.execute(wanted).first() is not None


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
