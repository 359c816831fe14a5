"""The proxy as an ASGI application: two paths of our own, every other one goes to Ollama.

In: `Settings` and where to write.  Out: the application, and the parts that `serve` starts and
stops.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from ft2ollama import __version__
from ft2ollama.loop.ledger import Ledger, now_ms
from ft2ollama.loop.proxy.digests import Digests
from ft2ollama.loop.proxy.feedback import Unclear, read_feedback
from ft2ollama.loop.proxy.recorder import OUTCOMES, Consent, Event, Recorder
from ft2ollama.loop.proxy.relay import Relay, Upstream
from ft2ollama.loop.proxy.spool import Spool, spool_file
from ft2ollama.loop.proxy.store import Store
from ft2ollama.loop.proxy.tokens import Tokens
from ft2ollama.ollama_names import is_loopback

_LONGEST_FEEDBACK = 1 << 20


@dataclass(frozen=True)
class Settings:
    """upstream: URL of Ollama.  consent: whose exchanges are kept.  strict: an answer's last piece
    waits until its record is durable.  refuse_when_lost: break the answer off when neither ledger
    nor spool can be written.  tokens: hashes of the bearer tokens, none: everybody may.
    local: only this machine can reach the proxy.  keep_days: when rows may be erased.
    """

    upstream: str
    consent: Consent
    strict: bool = True
    refuse_when_lost: bool = False
    tokens: tuple[bytes, ...] = ()
    local: bool = True
    keep_days: int | None = None


class Proxy:
    """The application and its parts. `app` is what a server runs between `start` and `stop`."""

    def __init__(
        self,
        settings: Settings,
        open_ledger: Callable[[], Ledger] = Ledger.open,
        on_event: Event = lambda _: None,
        spool: Spool | None = None,
    ) -> None:
        source = ("proxy", settings.upstream)
        self.settings = settings
        self.spool = spool or Spool(spool_file(), source)
        self.store = Store(open_ledger, source, self.spool)
        self.upstream = Upstream(settings.upstream)
        self.recorder = Recorder(
            self.store, Digests(self.upstream.tags),
            consent=settings.consent, strict=settings.strict,
            refuse_when_lost=settings.refuse_when_lost, keep_days=settings.keep_days,
            on_event=on_event,
        )  # fmt: skip
        relay = Relay(
            self.upstream, self.recorder,
            keep_host=settings.local, strip_auth=bool(settings.tokens),
        )  # fmt: skip
        own = Starlette(
            routes=[
                Route("/ft2ollama/health", self._health),
                Route("/ft2ollama/feedback", self._feedback, methods=["POST"]),
                Mount("/ft2ollama", app=_nothing_here),
            ]
        )
        self.app: Any = _Paths(own, relay)
        if settings.tokens:
            self.app = Tokens(self.app, settings.tokens)

    def start(self) -> None:
        """Start writing."""
        self.store.start()

    async def stop(self) -> None:
        """Write what is there, close what is open."""
        await self.recorder.finish()
        self.store.stop()
        await self.upstream.close()

    def health(self) -> dict[str, Any]:
        """Counts since the start. ok: nothing was lost, and the ledger can be written."""
        counts = self.recorder.counts
        numbers = {name: counts[name] for name in ("captured", *OUTCOMES)}
        return {
            "ok": not counts["lost"] and not self.store.problem,
            "version": __version__,
            "upstream": self.settings.upstream,
            "consent": self.settings.consent,
            "strict": self.settings.strict,
            **numbers,
            **{
                name: counts[name]
                for name in ("background", "incomplete", "feedback", "passed", "asked_again")
            },
            "adds_up": counts["captured"] == sum(counts[name] for name in OUTCOMES),
            "waiting": self.store.waiting,
            "spool_bytes": self.spool.waiting(),
            "problem": self.store.problem,
        }

    async def _health(self, request: Request) -> JSONResponse:
        if refused := self._foreign(request):
            return refused
        found = self.health()
        return JSONResponse(found, 200 if found["ok"] else 503)

    async def _feedback(self, request: Request) -> JSONResponse:
        if refused := self._foreign(request):
            return refused
        # A web page of somebody else cannot send this type without asking us first.
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return _error(415, "send Content-Type: application/json")
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _LONGEST_FEEDBACK:
                return _error(413, f"more than {_LONGEST_FEEDBACK} bytes")
        try:
            said = read_feedback(json.loads(body), request.headers, now_ms())
        except (Unclear, RecursionError) as error:
            return _error(422, str(error))
        except ValueError:
            return _error(400, "no JSON")
        places = [await self.recorder.feedback(one) for one in said]
        if "unknown" in places:
            return _error(404, "no answer with this rid was kept")
        if "lost" in places:
            return _error(503, "it could not be kept; try again later")
        return JSONResponse({"kept": [one.kind for one in said], "where": places})

    def _foreign(self, request: Request) -> JSONResponse | None:
        """A page whose name points at this machine (DNS rebinding) is none of ours."""
        host = request.headers.get("host", "")
        if self.settings.local and not is_loopback(f"http://{host}"):
            return _error(403, f"this proxy serves this machine, not {host}")
        return None


class _Paths:
    """/ft2ollama/... and the lifespan to our application, the rest to the relay."""

    def __init__(self, own: Any, relay: Any) -> None:
        self._own, self._relay = own, relay

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        ours = scope["type"] != "http" or scope["path"].startswith("/ft2ollama/")
        await (self._own if ours else self._relay)(scope, receive, send)


async def _nothing_here(scope: Any, receive: Any, send: Any) -> None:
    await _error(404, "no such path: /ft2ollama/health, /ft2ollama/feedback")(scope, receive, send)


def _error(status: int, words: str) -> JSONResponse:
    return JSONResponse({"error": f"ft2ollama: {words}"}, status)
