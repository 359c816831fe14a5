"""The ledger, on SQLite and on a real PostgreSQL: rows, identities, feedback, migrations."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import IntegrityError

from ft2ollama.errors import MachineError, UsageError
from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback, mark_deleted, now_ms
from ft2ollama.loop.records import Exchange, Feedback, new_rid, question_key

PROXY = ("proxy", "http://127.0.0.1:11434")


def exchange(question: str = "退货期多长？", answer: str = "30 天。", **more: object) -> Exchange:
    messages = [{"role": "user", "content": question}]
    return Exchange(messages, question, answer, **{"ts_ms": 1, **more})  # type: ignore[arg-type]


def rows(ledger: Ledger, table: str) -> int:
    with ledger.engine.connect() as connection:
        return connection.execute(
            select(func.count()).select_from(t.tables.tables[table])
        ).scalar_one()


def refused(ledger: Ledger, write: Callable[[Connection], None]) -> None:
    def attempt() -> None:
        with ledger.begin() as connection:
            write(connection)

    with pytest.raises(IntegrityError):
        attempt()


def test_the_same_row_is_written_once(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        first = add_exchanges(connection, PROXY, [exchange(), exchange("多少钱？", "¥3")])
    assert None not in first
    with ledger.begin() as connection:
        again = add_exchanges(connection, PROXY, [exchange(), exchange("多少钱？", "¥4")])
    assert again[0] is None
    assert again[1] not in (None, *first)
    with ledger.begin() as connection:  # the same words from elsewhere are another row
        assert add_exchanges(connection, ("file", "a.json"), [exchange()]) != [None]
    assert rows(ledger, "exchange") == 4
    assert rows(ledger, "source") == 2
    with ledger.engine.connect() as connection:
        found = connection.execute(select(t.exchange).order_by(t.exchange.c.seq)).mappings().all()
    assert [row["seq"] for row in found] == sorted(row["seq"] for row in found)
    assert found[0]["messages"] == [{"role": "user", "content": "退货期多长？"}]
    assert (found[0]["contexts"], found[0]["thinking"]) == (None, None)
    assert found[0]["question_sha256"] == question_key("退货期 多长?")


def test_a_transaction_is_whole_or_nothing(ledger: Ledger) -> None:
    def half(connection: Connection) -> None:
        add_exchanges(connection, PROXY, [exchange()])
        connection.execute(t.exchange.insert().values(rid="x", source_id=999))

    refused(ledger, half)
    assert rows(ledger, "exchange") == rows(ledger, "source") == 0


def test_feedback_finds_its_answer_before_or_after(ledger: Ledger) -> None:
    early = Feedback("thumb", 5, "open-webui", message_id="m1", value=-1)
    other = Feedback("thumb", 5, "open-webui", chat_id="c9", message_id="m1", value=1)
    with ledger.begin() as connection:
        assert add_feedback(connection, [early, early, other]) == (0, 1)
        add_exchanges(connection, PROXY, [exchange(chat_id="c1", message_id="m1")])
        late = Feedback("correction", 6, "open-webui", message_id="m1", text="14 天。")
        assert add_feedback(connection, [late]) == (1, 0)
        assert add_feedback(connection, [late]) == (0, 0)
    with ledger.engine.connect() as connection:
        found = connection.execute(select(t.feedback.c.kind, t.feedback.c.value)).all()
    assert sorted(found) == [("correction", None), ("thumb", -1.0)]
    assert rows(ledger, "feedback_waiting") == 0
    with pytest.raises(UsageError, match="names no answer"), ledger.begin() as connection:
        add_feedback(connection, [Feedback("thumb", 5, "x", rid="unknown", value=1)])


def test_what_cannot_be_is_refused_by_the_database(ledger: Ledger) -> None:
    def uncounted(connection: Connection) -> None:
        batch = {"source_id": 1, "importer": "x", "importer_version": 1, "started_ms": 1}
        add_exchanges(connection, PROXY, [exchange()])
        counts = {"seen": 3, "imported": 1, "duplicate": 0, "rejected": 1, "state": "done"}
        connection.execute(t.import_batch.insert().values(**batch, **counts))

    refused(ledger, uncounted)
    run = {
        "line": "shop", "base_ref": "b", "base_sha256": "0", "config": {}, "config_sha256": "0",
        "code_version": "0", "seed": 1, "created_ms": 1,
    }  # fmt: skip

    def two_open(connection: Connection) -> None:
        connection.execute(t.run.insert().values(run_id="a", state="CREATED", **run))
        connection.execute(t.run.insert().values(run_id="b", state="TRAINED", **run))

    refused(ledger, two_open)
    with ledger.begin() as connection:
        connection.execute(t.run.insert().values(run_id="a", state="PROMOTED", **run))
        connection.execute(t.run.insert().values(run_id="b", state="TRAINED", **run))


def test_erased_text_is_gone(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        (rid,) = add_exchanges(connection, PROXY, [exchange("我的电话是多少", "13800138000")])
        assert rid is not None
        add_feedback(connection, [Feedback("comment", 1, "x", rid=rid, text="13900139000")])
    with ledger.begin() as connection:
        mark_deleted(connection, rid, now_ms())
    with ledger.engine.connect() as connection:
        row = connection.execute(select(t.exchange)).mappings().one()
    assert (row["answer"], row["question"], row["messages"]) == ("", "", [])
    assert row["deleted_ms"] is not None
    assert rows(ledger, "feedback") == 0
    if ledger.engine.dialect.name == "sqlite":
        with ledger.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        folder = Path(ledger.name).parent
        stored = b"".join(file.read_bytes() for file in folder.iterdir())
        assert b"13800138000" not in stored
        assert b"13900139000" not in stored


def test_a_newer_ledger_is_refused(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        connection.execute(update(t.schema_version).values(version=99))
    with pytest.raises(MachineError, match="newer ft2ollama"):
        Ledger.open(ledger.engine.url.render_as_string(hide_password=False))


def test_sqlite_is_set_up_to_lose_nothing(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "数据/ledger.db") as ledger, ledger.engine.connect() as connection:
        for name, wanted in (
            ("journal_mode", "wal"), ("synchronous", 2), ("secure_delete", 1), ("foreign_keys", 1),
        ):  # fmt: skip
            assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == wanted


def test_the_default_place_belongs_to_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("FT2OLLAMA_LEDGER", raising=False)
    Ledger.open().close()
    assert (tmp_path / "data/ledger.db").is_file()
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("where", "words"),
    [("mysql://x/y", "cannot be kept in mysql"), ("://", "is no database")],
)
def test_other_databases_are_refused(where: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Ledger.open(where)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello " * 1000)
    with pytest.raises(MachineError, match="cannot be opened"):
        Ledger.open(tmp_path / "x.db")


_WRITE = """\
import sys
from ft2ollama.loop.ledger import Ledger, add_exchanges
from ft2ollama.loop.records import Exchange
with Ledger.open(sys.argv[1]) as ledger:
    for n in range(20):
        with ledger.begin() as connection:
            row = Exchange([{"role": "user"}], f"{sys.argv[2]} {n}", f"{sys.argv[2]} {n}", 1)
            add_exchanges(connection, ("proxy", "x"), [row])
"""


def test_several_processes_write_at_once(ledger: Ledger) -> None:
    url = ledger.engine.url.render_as_string(hide_password=False)
    writers = [subprocess.Popen([sys.executable, "-c", _WRITE, url, name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert rows(ledger, "exchange") == 60


def test_the_same_words_captured_twice_are_two(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        add_exchanges(connection, PROXY, [exchange(rid=new_rid(1)), exchange(rid=new_rid(1))])
    assert rows(ledger, "exchange") == 2


def test_ids_of_captures_are_in_order() -> None:
    assert new_rid(1) < new_rid(2) < new_rid(1_000_000_000_000)
    assert len({new_rid(1) for _ in range(100)}) == 100


def test_a_killed_writer_leaves_what_it_committed(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    code = _WRITE + "    connection = ledger.engine.connect().__enter__()\n"
    code += "    add_exchanges(connection, ('proxy', 'x'), [Exchange([], 'lost', 'a', 1)])\n"
    code += "    import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    killed = subprocess.run([sys.executable, "-c", code, str(file), "a"], check=False)
    assert killed.returncode == -9
    with Ledger.open(file) as ledger:
        assert rows(ledger, "exchange") == 20
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
