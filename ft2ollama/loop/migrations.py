"""From the ledger's version to ours, a step at a time, each in a transaction of its own.

A new database gets the tables as they are today. One that is newer than this program is refused:
an older program would write rows the newer one cannot trust.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, func, insert, inspect, select, text

from ft2ollama.errors import MachineError
from ft2ollama.loop.tables import schema_version, tables


def _held_out_rows_and_rollbacks(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE eval_result ADD COLUMN rid VARCHAR"))
    connection.execute(text("CREATE INDEX ix_eval_result_rid ON eval_result (rid)"))
    connection.execute(text("ALTER TABLE deployment ADD COLUMN last_seq BIGINT"))


# STEPS[n] takes version n to n + 1.  A step is SQL that both databases understand.
STEPS: dict[int, Callable[[Connection], None]] = {1: _held_out_rows_and_rollbacks}
VERSION = 2


def migrate(engine: Engine) -> None:
    """Create the tables or bring them to VERSION. Raises MachineError for a newer ledger."""
    with engine.begin() as connection:
        _lock(connection)
        if not inspect(connection).has_table(schema_version.name):
            tables.create_all(connection)
            connection.execute(insert(schema_version).values(version=VERSION))
            return
    while (version := _version(engine)) < VERSION:
        with engine.begin() as connection:
            _lock(connection)
            STEPS[version](connection)
            connection.execute(schema_version.update().values(version=version + 1))
    if version > VERSION:
        raise MachineError(
            "the ledger was written by a newer ft2ollama",
            f"its tables have version {version}, this program knows {VERSION}",
            "pip install --upgrade ft2ollama",
        )


def _version(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.max(schema_version.c.version))).scalar_one())


def _lock(connection: Connection) -> None:
    """One process migrates; the others wait (SQLite: the write lock of BEGIN IMMEDIATE)."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7103020)")
