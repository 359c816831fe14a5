"""Questions of earlier cycles: what a promoted model was asked, later ones are asked again.

In: the fresh rows of a cycle that is promoted.  Out: a new version of the set LINE/regression. A
question leaves the set when its answer is out of date (`curate.store.retire`), when its row is
erased, or when newer ones need its place; its row then is trained on like any other.

An item keeps the id it had as a fresh one, so that the model that is live now is not asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.store import REGRESSION, add_version


def archive(
    connection: Connection,
    line: str,
    run_id: str,
    asked: Mapping[str, dict[str, Any]],
    *,
    most: int,
    since_ms: int,
    now_ms: int,
) -> None:
    """Take a promoted cycle's fresh questions into the set; its oldest ones make room.

    asked: rid -> columns of eval_item.  since_ms: the answers are what people said until then.
    """
    name = f"{line}/{REGRESSION}"
    before = newest(connection, name)
    gone = _out_of_date(connection, asked)
    tags = {"cycle": run_id, "since_ms": since_ms}
    new = [{**row, "rid": rid, "tags": tags} for rid, row in asked.items() if rid not in gone]
    ids = {row["item_id"] for row in new}
    old = [row for row in before if row["item_id"] not in ids]
    by_age = sorted([*old, *new], key=_age)
    rows = by_age[max(0, len(by_age) - most) :]
    if [row["item_id"] for row in rows] != [row["item_id"] for row in before]:
        _add(connection, name, rows, now_ms, f"after cycle {run_id}")


def leave(connection: Connection, rids: Sequence[str], now_ms: int) -> None:
    """Erased rows leave every evaluation set that they are in."""
    item = t.eval_item
    sets = select(item.c.set_name).where(item.c.rid.in_(rids)).distinct()
    for name in connection.execute(sets).scalars().all():
        rows = newest(connection, name)
        left = [row for row in rows if row["rid"] not in rids]
        if len(left) < len(rows):
            _add(connection, name, left, now_ms, "rows were erased")


def newest(connection: Connection, name: str) -> list[dict[str, Any]]:
    """The items of the newest version of a set, as rows of eval_item."""
    item = t.eval_item
    here = (item.c.set_name == name) & (item.c.version == _version(connection, name))
    rows = connection.execute(select(item).where(here)).mappings().all()
    return sorted(map(dict, rows), key=_age)


def _age(row: Mapping[str, Any]) -> tuple[str, str]:
    return (row["tags"] or {}).get("cycle", ""), row["item_id"]


def _version(connection: Connection, name: str) -> int:
    versions = t.eval_set
    wanted = select(func.max(versions.c.version)).where(versions.c.name == name)
    return int(connection.execute(wanted).scalar() or 0)


def _add(
    connection: Connection, name: str, rows: Sequence[dict[str, Any]], now_ms: int, note: str
) -> None:
    version = _version(connection, name) + 1
    add_version(connection, name, version, rows, now_ms=now_ms, note=note)


def _out_of_date(connection: Connection, rids: Mapping[str, Any]) -> set[str]:
    """Rows that were erased or superseded while the cycle was at work."""
    exchange, old = t.exchange, t.supersede.c.old_rid
    erased = select(exchange.c.rid).where(
        exchange.c.rid.in_(list(rids)), exchange.c.deleted_ms.is_not(None)
    )
    superseded = select(old).where(old.in_(list(rids)))
    return {
        *connection.execute(erased).scalars(),
        *connection.execute(superseded).scalars(),
    }
