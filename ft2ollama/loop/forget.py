"""Erase what a person wants erased, and say which models have seen it.

In: a choice of rows.  Out: their text is gone from every table (and from SQLite's file: it
overwrites what is deleted, and its log is emptied); a row without text stays, so that every count
still adds up. The models that were trained on them are listed: the next retraining is without them.
`erasure.content_hmac` keeps an old export from bringing the text back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, select, update

from ft2ollama.loop import tables as t
from ft2ollama.loop.identity import hmac_user, words_hmac
from ft2ollama.loop.ledger import Ledger, insert_new, mark_deleted, now_ms
from ft2ollama.loop.place import cycles_folder
from ft2ollama.loop.records import canonical
from ft2ollama.loop.regression import leave
from ft2ollama.loop.traces import Wanted, holding, text_files

_CHUNK = 500


@dataclass(frozen=True)
class Choice:
    """Which rows: any of these that is given, all that are given together.

    user: as the application names the person.  text: occurs in the row or in what was said of it.
    expired: whose time is over.
    """

    rids: tuple[str, ...] = ()
    chat: str = ""
    user: str = ""
    text: str = ""
    expired: bool = False


@dataclass(frozen=True)
class Row:
    """A row that would be erased."""

    rid: str
    ts_ms: int
    model: str
    question: str


@dataclass(frozen=True)
class Trained:
    """A run that was trained on erased rows, or judged by them.

    names: what it was published as.  files: of its folder, those in which the text stands.
    """

    run_id: str
    line: str
    state: str
    rows: int
    names: tuple[str, ...]
    files: tuple[Path, ...]


def find(connection: Connection, choice: Choice) -> list[Row]:
    """The rows of a choice that still have their text, oldest first. An empty choice finds none."""
    if choice == Choice():
        return []
    exchange = t.exchange
    wanted = select(exchange).where(exchange.c.deleted_ms.is_(None)).order_by(exchange.c.seq)
    if choice.chat:
        wanted = wanted.where(exchange.c.chat_id == choice.chat)
    if choice.user:
        wanted = wanted.where(exchange.c.user_hmac == hmac_user(choice.user))
    if choice.expired:
        wanted = wanted.where(exchange.c.expires_ms <= now_ms())
    if choice.rids:
        wanted = wanted.where(exchange.c.rid.in_(choice.rids))
    said = _said_with(connection, choice.text) if choice.text else set()
    return [
        Row(row["rid"], row["ts_ms"], row["model"] or "", row["question"])
        for row in _paged(connection, wanted)
        if not choice.text or row["rid"] in said or _has(row, choice.text)
    ]


def _paged(connection: Connection, query: Select[Any]) -> Iterator[RowMapping]:
    """Rows of exchanges in the order of `seq`, some hundred at a time: each may be long."""
    last = 0
    while rows := connection.execute(
        query.where(t.exchange.c.seq > last).limit(_CHUNK)
    ).mappings().all():  # fmt: skip
        yield from rows
        last = rows[-1]["seq"]


def forget(ledger: Ledger, choice: Choice, rows: Sequence[Row], reason: str) -> list[Trained]:
    """Erase them in one transaction; the runs that were trained on them."""
    rids = [row.rid for row in rows]
    with ledger.begin() as connection:
        trained = list(trained_on(connection, rids))
        leave(connection, rids, now_ms())
        for rid in rids:
            _erase(connection, rid, reason)
        _erase_answers(connection, rids)
        if choice.text:
            _erase_elsewhere(connection, choice.text)
        if choice == Choice(user=choice.user):
            _erase_elsewhere_of(connection, hmac_user(choice.user))
    if ledger.engine.dialect.name == "sqlite":
        _empty_the_log(ledger)
    return trained


def trained_on(connection: Connection, rids: Sequence[str]) -> Iterator[Trained]:
    """The runs that kept one of these rows, to train on or for their gate, oldest first."""
    record, run = t.run_record, t.run
    seen: dict[str, list[str]] = {}
    for start in range(0, len(rids), _CHUNK):
        query = select(record.c.run_id, record.c.rid).where(
            record.c.rid.in_(rids[start : start + _CHUNK]),
            record.c.verdict.in_(("keep", "eval_fresh")),
        )
        for run_id, rid in connection.execute(query):
            seen.setdefault(run_id, []).append(rid)
    query = select(run).where(run.c.run_id.in_(seen)).order_by(run.c.created_ms)
    for one in connection.execute(query).mappings().all():
        run_id, mine = one["run_id"], seen[one["run_id"]]
        names, files = _names(connection, run_id), _files(connection, run_id, mine)
        yield Trained(run_id, one["line"], one["state"], len(mine), names, files)


def _names(connection: Connection, run_id: str) -> tuple[str, ...]:
    """What the run was published as: its own tag, and every public name that became it."""
    query = select(t.deployment.c.to_tag, t.deployment.c.alias).where(
        t.deployment.c.run_id == run_id, t.deployment.c.state.in_(("applied", "verified"))
    )
    found = [name for pair in connection.execute(query) for name in pair]
    return tuple(dict.fromkeys(found))


def _files(connection: Connection, run_id: str, rids: Sequence[str]) -> tuple[Path, ...]:
    """Its files in which the text of these rows stands, in clear."""
    query = select(t.stage_output.c.path).where(t.stage_output.c.run_id == run_id)
    named = map(Path, connection.execute(query).scalars())
    return tuple(holding([*named, *text_files(cycles_folder() / run_id)],
                         Wanted.of(connection, rids)))  # fmt: skip


def _erase(connection: Connection, rid: str, reason: str) -> None:
    exchange, record = t.exchange, t.run_record
    row = connection.execute(select(exchange).where(exchange.c.rid == rid)).mappings().one()
    runs = connection.execute(select(record.c.run_id).where(record.c.rid == rid)).scalars()
    now = now_ms()
    # A background task has no text, and nothing of it could come back.
    mark = words_hmac(row["question"], row["answer"]) if row["question"] else None
    noted = {"rid": rid, "ts_ms": now, "reason": reason, "runs": sorted(runs), "content_hmac": mark}
    insert_new(connection, t.erasure, [noted])
    mark_deleted(connection, rid, now)
    connection.execute(update(record).where(record.c.rid == rid).values(evidence=None))
    _erase_eval_items(connection, rid)


def _erase_eval_items(connection: Connection, rid: str) -> None:
    item, result = t.eval_item, t.eval_result
    mine = select(item.c.set_name, item.c.version, item.c.item_id).where(item.c.rid == rid)
    for name, version, item_id in connection.execute(mine).all():
        here = and_(
            result.c.set_name == name, result.c.version == version, result.c.item_id == item_id
        )
        connection.execute(update(result).where(here).values(output=""))
    empty: dict[str, Any] = {"prompt": {}, "reference": None, "keyfacts": None}
    connection.execute(update(item).where(item.c.rid == rid).values(**empty))


def _erase_answers(connection: Connection, rids: Sequence[str]) -> None:
    """What models answered to these rows when they were held out: answers repeat questions.

    Answers that an older ft2ollama kept do not say to which row they belong: all of those go.
    """
    result, record = t.eval_result, t.run_record
    held = record.c.rid.in_(rids) & (record.c.verdict == "eval_fresh")
    runs = select(record.c.run_id).where(held)
    unknown = result.c.rid.is_(None) & result.c.set_name.endswith("/fresh")
    here = result.c.rid.in_(rids) | (unknown & result.c.run_id.in_(runs))
    connection.execute(update(result).where(here).values(output=""))


def _erase_elsewhere(connection: Connection, text: str) -> None:
    """Rows rejected on import, feedback on answers that are not here, what models said in tests."""
    said = t.eval_result
    here = said.c.output.contains(text, autoescape=True)
    connection.execute(update(said).where(here).values(output=""))
    reject, waiting = t.import_reject, t.feedback_waiting
    for row in connection.execute(select(reject)).mappings().all():
        if text in (row["raw"] or ""):
            here = and_(reject.c.batch_id == row["batch_id"], reject.c.row_no == row["row_no"])
            connection.execute(update(reject).where(here).values(raw=None))
    for row in connection.execute(select(waiting)).mappings().all():
        if text in (row["text"] or ""):
            connection.execute(waiting.delete().where(waiting.c.id == row["id"]))


def _erase_elsewhere_of(connection: Connection, who: str) -> None:
    """The same by person: importers keep names and ids only as HMAC."""
    reject, waiting = t.import_reject, t.feedback_waiting
    here = reject.c.raw.contains(who, autoescape=True)
    connection.execute(update(reject).where(here).values(raw=None))
    connection.execute(waiting.delete().where(waiting.c.actor_hmac == who))


def _said_with(connection: Connection, text: str) -> set[str]:
    query = select(t.feedback.c.rid, t.feedback.c.text).where(t.feedback.c.text.is_not(None))
    return {rid for rid, said in connection.execute(query) if text in said}


def _has(row: Any, text: str) -> bool:
    """Is it in the row? JSON may hold it with escapes, so it is compared unpacked."""
    plain = (row["question"], row["answer"], row["thinking"], row["raw"])
    packed = (row["messages"], row["contexts"], row["tool_calls"])
    escaped = canonical(text)[1:-1]
    return any(text in (one or "") for one in plain) or any(
        escaped in canonical(one) for one in packed
    )


def _empty_the_log(ledger: Ledger) -> None:
    """Deleted text stands in the write-ahead log until it is written over."""
    raw = ledger.engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        raw.close()
