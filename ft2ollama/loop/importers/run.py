"""Write what an importer reads into the ledger: every row is imported, duplicate or rejected.

In: a file and its importer.  Out: `Result`. 500 rows a transaction, with the count of rows done so
far, which is where a killed import goes on: the file is known by its hash, and readers give the
same rows in the same order. The source's name is part of a row's identity and the file's is not, so
next week's export of the same application brings only what is new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from ft2ollama.errors import JobError
from ft2ollama.files import sha256_file, sha256_text
from ft2ollama.loop import tables as t
from ft2ollama.loop.importers.base import Importer, Item, Record, Reject, Said
from ft2ollama.loop.importers.rows import is_sqlite
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback, now_ms, source_id
from ft2ollama.loop.records import Exchange, Feedback, Origin, canonical, question_key

BATCH = 500
OnRows = Callable[[int], None]


@dataclass(frozen=True)
class Reason:
    """Rows that were rejected for the same reason. values: of the first of them."""

    code: str
    count: int
    place: str
    values: Mapping[str, Any]


@dataclass
class Result:
    """What became of a file's rows. resumed: rows that an earlier, killed import had done."""

    path: Path
    importer: str
    batch_id: int = 0
    seen: int = 0
    imported: int = 0
    duplicate: int = 0
    rejected: int = 0
    feedback: int = 0
    resumed: int = 0
    reasons: dict[str, Reason] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """source: name of the application the rows come from.  origin: who wrote the answers, if said.

    label: what else decides how the file is read (a map), so that a killed import goes on only with
    the same.
    """

    importer: Importer
    source: str = ""
    origin: Origin | None = None
    label: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The source's identity in the ledger."""
        return self.importer.name, self.source

    @property
    def name(self) -> str:
        """What `import_batch.importer` says."""
        said = (self.importer.name, self.label, f"origin={self.origin}" if self.origin else "")
        return " ".join(filter(None, said))


def import_file(
    ledger: Ledger, path: Path, job: Job, *, dry_run: bool = False,
    on_rows: OnRows = lambda _: None,
) -> Result:  # fmt: skip
    """Import a file, or go on with one. Raises JobError when another process imports it now."""
    digest = file_sha256(path)
    changed_ms = path.stat().st_mtime_ns // 1_000_000
    result = Result(path, job.importer.name)
    known: set[str] = set()
    if not dry_run:
        _open_batch(ledger, job, digest, result)
    items = islice(job.importer.read(path), result.resumed, None)
    while part := list(islice(items, BATCH)):
        part = [_settled(item, job, changed_ms) for item in part]
        if dry_run:
            _try(ledger, job, part, result, known)
        else:
            with ledger.begin() as connection:
                _write(connection, job, part, result)
        on_rows(result.seen)
    if not dry_run:
        _finish(ledger, result)
    return result


def file_sha256(path: Path) -> str:
    """Hash of the file, of a database with the log beside it that is not yet written into it."""
    log = path.with_name(f"{path.name}-wal")
    if is_sqlite(path) and log.exists():
        return sha256_text(sha256_file(path) + sha256_file(log))
    return sha256_file(path)


def rejects(connection: Connection, batch_id: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """place, code and values of every rejected row of a batch, in the file's order."""
    table = t.import_reject
    query = select(table.c.place, table.c.reason).where(table.c.batch_id == batch_id)
    for place, reason in connection.execute(query.order_by(table.c.row_no)):
        code, _, values = reason.partition(" ")
        yield place, code, json.loads(values) if values else {}


def _open_batch(ledger: Ledger, job: Job, digest: str, result: Result) -> None:
    """The batch that a killed import of the same file left open, else a new one."""
    batch = t.import_batch
    with ledger.begin() as connection:
        place = source_id(connection, *job.key)
        same = {
            "source_id": place, "file_sha256": digest, "importer": job.name,
            "importer_version": job.importer.version, "state": "open",
        }  # fmt: skip
        mine = and_(*(batch.c[name] == value for name, value in same.items()))
        left = connection.execute(select(batch).where(mine).order_by(batch.c.id)).mappings().first()
        if left is None:
            made = insert(batch).values(**same, started_ms=now_ms()).returning(batch.c.id)
            result.batch_id = int(connection.execute(made).scalar_one())
            return
        result.batch_id, result.resumed = int(left["id"]), int(left["seen"])
        for name in ("seen", "imported", "duplicate", "rejected"):
            setattr(result, name, int(left[name]))
        for at, code, values in rejects(connection, result.batch_id):
            _count(result, Reject(at, code, values))


def _finish(ledger: Ledger, result: Result) -> None:
    batch = t.import_batch
    with ledger.begin() as connection:
        done = update(batch).where(batch.c.id == result.batch_id)
        connection.execute(done.values(state="done", finished_ms=now_ms()))


def _settled(item: Item, job: Job, changed_ms: int) -> Item:
    """The item with what the user said of its origin; without a time it has the file's."""
    if not isinstance(item, Record):
        return item
    row = item.exchange
    return replace(
        item,
        exchange=replace(row, ts_ms=row.ts_ms or changed_ms, origin=job.origin or row.origin),
    )


class _Undone(Exception):
    pass


def _try(ledger: Ledger, job: Job, part: Sequence[Item], result: Result, known: set[str]) -> None:
    """What writing would do; rows that an earlier part would have brought are duplicates."""
    before = [
        item for item in part
        if not isinstance(item, Record) or item.exchange.content_rid(*job.key) not in known
    ]  # fmt: skip
    again = len(part) - len(before)
    result.seen += again
    result.duplicate += again
    try:
        with ledger.begin() as connection:
            result.batch_id = _scratch_batch(connection, job, result.seen)
            _write(connection, job, before, result)
            raise _Undone
    except _Undone:
        result.batch_id = 0
    known |= {item.exchange.content_rid(*job.key) for item in part if isinstance(item, Record)}


def _scratch_batch(connection: Connection, job: Job, seen: int) -> int:
    values = {"importer": job.name, "importer_version": job.importer.version, "seen": seen,
              "started_ms": now_ms(), "source_id": source_id(connection, *job.key)}  # fmt: skip
    made = insert(t.import_batch).values(**values).returning(t.import_batch.c.id)
    return int(connection.execute(made).scalar_one())


def _write(connection: Connection, job: Job, part: Sequence[Item], result: Result) -> None:
    """One transaction's rows; `result` counts them."""
    batch, start = t.import_batch, result.seen
    mine = and_(batch.c.id == result.batch_id, batch.c.seen == start, batch.c.state == "open")
    moved = update(batch).where(mine).values(seen=start + len(part))
    if connection.execute(moved).rowcount != 1:
        raise JobError(
            f"another process imports this file now: {result.path}",
            f"batch {result.batch_id}", "wait for it; the same import afterwards is harmless",
        )  # fmt: skip
    _records(connection, job, [item for item in part if isinstance(item, Record)], result)
    for number, item in enumerate(part, start + 1):
        if isinstance(item, Said):
            item = _said(connection, item, result)
        if isinstance(item, Reject):
            _reject(connection, item, number, result)
    result.seen += len(part)
    counts = {name: getattr(result, name) for name in ("imported", "duplicate", "rejected")}
    connection.execute(update(batch).where(batch.c.id == result.batch_id).values(**counts))


def _records(connection: Connection, job: Job, records: Sequence[Record], result: Result) -> None:
    elsewhere = _elsewhere(connection, [record.exchange for record in records])
    new = [record for record in records if _identity(record.exchange) not in elsewhere]
    made = add_exchanges(
        connection, job.key, [record.exchange for record in new], batch_id=result.batch_id
    )
    written = [rid for rid in made if rid is not None]
    result.imported += len(written)
    result.duplicate += len(records) - len(written)
    for record in records:
        rid = elsewhere.get(_identity(record.exchange)) or record.exchange.content_rid(*job.key)
        if record.feedback and _is_here(connection, rid):
            _feedback(connection, record, rid, result)


_Identity = tuple[str, str, str, str]


def _identity(row: Exchange) -> _Identity:
    """An answer by its ids, wherever it was recorded."""
    return row.chat_id, row.message_id, question_key(row.question), row.answer.strip()


def _elsewhere(connection: Connection, rows: Sequence[Exchange]) -> dict[_Identity, str]:
    """Answers that are in the ledger already by their ids: the proxy heard what is exported now."""
    ids = {row.message_id for row in rows if row.message_id and row.chat_id}
    if not ids:
        return {}
    one = t.exchange
    query = select(
        one.c.rid, one.c.chat_id, one.c.message_id, one.c.question_sha256, one.c.answer
    ).where(one.c.message_id.in_(ids), one.c.deleted_ms.is_(None))
    return {
        (chat, message, asked, answer.strip()): rid
        for rid, chat, message, asked, answer in connection.execute(
            query.order_by(one.c.seq.desc())
        )
    }


def _is_here(connection: Connection, rid: str) -> bool:
    """Not erased: what was said of an erased answer does not come back either."""
    one = t.exchange
    query = select(one.c.rid).where(one.c.rid == rid, one.c.deleted_ms.is_(None))
    return connection.execute(query).first() is not None


def _feedback(connection: Connection, record: Record, rid: str, result: Result) -> None:
    for said in record.feedback:
        one = replace(said, rid=rid, ts_ms=said.ts_ms or record.exchange.ts_ms)
        if said.ts_ms or not _was_said(connection, one):
            result.feedback += add_feedback(connection, [one])[0]


def _was_said(connection: Connection, said: Feedback) -> bool:
    """The same words about the same answer, when a source gives no time to know them by."""
    one = t.feedback
    value = one.c.value.is_(None) if said.value is None else one.c.value == said.value
    text = one.c.text.is_(None) if not said.text else one.c.text == said.text
    query = select(one.c.id).where(
        one.c.rid == said.rid, one.c.kind == said.kind, one.c.origin == said.origin, value, text
    )
    return connection.execute(query).first() is not None


def _said(connection: Connection, item: Said, result: Result) -> Item:
    """Join feedback to its answer, by message id or as the newest of its chat."""
    found: list[Feedback] = []
    for said in item.feedback:
        rid = "" if said.message_id else _newest(connection, said.chat_id)
        if not said.message_id and not rid:
            return Reject(item.place, "no-answer-here", {}, item.raw)
        found.append(replace(said, rid=rid))
    new = sum(add_feedback(connection, found))
    result.feedback += new
    result.imported += bool(new)
    result.duplicate += not new
    return item


def _newest(connection: Connection, chat_id: str) -> str:
    one = t.exchange
    query = select(one.c.rid).where(one.c.chat_id == chat_id, one.c.deleted_ms.is_(None))
    return connection.execute(query.order_by(one.c.ts_ms.desc(), one.c.seq.desc())).scalar() or ""


def _reject(connection: Connection, item: Reject, number: int, result: Result) -> None:
    reason = f"{item.code} {canonical(_plain(item.values))}" if item.values else item.code
    row = {"batch_id": result.batch_id, "row_no": number, "place": item.place, "reason": reason,
           "raw": item.raw or None}  # fmt: skip
    connection.execute(insert(t.import_reject).values(**row))
    result.rejected += 1
    result.feedback += sum(add_feedback(connection, item.feedback))
    _count(result, item)


def _count(result: Result, item: Reject) -> None:
    first = result.reasons.get(item.code) or Reason(item.code, 0, item.place, item.values)
    result.reasons[item.code] = replace(first, count=first.count + 1)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | int | float | bool | None) else str(value)
        for name, value in values.items()
    }
