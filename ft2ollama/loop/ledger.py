"""The ledger: every exchange, what was said of it, and what became of it.

In: records.  Out: rows, counts, and the promise that none is lost. SQLite by default, in WAL mode
with synchronous=FULL: a committed row survives a power cut; secure_delete: an erased text is gone
from the file too. PostgreSQL by URL, when several machines collect; the same code runs on both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from ft2ollama.errors import MachineError, UsageError
from ft2ollama.loop import tables as t
from ft2ollama.loop.identity import content_hmac
from ft2ollama.loop.migrations import migrate
from ft2ollama.loop.records import Exchange, Feedback, question_key
from ft2ollama.paths import data_dir

_BUSY_S = 30  # how long a writer waits for another one
_READS = "ft2ollama_reads"  # execution option: no write lock


class Ledger:
    """One database. `engine` for reading; writing goes through `begin`, one writer at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, where: str | Path | None = None) -> Ledger:
        """where: a URL or a file; default $FT2OLLAMA_LEDGER, else ledger.db in the data folder.

        Creates and migrates. Raises UsageError for a bad URL, MachineError when the database cannot
        be reached or is newer than this program.
        """
        engine = _engine(str(where or os.environ.get("FT2OLLAMA_LEDGER") or default_file()))
        try:
            migrate(engine)
        except BaseException as error:
            engine.dispose()
            if not isinstance(error, DatabaseError):
                raise
            raise MachineError(
                f"the ledger cannot be opened: {engine.url.render_as_string()}",
                str(error.orig).strip().splitlines()[0],
                "export FT2OLLAMA_LEDGER=/a/writable/folder/ledger.db, or a postgresql:// URL",
            ) from error
        return cls(engine)

    @property
    def name(self) -> str:
        """For people: the file, or the URL without its password."""
        url = self.engine.url
        return url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that writes: all of it is committed, or nothing."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, at one moment of the ledger, and holds no writer up."""
        reading = self.engine.execution_options(**{_READS: True})
        with reading.connect() as connection:
            yield connection

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def default_file() -> Path:
    """ledger.db in the user's data folder, which is made for its owner alone."""
    folder = data_dir()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / "ledger.db"


def is_there() -> bool:
    """Has this user a ledger? Nothing is made or opened."""
    named = os.environ.get("FT2OLLAMA_LEDGER")
    return bool(named) or (data_dir() / "ledger.db").is_file()


def source_id(connection: Connection, kind: str, uri: str) -> int:
    """The id of a source, made when it is new."""
    insert_new(connection, t.source, [{"kind": kind, "uri": uri}])
    wanted = select(t.source.c.id).where(t.source.c.kind == kind, t.source.c.uri == uri)
    return int(connection.execute(wanted).scalar_one())


def add_exchanges(
    connection: Connection,
    source: tuple[str, str],
    rows: Sequence[Exchange],
    *,
    batch_id: int | None = None,
) -> list[str | None]:
    """Write exchanges; the rid of each, None for one that was there already.

    source: (kind, uri).  Feedback that was waiting for one of them is joined to it. An import does
    not bring back what was erased, from whichever file it comes.
    """
    place = source_id(connection, *source)
    rids: list[str | None] = []
    erased = _erased(connection, rows)
    for row in rows:
        if not row.rid and content_hmac(row) in erased:
            rids.append(None)
            continue
        rid = row.rid or row.content_rid(*source)
        values = {**_columns(row), "rid": rid, "source_id": place, "batch_id": batch_id}
        new = insert_new(connection, t.exchange, [values])
        rids.append(rid if new else None)
        if new and row.message_id:
            _join_waiting(connection, rid, row.message_id, row.chat_id)
    return rids


def add_feedback(connection: Connection, said: Iterable[Feedback]) -> tuple[int, int]:
    """Write feedback; (joined to an exchange, waiting for one). What is there already is neither.

    Feedback by message id goes to the newest exchange with that id.
    """
    joined = waiting = 0
    for one in said:
        values = {
            "kind": one.kind, "value": one.value, "text": one.text or None,
            "actor_hmac": one.actor_hmac or None, "origin": one.origin, "ts_ms": one.ts_ms,
        }  # fmt: skip
        rid = _rid_of(connection, one)
        if rid is not None:
            joined += insert_new(connection, t.feedback, [{**values, "rid": rid}])
        elif one.message_id:
            values |= {"chat_id": one.chat_id or None, "message_id": one.message_id}
            waiting += insert_new(connection, t.feedback_waiting, [values])
        else:
            raise UsageError(
                "feedback names no answer that is here", f"rid {one.rid!r}", "give a message_id"
            )
    return joined, waiting


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Write rows, except those that are there already; how many were new."""
    build = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    made = build(table).values(list(rows)).on_conflict_do_nothing()
    return len(connection.execute(made.returning(literal(1))).all())


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _erased(connection: Connection, rows: Sequence[Exchange]) -> set[str]:
    """Which of these texts were erased once, as HMACs; most ledgers have no erasure at all."""
    wanted = t.erasure.c.content_hmac
    if connection.execute(select(wanted).where(wanted.is_not(None)).limit(1)).first() is None:
        return set()
    asked = [content_hmac(row) for row in rows if not row.rid]
    found = select(wanted).where(wanted.in_(asked))
    return set(connection.execute(found).scalars()) if asked else set()


def _rid_of(connection: Connection, said: Feedback) -> str | None:
    wanted = select(t.exchange.c.rid)
    if said.rid:
        wanted = wanted.where(t.exchange.c.rid == said.rid)
    else:
        wanted = wanted.where(t.exchange.c.message_id == said.message_id)
        if said.chat_id:
            wanted = wanted.where(t.exchange.c.chat_id == said.chat_id)
    return connection.execute(wanted.order_by(t.exchange.c.seq.desc()).limit(1)).scalar()


def _join_waiting(connection: Connection, rid: str, message_id: str, chat_id: str) -> None:
    waiting = t.feedback_waiting
    same = (waiting.c.message_id == message_id) & (
        (waiting.c.chat_id == (chat_id or None)) | waiting.c.chat_id.is_(None)
    )
    for row in connection.execute(select(waiting).where(same)).mappings().all():
        kept = ("kind", "value", "text", "actor_hmac", "origin", "ts_ms")
        values = {"rid": rid, **{name: row[name] for name in kept}}
        insert_new(connection, t.feedback, [values])
    connection.execute(waiting.delete().where(same))


_OPTIONAL = (
    "context_extractor", "thinking", "done_reason", "http_status", "route", "model",
    "model_digest", "chat_id", "message_id", "user_hmac", "task", "latency_ms", "ttft_ms", "raw",
    "consent", "expires_ms",
)  # fmt: skip


def _columns(row: Exchange) -> dict[str, Any]:
    """A record as columns; what is empty is NULL."""
    return {
        **{name: _or_null(getattr(row, name)) for name in _OPTIONAL},
        "ext_id": row.ext_id or row.rid,
        "ts_ms": row.ts_ms,
        "origin": row.origin,
        "complete": row.complete,
        "messages": [dict(message) for message in row.messages],
        "tools": list(map(dict, row.tools)) or None,
        "question": row.question,
        "question_sha256": question_key(row.question),
        "contexts": list(map(dict, row.contexts)) or None,
        "answer": row.answer,
        "tool_calls": list(map(dict, row.tool_calls)) or None,
        "usage": dict(row.usage) or None,
        "content_sha256": row.content_sha256,
    }


def _or_null(value: Any) -> Any:
    return None if value == "" else value


def mark_deleted(connection: Connection, rid: str, now: int) -> None:
    """The row stays as a number in every count; its text is gone."""
    empty: dict[str, Any] = {
        "messages": [], "tools": None, "question": "", "question_sha256": "", "contexts": None,
        "answer": "", "thinking": None, "tool_calls": None, "raw": None, "user_hmac": None,
        "chat_id": None, "message_id": None, "content_sha256": f"erased {rid}",
    }  # fmt: skip
    connection.execute(
        update(t.exchange).where(t.exchange.c.rid == rid).values(**empty, deleted_ms=now)
    )
    connection.execute(t.feedback.delete().where(t.feedback.c.rid == rid))


def _engine(where: str) -> Engine:
    if "://" not in where:
        path = Path(where).expanduser().absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        where = f"sqlite:///{path}"
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise UsageError(
            f"FT2OLLAMA_LEDGER is no database: {where}",
            str(error),
            "a file, or postgresql://user:password@host/database",
        ) from error
    backend = url.get_backend_name()
    if backend == "sqlite":
        engine = create_engine(url, connect_args={"timeout": _BUSY_S})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_at_once)
        return engine
    if backend != "postgresql":
        raise UsageError(
            f"the ledger cannot be kept in {backend}",
            "SQLite and PostgreSQL are tested",
            "a file, or postgresql://user:password@host/database",
        )
    return _postgres(url)


def _postgres(url: Any) -> Engine:
    try:
        return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise MachineError(
            "PostgreSQL needs its driver", str(error), "pip install 'ft2ollama[postgres]'"
        ) from error


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy says BEGIN itself, below
    for setting in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {setting}")


def _begin_at_once(connection: Connection) -> None:
    """Take the write lock before the first read, so that no transaction fails half-way."""
    reads = connection.get_execution_options().get(_READS)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
