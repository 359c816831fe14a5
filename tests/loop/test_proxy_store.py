"""When the store fails, is slow, or the proxy is killed: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy_rig import CHAT, NDJSON, Fake, answering, proxied, rows, served, wait_for
from sqlalchemy import create_engine, event, text

from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.proxy.spool import Spool
from ft2ollama.loop.proxy.store import Store
from ft2ollama.loop.records import Exchange, Feedback


@pytest.fixture
def upstream() -> Iterator[str]:
    with served(Fake()) as url:
        yield url


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield ledger


def _ask(url: str, count: int = 1) -> list[str]:
    with httpx.Client() as client:
        answers = [client.post(f"{url}/api/chat", json=CHAT) for _ in range(count)]
    assert {answer.content for answer in answers} == {NDJSON}
    return [answer.headers["x-f2o-rid"] for answer in answers]


def _rids(ledger: Ledger) -> list[str]:
    return [row["rid"] for row in rows(ledger)]


def _full_disk(proxy: Any, ledger: Ledger) -> Any:
    """SQLite says "database or disk is full" from the next page on; returns the way back."""
    pages = {"limit": 1}

    def limit(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages['limit']}")

    opened = proxy.store._opened()
    event.listen(opened.engine, "checkout", lambda connection, *_: limit(connection))

    def free() -> None:
        pages["limit"] = 1 << 30

    return free


def test_a_full_disk_goes_to_the_spool(upstream: str, sqlite: Ledger, tmp_path: Path) -> None:
    with proxied(upstream, sqlite, tmp_path) as (url, proxy):
        first = _ask(url)
        free = _full_disk(proxy, sqlite)
        while not proxy.health()["spooled"]:  # until the last page is full
            first += _ask(url)
        health = proxy.health()
        assert "full" in health["problem"]
        assert (health["ok"], health["lost"], health["adds_up"]) == (False, 0, True)
        assert (tmp_path / "spool.jsonl").stat().st_mode & 0o077 == 0
        rid = first[-1]
        assert rid not in _rids(sqlite)
        # What is said of an answer that is only in the spool waits with it.
        said = httpx.post(f"{url}/ft2ollama/feedback", json={"rid": rid, "thumb": 1})
        assert said.json()["where"] == ["spooled"]
        free()
        wait_for(lambda: not proxy.spool.waiting())
        assert sorted(_rids(sqlite)) == sorted(first)
        first += _ask(url)
        assert proxy.health()["problem"] == ""
    assert sorted(_rids(sqlite)) == sorted(first)
    with sqlite.engine.connect() as connection:
        assert connection.execute(text("SELECT rid FROM feedback")).scalars().all() == [rid]


def test_postgresql_is_away_and_comes_back(
    upstream: str, ledger: Ledger, tmp_path: Path, postgres: str
) -> None:
    if ledger.engine.dialect.name != "postgresql":
        pytest.skip("a server can be away, a file cannot")
    admin = create_engine(
        postgres.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    name = ledger.engine.url.database

    def allow(yes: bool) -> None:
        with admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}"))
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname=:name"),
                {"name": name},
            )

    with proxied(upstream, ledger, tmp_path) as (url, proxy):
        rids = _ask(url, 3)
        allow(False)
        rids += _ask(url, 3)
        assert proxy.health()["spooled"] == 3
        allow(True)
        wait_for(lambda: not proxy.spool.waiting())
        rids += _ask(url, 3)
    admin.dispose()
    ledger.engine.dispose()
    assert sorted(_rids(ledger)) == sorted(rids)


def test_a_store_that_hangs_keeps_no_client_waiting(
    upstream: str, sqlite: Ledger, tmp_path: Path
) -> None:
    with proxied(upstream, sqlite, tmp_path) as (url, proxy):
        proxy.store._patience_s = 0.2
        with sqlite.begin():  # another process writes, and does not end
            rids = _ask(url, 2)
            assert proxy.health()["spooled"] == 2
        wait_for(lambda: not proxy.spool.waiting())
    assert sorted(_rids(sqlite)) == sorted(rids)  # written twice, there once


def test_a_spool_that_is_drained_slowly_takes_more(sqlite: Ledger, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl", ("proxy", "x"))
    spool.append([Exchange((), "a", "b", 1, rid="r1")])
    seen: list[str] = []

    def slow(_: Any, items: list[Any]) -> None:
        seen.extend(item.rid for item in items)
        if len(seen) == 1:
            spool.append([Exchange((), "a", "b", 1, rid="r2")])
            raise OSError("away again")

    with pytest.raises(OSError, match="away again"):
        spool.drain(slow)
    assert (spool.drain(slow), spool.drain(slow), spool.drain(slow)) == (1, 1, 0)
    assert seen == ["r1", "r1", "r2"]


@pytest.mark.parametrize("refuse", [False, True])
def test_ledger_and_spool_fail(upstream: str, sqlite: Ledger, tmp_path: Path, refuse: bool) -> None:
    """The answer is given all the same, or broken off: as the user chose; and it is counted."""
    with proxied(upstream, sqlite, tmp_path, refuse_when_lost=refuse) as (url, proxy):
        proxy.store._patience_s = 0.2
        (tmp_path / "file").touch()
        proxy.spool.path = tmp_path / "file/spool.jsonl"
        with sqlite.begin():
            if refuse:
                with pytest.raises(httpx.RemoteProtocolError):
                    _ask(url)
            else:
                _ask(url)
            health = httpx.get(f"{url}/ft2ollama/health")
            assert (health.status_code, health.json()["lost"]) == (503, 1)
            assert "spool" in health.json()["problem"]


def test_the_spool_of_the_last_time_is_drained(sqlite: Ledger, tmp_path: Path) -> None:
    source = ("proxy", "http://x")
    spool = Spool(tmp_path / "spool.jsonl", source)
    row = Exchange(CHAT["messages"], "a", "b", 1, rid="r1")  # type: ignore[arg-type]
    spool.append([row, Feedback("thumb", 1, "api", rid="r1", value=1)])
    with (tmp_path / "spool.jsonl").open("ab") as file:
        file.write(b'{"source": ["proxy", "http://x"], "exchange": {"mess')  # a crash
    Spool(tmp_path / "spool.jsonl", ("proxy", "http://y")).append(
        [Exchange((), "c", "d", 1, rid="r2")]
    )
    store = Store(lambda: Ledger.open(sqlite.name), source, spool)
    store.start()
    store.stop()
    assert _rids(sqlite) == ["r1", "r2"]
    assert spool.waiting() == 0
    with sqlite.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM feedback")).scalar_one() == 1


def test_one_bad_record_does_not_hold_the_others(sqlite: Ledger, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl", ("proxy", "x"))
    store = Store(lambda: Ledger.open(sqlite.name), ("proxy", "x"), spool)
    good = Exchange((), "a", "b", 1, rid="good")
    bad = Exchange((), "a", "b", 1, rid="bad", origin="nobody")  # type: ignore[arg-type]
    futures = [store.submit(one) for one in (bad, good)]
    store.start()
    store.stop()
    assert [future.result() for future in futures] == ["spooled", "stored"]
    assert _rids(sqlite) == ["good"]
    assert json.loads((tmp_path / "refused.jsonl").read_text())["exchange"]["rid"] == "bad"


def test_many_wait_for_one_commit(upstream: str, sqlite: Ledger, tmp_path: Path) -> None:
    commits = []
    with proxied(upstream, sqlite, tmp_path) as (url, proxy):
        event.listen(proxy.store._opened().engine, "commit", commits.append)

        async def ask() -> None:
            async with httpx.AsyncClient() as client:
                asked = [client.post(f"{url}/api/chat", json=CHAT) for _ in range(64)]
                assert {one.content for one in await asyncio.gather(*asked)} == {NDJSON}

        asyncio.run(ask())
        assert proxy.health()["stored"] == 64
    assert len(commits) < 48
    assert len(rows(sqlite)) == 64


def test_fast_writes_behind(upstream: str, sqlite: Ledger, tmp_path: Path) -> None:
    with proxied(upstream, sqlite, tmp_path, strict=False) as (url, _), sqlite.begin():
        rids = _ask(url, 3)  # the ledger is busy, and nobody waits for it
    assert _rids(sqlite) == rids


_KILLS, _CLIENTS = 3, 8


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/loop_capture.py is the long one."""
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path))
    fake = Fake()
    fake.script = answering(NDJSON.splitlines(keepends=True), pause=0.002)
    acknowledged: set[str] = set()
    with served(fake) as upstream:
        for _ in range(_KILLS):
            acknowledged |= _round(upstream, 40)
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        kept = {row["rid"] for row in rows(ledger) if row["complete"]}
    assert len(acknowledged) >= 40 * _KILLS
    assert acknowledged - kept == set()


def _round(upstream: str, wanted: int) -> set[str]:
    """Start a proxy, ask through it with several clients, kill it; rids of whole answers."""
    command = [sys.executable, "-m", "ft2ollama", "--json", "collect", "serve", "--consent=all",
               "--port=0", f"--upstream={upstream}"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as proxy:
        assert proxy.stdout is not None
        address = json.loads(proxy.stdout.readline())["address"]
        heard: set[str] = set()
        clients = [threading.Thread(target=_client, args=(address, heard)) for _ in range(_CLIENTS)]
        for client in clients:
            client.start()
        wait_for(lambda: len(heard) >= wanted, 30)
        os.kill(proxy.pid, signal.SIGKILL)
        for client in clients:
            client.join()
    return heard


def _client(address: str, heard: set[str]) -> None:
    with httpx.Client() as client:
        while True:
            try:
                with client.stream("POST", f"{address}/api/chat", json=CHAT) as answer:
                    for line in answer.iter_lines():
                        if json.loads(line)["done"]:
                            heard.add(answer.headers["x-f2o-rid"])
            except httpx.TransportError:
                return
