"""A proxy and an upstream of our own, each under uvicorn in a thread, on free loopback ports."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import select

from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.proxy.app import Proxy, Settings
from ft2ollama.loop.proxy.serve import listen
from ft2ollama.loop.proxy.spool import Spool

Send = Callable[[dict[str, Any]], Awaitable[None]]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "退货期多长？"}]}
LINES = [
    {"model": "m", "message": {"role": "assistant", "content": "30"}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": ' 天 "done":true'}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True,
     "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3},
]  # fmt: skip
NDJSON = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in LINES).encode()
ANSWER = '30 天 "done":true'


def _event(**choice: Any) -> str:
    return f"data: {json.dumps({'model': 'm', 'choices': [{'index': 0, **choice}]})}\n\n"


SSE = (
    _event(delta={"role": "assistant", "content": "30"}, finish_reason=None)
    + _event(delta={"content": " [DONE] 天"}, finish_reason=None)
    + _event(delta={}, finish_reason="stop")
    + "data: [DONE]\n\n"
).encode()


class Fake:
    """An upstream. `script`: (scope, body, receive, send) -> None, for every path but /api/tags."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, Any], bytes]] = []
        self.script: Callable[..., Awaitable[None]] = answering([NDJSON])
        self.reads_body = True

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if scope["path"] == "/api/tags":
            tags = {"models": [{"name": "m:latest", "digest": "d" * 64}]}
            await reply(send, json.dumps(tags).encode(), b"application/json")
            return
        body = bytearray()
        while self.reads_body:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.requests.append((scope, bytes(body)))
        await self.script(scope, bytes(body), receive, send)


def answering(
    pieces: list[bytes], content_type: bytes = b"application/x-ndjson", pause: float = 0.0
) -> Callable[..., Awaitable[None]]:
    """A script that sends these pieces."""

    async def script(scope: Any, body: bytes, receive: Any, send: Send) -> None:
        await head(send, content_type)
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": b""})

    return script


async def head(send: Send, content_type: bytes, status: int = 200, *more: Any) -> None:
    headers = [(b"Content-Type", content_type), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def reply(send: Send, body: bytes, content_type: bytes, status: int = 200) -> None:
    await head(send, content_type, status, (b"Content-Length", str(len(body)).encode()))
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(app: Any, stop: Callable[[], Awaitable[None]] | None = None) -> Iterator[str]:
    """Run an ASGI application, then `stop`; yields its URL."""
    opened = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", http="h11",
        server_header=False, date_header=False, timeout_graceful_shutdown=2, loop="asyncio",
        h11_max_incomplete_event_size=1 << 20,
    )  # fmt: skip
    server = uvicorn.Server(config)

    async def run() -> None:
        await server.serve(sockets=[opened])
        if stop is not None:
            await stop()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        opened.close()


@contextmanager
def proxied(
    upstream: str, ledger: Ledger, folder: Path, events: list[Any] | None = None, **options: Any
) -> Iterator[tuple[str, Proxy]]:
    """A proxy in front of `upstream`; yields its URL and its parts."""
    settings = Settings(upstream, **{"consent": "all", **options})
    url = ledger.engine.url.render_as_string(hide_password=False)
    spool = Spool(folder / "spool.jsonl", ("proxy", upstream))
    proxy = Proxy(
        settings,
        lambda: Ledger.open(url),
        on_event=(events if events is not None else []).append,
        spool=spool,
    )
    proxy.store._try_again_s = 0.2
    proxy.start()
    with served(proxy.app, proxy.stop) as address:
        yield address, proxy


def rows(ledger: Ledger) -> list[dict[str, Any]]:
    with ledger.engine.connect() as connection:
        found = connection.execute(select(t.exchange).order_by(t.exchange.c.seq)).mappings().all()
    return [dict(row) for row in found]


def wait_for(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `what` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")
