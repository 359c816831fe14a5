"""What becomes of a captured request: recorded, or not, and why; every one is counted once.

captured = stored + spooled + declined + loads + lost + open, at any moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ft2ollama.loop.ledger import now_ms
from ft2ollama.loop.proxy.assemble import assemble
from ft2ollama.loop.proxy.capture import Capture
from ft2ollama.loop.proxy.digests import Digests
from ft2ollama.loop.proxy.store import Store, Where
from ft2ollama.loop.records import Exchange, Feedback, canonical

Consent = Literal["all", "header", "none"]
Event = Callable[[Mapping[str, Any]], None]

OUTCOMES = ("stored", "spooled", "declined", "loads", "lost", "open")
_BIG = 1 << 18  # bytes from which a record is assembled outside the event loop
_log = logging.getLogger(__name__)


class StoreFailed(Exception):
    """The record could not be kept, and the user wants no answer without one."""


class Recorder:
    """consent: whose exchanges are kept.  strict: an answer ends when its record is durable."""

    def __init__(
        self,
        store: Store,
        digests: Digests,
        *,
        consent: Consent,
        strict: bool = True,
        refuse_when_lost: bool = False,
        keep_days: int | None = None,
        on_event: Event = lambda _: None,
    ) -> None:
        self.store = store
        self.consent = consent
        self.strict = strict
        self._refuse, self._digests, self._on_event = refuse_when_lost, digests, on_event
        self._keep_days = keep_days
        self.counts: Counter[str] = Counter()
        self._writing: set[asyncio.Task[str]] = set()

    def begin(self, route: str, headers: Mapping[str, str]) -> Capture | None:
        """Listen to a request, unless the person did not agree to it."""
        self.counts["captured"] += 1
        said = _consent(self.consent, headers)
        if not said:
            self.counts["declined"] += 1
            return None
        self.counts["open"] += 1
        return Capture(route, headers, said, self._digests.asked())

    async def save(self, capture: Capture) -> None:
        """Make the record durable (strict), or see to it that it soon is.

        Raises StoreFailed when it could not be kept and the answer shall be refused for it.
        """
        if capture.saved:
            return
        capture.saved = True
        # A task of its own: a client that leaves cancels its request, never its record.
        task = asyncio.create_task(self._keep(capture))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        if self.strict and await asyncio.shield(task) == "lost" and self._refuse:
            raise StoreFailed

    async def _keep(self, capture: Capture) -> str:
        row = await self._assembled(capture)
        where = "loads" if row is None else await self.store.keep(row)
        self.counts["open"] -= 1
        self.counts[where] += 1
        self._tell(row, where)
        return where

    async def feedback(self, said: Feedback) -> Where:
        """Keep what a person said of an answer; it is durable when this returns."""
        where = await self.store.keep(said)
        self.counts["feedback"] += where != "unknown"
        self._on_event({"event": "feedback", "said": said.kind, "rid": said.rid, "where": where})
        return where

    async def finish(self) -> None:
        """Wait for records that are written behind."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def _assembled(self, capture: Capture) -> Exchange | None:
        digests = await asyncio.shield(capture.digests) if capture.digests else {}
        try:
            if capture.request.length + capture.reply.length < _BIG:
                return assemble(capture, digests, self._keep_days)
            return await asyncio.to_thread(assemble, capture, digests, self._keep_days)
        except Exception as error:  # noqa: BLE001 - what cannot be read is noted, not lost
            _log.warning("an exchange could not be read", exc_info=True)
            return _unreadable(capture, error)

    def _tell(self, row: Exchange | None, where: str) -> None:
        if row is None:
            return
        self.counts["incomplete"] += not row.complete
        self.counts["background"] += bool(row.task)
        usage = row.usage.get("completion_tokens")
        self._on_event(
            {
                "event": "exchange", "rid": row.rid, "route": row.route, "model": row.model,
                "status": row.http_status, "complete": row.complete, "task": row.task,
                "tokens": usage, "ttft_ms": row.ttft_ms, "latency_ms": row.latency_ms,
                "contexts": len(row.contexts), "where": where,
            }
        )  # fmt: skip


def _consent(wanted: Consent, headers: Mapping[str, str]) -> str:
    """What the row says of consent; "" when it must not be kept."""
    if headers.get("x-f2o-no-store", "").strip().lower() in ("1", "true", "yes"):
        return ""
    if wanted == "header":
        said = headers.get("x-f2o-consent", "").strip()
        return said if said and said.lower() not in ("0", "false", "no") else ""
    return "all" if wanted == "all" else ""


def _unreadable(capture: Capture, error: Exception) -> Exchange:
    note = {"notes": {"unreadable": type(error).__name__, "request": capture.request.note}}
    return Exchange(
        (), "", "", now_ms(), rid=capture.rid, route=capture.route, complete=False,
        http_status=capture.status or None, consent=capture.consent, raw=canonical(note),
    )  # fmt: skip
