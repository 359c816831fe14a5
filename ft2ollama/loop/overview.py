"""What is in the ledger: counts by source, by what people said, and by day.

In: a connection.  Out: `Overview`; every row of a source is complete, incomplete, background or
erased.
"""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, select

from ft2ollama.loop import tables as t


@dataclass(frozen=True)
class SourceCount:
    """Rows of one source: all = complete + incomplete + background + erased."""

    kind: str
    uri: str
    rows: int
    complete: int
    incomplete: int
    background: int
    erased: int


@dataclass(frozen=True)
class Overview:
    """feedback: kind (thumbs by sign) -> count.  waiting: feedback whose answer is not here.

    days: (date, rows) for every day from the first to the last of the last `days` days, local time.
    rejected: rows that importers did not take.
    """

    sources: tuple[SourceCount, ...]
    feedback: dict[str, int]
    waiting: int
    rejected: int
    days: tuple[tuple[str, int], ...]


def overview(connection: Connection, days: int = 30) -> Overview:
    """Count."""
    reject = select(func.count()).select_from(t.import_reject)
    waiting = select(func.count()).select_from(t.feedback_waiting)
    return Overview(
        tuple(_sources(connection)),
        _feedback(connection),
        int(connection.execute(waiting).scalar_one()),
        int(connection.execute(reject).scalar_one()),
        tuple(_days(connection, days)),
    )


def _sources(connection: Connection) -> list[SourceCount]:
    one = t.exchange
    erased = one.c.deleted_ms.is_not(None)
    task = and_(~erased, one.c.task.is_not(None))
    said = and_(~erased, one.c.task.is_(None))

    def count(what: object) -> object:
        return func.sum(case((what, 1), else_=0))  # type: ignore[arg-type]

    query = (
        select(
            t.source.c.kind, t.source.c.uri, func.count(),
            count(and_(said, one.c.complete)), count(and_(said, ~one.c.complete)),
            count(task), count(erased),
        )  # type: ignore[call-overload]
        .join(t.source, t.source.c.id == one.c.source_id)
        .group_by(t.source.c.id, t.source.c.kind, t.source.c.uri)
        .order_by(t.source.c.id)
    )  # fmt: skip
    return [SourceCount(*row) for row in connection.execute(query)]


def _feedback(connection: Connection) -> dict[str, int]:
    query = select(t.feedback.c.kind, t.feedback.c.value, func.count()).group_by(
        t.feedback.c.kind, t.feedback.c.value
    )
    counts: Counter[str] = Counter()
    for kind, value, count in connection.execute(query):
        sign = ("up" if value > 0 else "down") if kind == "thumb" and value else ""
        counts[f"{kind} {sign}".strip()] += count
    return dict(sorted(counts.items()))


def _days(connection: Connection, days: int) -> list[tuple[str, int]]:
    """Days by this machine's clock; the last is the newest row's."""
    newest = connection.execute(select(func.max(t.exchange.c.ts_ms))).scalar()
    if newest is None:
        return []
    last = _date(newest)
    first = last - datetime.timedelta(days=days - 1)
    since = datetime.datetime.combine(first, datetime.time()).timestamp() * 1000
    query = select(t.exchange.c.ts_ms).where(t.exchange.c.ts_ms >= int(since))
    counts = Counter(_date(ts) for ts in connection.execute(query).scalars())
    first = min(counts)
    span = [first + datetime.timedelta(days=n) for n in range((last - first).days + 1)]
    return [(day.isoformat(), counts[day]) for day in span]


def _date(ts_ms: int) -> datetime.date:
    return datetime.datetime.fromtimestamp(ts_ms / 1000).astimezone().date()
