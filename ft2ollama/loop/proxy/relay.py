"""Bytes from the client to Ollama and back, as they come.

In: an ASGI request.  Out: the same request upstream, and its reply: same bytes, same headers but
the hop-by-hop ones (RFC 9110 7.6.1). Nothing is buffered, so a blob of gigabytes or a pull that
takes an hour passes; a chunk is sent before the next one is read, so a slow client slows the
upstream. On captured routes a `Capture` listens, and the chunk that completes the answer waits
until its record is durable. What Ollama stumbles over before it says anything is asked once more
(`again`). httpx's transport is used without its client: the client would add
headers, follow redirects and keep cookies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx

from ft2ollama.loop.proxy.again import KEEP_BODY, PAUSE_S, may_repeat, stumbled
from ft2ollama.loop.proxy.capture import ROUTES, Capture
from ft2ollama.loop.proxy.recorder import Recorder, StoreFailed

Scope = MutableMapping[str, Any]
_CONNECT_S = 10.0
_HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"proxy-connection",
}  # fmt: skip
_OURS = b"x-f2o-"


class Upstream:
    """The one server behind the proxy. url: http(s)://host:port[/path]."""

    def __init__(self, url: str) -> None:
        self.url = httpx.URL(url)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        self._prefix = self.url.raw_path.rstrip(b"/")

    async def send(
        self,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: httpx.AsyncByteStream | None,
    ) -> httpx.Response:
        """Open the reply. target: path and query as the client wrote them."""
        request = httpx.Request(
            method, self.url, headers=headers, stream=body or httpx.ByteStream(b""),
            extensions={
                "target": self._prefix + target,
                "timeout": {"connect": _CONNECT_S, "read": None, "write": None, "pool": None},
            },
        )  # fmt: skip
        return await self._transport.handle_async_request(request)

    async def tags(self) -> bytes:
        """The body of /api/tags."""
        host = [(b"Host", self.url.netloc)]
        reply = await self.send("GET", b"/api/tags", host, None)
        return await reply.aread()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


class Relay:
    """ASGI application. keep_host: pass the client's Host on, which Ollama checks on loopback;
    strip_auth: the Authorization header is meant for this proxy.
    """

    def __init__(
        self, upstream: Upstream, recorder: Recorder, *, keep_host: bool, strip_auth: bool
    ) -> None:
        self._upstream, self._recorder = upstream, recorder
        self._keep_host, self._strip_auth = keep_host, strip_auth

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Relay one request; stop the upstream when the client leaves."""
        target = scope["raw_path"]
        if not target.startswith(b"/") or scope["method"] == "CONNECT":
            await _say(send, 400, "only paths of the one server behind this proxy are served")
            return
        capture = None
        if scope["method"] == "POST" and scope["path"] in ROUTES:
            headers = {name.decode("latin-1"): value.decode("latin-1")
                       for name, value in scope["headers"]}  # fmt: skip
            capture = self._recorder.begin(scope["path"], headers)
        else:
            self._recorder.counts["passed"] += 1
        body = _Body(receive, capture, has_body=_has_body(scope), keep=may_repeat(scope))
        passing = asyncio.create_task(self._pass(scope, body, send, capture))
        leaving = asyncio.create_task(body.client_left())
        try:
            await asyncio.wait({passing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            passing.cancel()
            leaving.cancel()
            await asyncio.wait({passing})
            if capture is not None:
                with contextlib.suppress(StoreFailed):
                    await self._recorder.save(capture)
        if not passing.cancelled():
            passing.result()

    async def _pass(self, scope: Scope, body: _Body, send: Any, capture: Capture | None) -> None:
        target = scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        try:
            reply = await self._ask(scope, target, body)
        except _ClientLeft:
            return
        except httpx.TransportError as error:
            await _say(send, 502, f"no answer from {self._upstream.url}: {_words(error)}")
            return
        try:
            await self._pass_reply(reply, send, capture)
        except (httpx.TransportError, StoreFailed):
            return  # not ended: the server closes the connection, as the upstream did
        finally:
            await reply.aclose()

    async def _ask(self, scope: Scope, target: bytes, body: _Body) -> httpx.Response:
        """The head of the reply, to a second try where the first one stumbled."""
        method, headers = scope["method"], self._headers(scope)
        stream: httpx.AsyncByteStream | None = body if body.has_body else None
        if not may_repeat(scope):
            return await self._upstream.send(method, target, headers, stream)
        try:
            failed, reply = await stumbled(
                await self._upstream.send(method, target, headers, stream)
            )
        except httpx.ConnectError:
            if body.has_body and body.begun:
                raise
        else:
            if not failed or (body.has_body and body.kept is None):
                return reply
        self._recorder.counts["asked_again"] += 1
        await asyncio.sleep(PAUSE_S)
        if body.has_body and body.begun:
            stream = httpx.ByteStream(bytes(body.kept or b""))
        return await self._upstream.send(method, target, headers, stream)

    async def _pass_reply(self, reply: httpx.Response, send: Any, capture: Capture | None) -> None:
        headers = _without_hops(reply.headers.raw)
        if capture is not None:
            capture.answer_begins(reply.status_code, dict(reply.headers.items()))
            headers.append((b"X-F2O-Rid", capture.rid.encode()))
        await send({"type": "http.response.start", "status": reply.status_code, "headers": headers})
        assert isinstance(reply.stream, httpx.AsyncByteStream)
        async for chunk in reply.stream:
            if capture is not None and capture.hear(chunk):
                await self._recorder.save(capture)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if capture is not None:
            await self._recorder.save(capture)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        headers = [
            (name, value)
            for name, value in _without_hops(scope["headers"])
            if not name.startswith(_OURS)
            and name != b"expect"
            and not (self._strip_auth and name == b"authorization")
            and (self._keep_host or name != b"host")
        ]
        names = {name for name, _ in headers}
        if b"host" not in names:
            headers.insert(0, (b"host", self._upstream.url.netloc))
        if _has_body(scope) and b"content-length" not in names:
            headers.append((b"transfer-encoding", b"chunked"))
        return headers


class _ClientLeft(Exception):
    pass


class _Body(httpx.AsyncByteStream):
    """The client's body, piece by piece; afterwards, word of when it leaves.

    keep: remember it for a second try.  kept: what was sent, None when it is too much.
    """

    def __init__(
        self, receive: Any, capture: Capture | None, *, has_body: bool, keep: bool
    ) -> None:
        self._receive, self._capture = receive, capture
        self.has_body, self.begun = has_body, False
        self.kept: bytearray | None = bytearray() if keep else None
        self._over = asyncio.Event()
        if not has_body:
            self._over.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        try:
            more = True
            while more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise _ClientLeft
                piece = message.get("body", b"")
                more = message.get("more_body", False)
                if piece:
                    if self._capture is not None:
                        self._capture.request.hear(piece)
                    self._keep(piece)
                    yield piece
        finally:
            self._over.set()

    def _keep(self, piece: bytes) -> None:
        if self.kept is not None:
            self.kept += piece
            if len(self.kept) > KEEP_BODY:
                self.kept = None

    async def client_left(self) -> None:
        """Return when the client has closed the connection."""
        await self._over.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _without_hops(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers that are not about this one connection."""
    named = {
        name.strip().lower()
        for key, value in headers
        if key.lower() == b"connection"
        for name in value.split(b",")
    }
    gone = _HOP_BY_HOP | named
    return [(key, value) for key, value in headers if key.lower() not in gone]


async def _say(send: Any, status: int, words: str) -> None:
    """An error in Ollama's form."""
    body = json.dumps({"error": f"ft2ollama: {words}"}).encode()
    headers = [
        (b"Content-Type", b"application/json; charset=utf-8"),
        (b"Content-Length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
