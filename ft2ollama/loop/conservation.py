"""Nothing is lost and nothing counts twice: queries over the ledger that must find nothing.

In: a ledger.  Out: `Violation`s. For every line each exchange is exactly one of erased, judged by a
promoted run, superseded, or pending; each run has one verdict for every row of its snapshot; what
importers saw is what they counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from ft2ollama.files import sha256_text
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.pipeline import RETURNING
from ft2ollama.loop.curate.store import judged, pending_rids
from ft2ollama.loop.ledger import Ledger

# States after which every row of a run has its verdict.
JUDGED = ("CURATED", "TRAINED", "EXPORTED", "REGISTERED", "EVALUATED", "APPROVED", "NEEDS_HUMAN",
          "SWAPPING", "PROMOTED", "REJECTED")  # fmt: skip


@dataclass(frozen=True)
class Violation:
    """A promise that does not hold. subject: the run, line, row or batch."""

    promise: str
    subject: str
    detail: str


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


# promise -> a query with subject and detail, without a row when all is well.
_QUERIES = {
    "an import counts every row it saw": (
        "SELECT CAST(id AS VARCHAR(20)), "
        "CAST(seen - imported - duplicate - rejected AS VARCHAR(20)) || ' rows' FROM import_batch "
        "WHERE state = 'done' AND seen <> imported + duplicate + rejected"
    ),
    "an import keeps every row it rejected": (
        "SELECT CAST(b.id AS VARCHAR(20)), CAST(b.rejected AS VARCHAR(20)) || ' rejected, ' || "
        "CAST((SELECT count(*) FROM import_reject r WHERE r.batch_id = b.id) AS VARCHAR(20)) "
        "|| ' kept' FROM import_batch b WHERE b.state = 'done' AND b.rejected <> "
        "(SELECT count(*) FROM import_reject r WHERE r.batch_id = b.id)"
    ),
    "a curated run has a verdict for every row": (
        "SELECT r.run_id, r.rid FROM run_record r JOIN run ON run.run_id = r.run_id "
        f"WHERE r.verdict = 'pending' AND run.state IN ({_listed(JUDGED)})"
    ),
    "a dropped row names its rule": (
        "SELECT run_id, rid FROM run_record WHERE verdict = 'drop' AND rule IS NULL"
    ),
    "a kept row has samples": (
        "SELECT run_id, rid FROM run_record WHERE verdict IN ('keep', 'eval_fresh') "
        "AND samples IS NULL"
    ),
    "a row is new in one promoted run of a line": (
        "SELECT run.line || ' ' || r.rid, CAST(count(*) AS VARCHAR(20)) || ' runs' "
        "FROM run_record r JOIN run ON run.run_id = r.run_id WHERE run.state = 'PROMOTED' "
        "AND r.role = 'new' AND (r.rule IS NULL OR r.rule NOT IN "
        f"({_listed(RETURNING)})) GROUP BY run.line, r.rid HAVING count(*) > 1"
    ),
    "a superseded row has a successor that is not itself": (
        "SELECT old_rid, new_rid FROM supersede WHERE old_rid = new_rid"
    ),
    "an erased row is listed as erased": (
        "SELECT rid, 'no row in erasure' FROM exchange WHERE deleted_ms IS NOT NULL AND rid NOT IN "
        "(SELECT rid FROM erasure)"
    ),
    "an erased row has no text": (
        "SELECT rid, 'text is left' FROM exchange WHERE deleted_ms IS NOT NULL "
        "AND (answer <> '' OR question <> '' OR raw IS NOT NULL)"
    ),
}


def conservation(ledger: Ledger) -> list[Violation]:
    """Every promise that does not hold; empty when the ledger is sound."""
    with ledger.engine.connect() as connection:
        found = [
            Violation(promise, str(subject), str(detail))
            for promise, query in _QUERIES.items()
            for subject, detail in connection.execute(text(query))
        ]
        lines = select(t.run.c.line).distinct().order_by(t.run.c.line)
        for line in connection.execute(lines).scalars():
            found += _line(connection, line)
        return [*found, *_snapshots(connection)]


def _line(connection: Connection, line: str) -> list[Violation]:
    """captured = promoted + pending + superseded + erased, each counted by itself."""
    exchange = t.exchange

    def count(*conditions: object) -> int:
        query = select(func.count()).select_from(exchange)
        return int(connection.execute(query.where(*conditions)).scalar_one())  # type: ignore[arg-type]

    old = select(t.supersede.c.old_rid)
    here = exchange.c.deleted_ms.is_(None)
    parts = {
        "erased": count(~here),
        "promoted": count(here, judged(line)),
        "superseded": count(here, ~judged(line), exchange.c.rid.in_(old)),
        "pending": len(pending_rids(connection, line)),
    }
    total = count()
    if total == sum(parts.values()):
        return []
    told = " + ".join(f"{number} {name}" for name, number in parts.items())
    return [Violation("every exchange is in one place", line, f"{total} captured, {told}")]


def _snapshots(connection: Connection) -> list[Violation]:
    """The rows of a run are those whose hash was written when it took them."""
    record = t.run_record
    wanted = dict(
        connection.execute(
            select(t.run.c.run_id, t.run.c.record_set_sha256).where(
                t.run.c.record_set_sha256.is_not(None)
            )
        ).all()
    )
    rids: dict[str, list[str]] = {run_id: [] for run_id in wanted}
    query = select(record.c.run_id, record.c.rid).where(record.c.role == "new")
    for run_id, rid in connection.execute(query):
        if run_id in rids:
            rids[run_id].append(rid)
    return [
        Violation("a run judges the rows it took", run_id, f"{len(rids[run_id])} rows")
        for run_id, digest in sorted(wanted.items())
        if sha256_text("\n".join(sorted(rids[run_id]))) != digest
    ]
