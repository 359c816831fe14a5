"""What curation needs of the ledger, and what it writes back.

In: a connection, and the line (the alias whose model is retrained).  Out: `Inputs`; and verdicts,
superseded rows and new versions of evaluation sets, all within the caller's transaction, so that
they and the run's state change together. Writing twice writes the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, func, insert, select, update

from ft2ollama.files import sha256_text
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.contamination import EvalItem, Retired
from ft2ollama.loop.curate.pipeline import RETURNING, Curation, Inputs
from ft2ollama.loop.curate.rows import load_rows
from ft2ollama.loop.curate.rules import Needs, text_in
from ft2ollama.loop.ledger import insert_new
from ft2ollama.loop.records import canonical

REGRESSION = "regression"  # LINE/regression: what promoted cycles of the line have held out


def judged(line: Any) -> Any:
    """SQL: a promoted run of the line has said its last word on the exchange."""
    run, record = t.run, t.run_record
    final = record.c.rule.is_(None) | record.c.rule.not_in(RETURNING)
    return exists().where(
        record.c.rid == t.exchange.c.rid,
        record.c.run_id == run.c.run_id,
        record.c.role == "new",
        final,
        run.c.line == line,
        run.c.state == "PROMOTED",
    )


def pending_rids(connection: Connection, line: str) -> list[str]:
    """Exchanges that no promoted run of this line has judged, not erased, not superseded; by seq.

    A run that was rejected or failed gives its rows back by that; so do rows that only found no
    place (`RETURNING`).
    """
    old = exists().where(t.supersede.c.old_rid == t.exchange.c.rid)
    query = select(t.exchange.c.rid).where(~judged(line), t.exchange.c.deleted_ms.is_(None), ~old)
    return list(connection.execute(query.order_by(t.exchange.c.seq)).scalars())


def kept_rids(connection: Connection, line: str) -> list[str]:
    """Exchanges that promoted runs of this line trained on and nobody erased; by seq.

    Those that they held out are among them once no evaluation set asks them any more: nothing that
    people said stays untaught for good.
    """
    run, record, exchange = t.run, t.run_record, t.exchange
    let_go = exchange.c.rid.not_in(held_rids(connection, line))
    query = (
        select(exchange.c.rid)
        .join(record, record.c.rid == exchange.c.rid)
        .join(run, and_(run.c.run_id == record.c.run_id, run.c.state == "PROMOTED"))
        .where(record.c.role == "new", run.c.line == line)
        .where((record.c.verdict == "keep") | ((record.c.verdict == "eval_fresh") & let_go))
        .where(exchange.c.deleted_ms.is_(None))
        .distinct()
    )
    return sorted(connection.execute(query).scalars())


def held_rids(connection: Connection, line: str) -> list[str]:
    """Exchanges that are held out for the gate: the newest LINE/regression."""
    item, name = t.eval_item, f"{line}/{REGRESSION}"
    version = _newest(connection).get(name)
    here = (item.c.set_name == name) & (item.c.version == version) & item.c.rid.is_not(None)
    return sorted(connection.execute(select(item.c.rid).where(here)).scalars())


def _newest(connection: Connection) -> dict[str, int]:
    """Set -> its newest version."""
    versions = t.eval_set
    query = select(versions.c.name, func.max(versions.c.version)).group_by(versions.c.name)
    return dict(connection.execute(query).all())


def read_inputs(
    connection: Connection,
    line: str,
    needs: Needs,
    seed: int,
    *,
    rids: Sequence[str] | None = None,
) -> Inputs:
    """Everything curation looks at. rids: the snapshot; default what is pending now."""
    new = load_rows(connection, pending_rids(connection, line) if rids is None else rids)
    known = {row.rid for row in new}
    old = load_rows(connection, [rid for rid in kept_rids(connection, line) if rid not in known])
    pairs = connection.execute(select(t.supersede.c.old_rid, t.supersede.c.new_rid)).all()
    path = needs.config.general_data
    return Inputs(
        new=new,
        needs=needs,
        seed=seed,
        old=old,
        superseded=dict(pairs),
        items=eval_items(connection, line),
        asked=load_rows(connection, held_rids(connection, line)),
        general=general_rows(path) if path else (),
    )


def eval_items(connection: Connection, line: str = "") -> list[EvalItem]:
    """The items of the newest version of every evaluation set; of regression only the line's own,
    because a row that another line has held out may be learned here.
    """
    item, versions = t.eval_item, t.eval_set
    newest = _newest(connection)
    since: dict[tuple[str, str, str], int] = {}
    found = []
    query = (
        select(item, versions.c.frozen_ms)
        .join(versions, and_(versions.c.name == item.c.set_name,
                             versions.c.version == item.c.version))
        .order_by(item.c.set_name, item.c.version, item.c.item_id)
    )  # fmt: skip
    for row in connection.execute(query).mappings():
        of, _, kind = row["set_name"].rpartition("/")
        if kind == REGRESSION and of != line:
            continue
        key = (row["set_name"], row["item_id"], row["reference"] or "")
        tags = row["tags"] if isinstance(row["tags"], dict) else {}
        first = since.setdefault(key, tags.get("since_ms", row["frozen_ms"]))
        if row["version"] == newest[row["set_name"]]:
            found.append(EvalItem(
                row["set_name"], row["version"], row["item_id"], _asked(row["prompt"]),
                row["question_sha256"], row["reference"] or "", first, row["rid"] or "",
            ))  # fmt: skip
    return found


def _asked(prompt: Any) -> str:
    """The last question of a prompt: messages, or {"messages": ...} or {"question": ...}."""
    if isinstance(prompt, dict):
        if isinstance(prompt.get("question"), str):
            return str(prompt["question"])
        prompt = prompt.get("messages", ())
    if isinstance(prompt, str):
        return prompt
    users = [message for message in prompt or () if message.get("role") == "user"]
    return text_in(users[-1]) if users else ""


def general_rows(path: Path) -> list[list[dict[str, Any]]]:
    """The conversations of a data file, in any format that training reads. Raises DataError."""
    from ft2ollama.data.load import load_dataset

    loaded = load_dataset((str(path),), path.parent)
    return [[dict(message) for message in one.messages] for one in loaded.conversations]


def write_verdicts(connection: Connection, run_id: str, curation: Curation, now_ms: int) -> None:
    """Rows of run_record, supersede and new versions of evaluation sets, for one run."""
    kept = ("rid", "role", "verdict", "rule", "evidence", "samples")
    rows = [
        {"run_id": run_id, **{name: _column(getattr(one, name)) for name in kept}}
        for one in curation.verdicts
    ]
    for start in range(0, len(rows), 500):
        insert_new(connection, t.run_record, rows[start : start + 500])
    if rows:
        record = t.run_record
        changed = update(record).where(
            record.c.run_id == bindparam("in_run"), record.c.rid == bindparam("of_rid")
        )
        connection.execute(
            changed.values({name: bindparam(name) for name in kept[1:]}),
            [{"in_run": run_id, "of_rid": row["rid"], **{n: row[n] for n in kept[1:]}}
             for row in rows],
        )  # fmt: skip
    pairs = [
        {"old_rid": one.rid, "new_rid": one.evidence["by"], "ts_ms": now_ms,
         "reason": f"answered anew, seen by run {run_id}"}
        for one in curation.verdicts if one.rule == "superseded"
    ]  # fmt: skip
    for pair in pairs:
        insert_new(connection, t.supersede, [pair])
    retire(connection, curation.retired, now_ms)


def _column(value: Any) -> Any:
    """An empty text is NULL; evidence and samples are JSON."""
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if not isinstance(value, str) else value or None


def retire(connection: Connection, out: Iterable[Retired], now_ms: int) -> list[tuple[str, int]]:
    """New versions of the sets that hold such items, without them; (name, version) of each."""
    by_set: dict[str, list[Retired]] = {}
    for one in out:
        by_set.setdefault(one.item.set_name, []).append(one)
    made = []
    for name, gone in sorted(by_set.items()):
        item = t.eval_item
        version = gone[0].item.version
        newest = connection.execute(
            select(func.max(t.eval_set.c.version)).where(t.eval_set.c.name == name)
        ).scalar_one()
        if newest != version:
            continue  # written before
        here = (item.c.set_name == name) & (item.c.version == version)
        query = select(item).where(here).order_by(item.c.item_id)
        ids = {one.item.item_id for one in gone}
        rows = [dict(row) for row in connection.execute(query).mappings()
                if row["item_id"] not in ids]  # fmt: skip
        note = "without " + ", ".join(f"{o.item.item_id} (see {o.rid})" for o in gone)
        add_version(connection, name, version + 1, rows, now_ms=now_ms, note=note)
        made.append((name, version + 1))
    return made


def add_version(
    connection: Connection,
    name: str,
    version: int,
    rows: Sequence[dict[str, Any]],
    *,
    now_ms: int,
    note: str = "",
) -> str:
    """Freeze an evaluation set: rows of eval_item, but for set_name and version; its sha256."""
    items = [{**row, "set_name": name, "version": version} for row in rows]
    told = sorted(
        canonical([r["item_id"], r["prompt"], r.get("reference"), r.get("keyfacts")]) for r in items
    )
    digest = sha256_text("\n".join(told))
    connection.execute(
        insert(t.eval_set).values(
            name=name, version=version, sha256=digest, frozen_ms=now_ms, note=note or None
        )
    )
    if items:
        connection.execute(insert(t.eval_item), items)
    return digest
