"""Records into the ledger: one thread writes, many requests wait together for one commit.

In: records.  Out: for each a word on where it is: "stored", "spooled", "lost" (or "unknown", for
feedback on an answer that is not here). A commit with fsync costs 4 ms for one row and not much
more for 64 (group commit). While the ledger fails or is slow, records go to the spool, which is as
durable; they are written when the ledger is back. Over a bound of waiting records, the spool.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError

from ft2ollama.errors import UsageError, UserError
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback
from ft2ollama.loop.proxy.spool import Item, Spool
from ft2ollama.loop.records import Exchange

Where = Literal["stored", "spooled", "lost", "unknown"]

_WAITING = 1000  # records that may wait for the thread
_BATCH = 256  # rows of one commit
_TOGETHER_S = 0.001  # how long the first record of a commit waits for others
_TRY_AGAIN_S = 5.0  # how long a store that failed is left alone
_AWAY = (OperationalError, InterfaceError, InternalError, OSError)  # the store, not the record
_log = logging.getLogger(__name__)


class Store:
    """`source`: (kind, uri) of every row. open_ledger: called by the thread, again after failure.

    patience_s: after this a record goes to the spool too, so that no client waits for a store.
    """

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        source: tuple[str, str],
        spool: Spool,
        *,
        patience_s: float = 3.0,
        try_again_s: float = _TRY_AGAIN_S,
    ) -> None:
        self._open, self._source, self._spool = open_ledger, source, spool
        self._patience_s, self._try_again_s = patience_s, try_again_s
        self._ledger: Ledger | None = None
        self._queue: queue.Queue[tuple[Item, Future[Where]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._down_until = 0.0
        self.problem = ""

    def start(self) -> None:
        """Start the thread; it drains the spool first."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Records that wait for the thread."""
        return self._queue.qsize()

    async def keep(self, item: Item) -> Where:
        """Return when the record is durable (or cannot be made so)."""
        if self._queue.qsize() >= _WAITING:
            return await asyncio.to_thread(self._to_spool, [item])
        written = asyncio.wrap_future(self.submit(item))
        done, _ = await asyncio.wait({written}, timeout=self._patience_s)
        if done:
            return written.result()
        return await asyncio.to_thread(self._to_spool, [item])

    def submit(self, item: Item) -> Future[Where]:
        """Hand a record to the thread."""
        future: Future[Where] = Future()
        self._queue.put((item, future))
        return future

    def _work(self) -> None:
        self._try_to_drain()
        while True:
            try:
                first = self._queue.get(timeout=self._try_again_s)
            except queue.Empty:
                self._try_to_drain()
                continue
            batch, more = self._batch(first)
            if batch:
                self._write(batch)
            if not more:
                break
        self._try_to_drain()
        if self._ledger is not None:
            self._ledger.close()

    def _batch(
        self, first: tuple[Item, Future[Where]] | None
    ) -> tuple[list[tuple[Item, Future[Where]]], bool]:
        """What waits now, and whether more may come."""
        batch = []
        one = first
        while one is not None:
            batch.append(one)
            if len(batch) == _BATCH:
                return batch, True
            try:
                one = self._queue.get(timeout=_TOGETHER_S if len(batch) == 1 else 0)
            except queue.Empty:
                return batch, True
        return batch, False

    def _write(self, batch: list[tuple[Item, Future[Where]]]) -> None:
        items = [item for item, _ in batch]
        try:
            places = self._commit(items)
        except Exception as error:  # noqa: BLE001 - whatever it is, the records must not be lost
            self._failed(error)
            places = [self._to_spool(items)] * len(items)
        for (_, future), place in zip(batch, places, strict=True):
            if not future.cancelled():
                future.set_result(place)

    def _commit(self, items: Sequence[Item]) -> list[Where]:
        if time.monotonic() < self._down_until:
            raise _StillDown(self.problem)
        self._drain()
        places = self._add(self._source, items)
        self.problem = ""
        return places

    def _add(self, source: tuple[str, str], items: Sequence[Item]) -> list[Where]:
        """Write in order: feedback may be about a row of the same batch."""
        ledger = self._opened()
        try:
            with ledger.begin() as connection:
                return [_add(connection, source, item) for item in items]
        except (*_AWAY, UserError):
            raise
        except Exception:  # noqa: BLE001 - one of them cannot be written: the others must be
            _log.warning("a record is refused by the ledger", exc_info=True)
        with ledger.begin() as connection:
            return [self._add_or_set_aside(connection, source, item) for item in items]

    def _add_or_set_aside(
        self, connection: Connection, source: tuple[str, str], item: Item
    ) -> Where:
        try:
            with connection.begin_nested():
                return _add(connection, source, item)
        except _AWAY:
            raise
        except Exception:  # noqa: BLE001 - kept in a file for a person to look at
            self._spool.beside("refused").append([item])
            return "spooled"

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = self._open()
        return self._ledger

    def _drain(self) -> None:
        while count := self._spool.drain(self._add):
            _log.info("%d records of the spool are in the ledger now", count)

    def _try_to_drain(self) -> None:
        if not self._spool.waiting() or time.monotonic() < self._down_until:
            return
        try:
            self._drain()
            self.problem = ""
        except Exception as error:  # noqa: BLE001 - it stays in the spool
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, _StillDown):
            return
        self._down_until = time.monotonic() + self._try_again_s
        self.problem = _in_a_line(error)
        _log.warning("the ledger failed: %s", self.problem, exc_info=error)

    def _to_spool(self, items: Sequence[Item]) -> Where:
        try:
            self._spool.append(items)
        except OSError as error:
            self.problem = f"the spool failed too: {error}"
            _log.error("%d records are lost: %s", len(items), error)
            return "lost"
        return "spooled"


def drain_into(ledger: Ledger, spool: Spool) -> int:
    """Write what waits in the spool, without a proxy; how many records there were."""

    def write(source: tuple[str, str], items: list[Item]) -> None:
        with ledger.begin() as connection:
            for item in items:
                _add(connection, source, item)

    return sum(iter(lambda: spool.drain(write), 0))


class _StillDown(Exception):
    pass


def _add(connection: Connection, source: tuple[str, str], item: Item) -> Where:
    if isinstance(item, Exchange):
        add_exchanges(connection, source, [item])
        return "stored"
    try:
        add_feedback(connection, [item])
    except UsageError:
        return "unknown"
    return "stored"


def _in_a_line(error: Exception) -> str:
    if isinstance(error, UserError):
        return f"{error.what}: {error.why}"
    cause = error.orig if isinstance(error, SQLAlchemyError) and hasattr(error, "orig") else error
    return (str(cause).strip().splitlines() or [type(error).__name__])[0]
