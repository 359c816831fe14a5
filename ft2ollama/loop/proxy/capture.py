"""One captured request: what was heard of it, as bytes and times.

In: pieces of both bodies while they are relayed.  Out: what `assemble` makes a record of. Bodies
over a limit are counted and hashed, not kept.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from ft2ollama.loop.ledger import now_ms
from ft2ollama.loop.proxy.ends import LineEnd, WholeEnd, end_of
from ft2ollama.loop.records import new_rid

if TYPE_CHECKING:
    import asyncio

ROUTES = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions")
KEEP_REQUEST = 64 << 20  # 50 MB of pictures still leave their question readable
KEEP_REPLY = 32 << 20


class Tee:
    """The bytes that passed by, as long as they are few enough."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: bytearray | None = bytearray()
        self._sha256 = sha256()
        self.length = 0

    def hear(self, piece: bytes) -> None:
        """Take another piece."""
        self.length += len(piece)
        self._sha256.update(piece)
        if self._kept is not None:
            self._kept += piece
            if self.length > self._limit:
                self._kept = None

    @property
    def body(self) -> bytes | None:
        """All of it, or None when it was too much."""
        return None if self._kept is None else bytes(self._kept)

    @property
    def note(self) -> str:
        """What is kept instead."""
        return f"{self.length} bytes, sha256 {self._sha256.hexdigest()}"


@dataclass
class Capture:
    """A request on a captured route, while it lives and after.

    headers: of the request, lower-case names.  digests: the models' digests at this moment, asked
    of the server meanwhile.  ended: the client knows the whole answer with what was heard.
    """

    route: str
    headers: Mapping[str, str]
    consent: str
    digests: asyncio.Task[Mapping[str, str]] | None = None
    rid: str = ""
    ts_ms: int = field(default_factory=now_ms)
    request: Tee = field(default_factory=lambda: Tee(KEEP_REQUEST))
    reply: Tee = field(default_factory=lambda: Tee(KEEP_REPLY))
    status: int = 0
    content_type: str = ""
    encoding: str = ""
    ttft_ms: float | None = None
    latency_ms: float | None = None
    ended: bool = False
    saved: bool = False
    _began: float = field(default_factory=time.perf_counter)
    _end: LineEnd | WholeEnd | None = None
    _decoder: Decoder | None = None

    def __post_init__(self) -> None:
        self.rid = self.rid or new_rid(self.ts_ms)

    def answer_begins(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the reply is here."""
        self.status = status
        self.content_type = headers.get("content-type", "").lower()
        self.encoding = headers.get("content-encoding", "").lower().strip()
        length = headers.get("content-length", "")
        plain = self.encoding in ("", "identity")
        self._end = end_of(self.content_type, int(length) if plain and length.isdigit() else None)
        self._decoder = Decoder(self.encoding)

    def hear(self, chunk: bytes) -> bool:
        """A piece of the reply; True when with it the client knows the whole answer."""
        self.latency_ms = 1000 * (time.perf_counter() - self._began)
        if self.ttft_ms is None:
            self.ttft_ms = self.latency_ms
        assert self._end is not None
        assert self._decoder is not None
        plain = self._decoder.decode(chunk)
        self.reply.hear(plain)
        self.ended = self.ended or self._end.hear(plain)
        return self.ended


class Decoder:
    """Content-Encoding undone for the record alone; what is not understood stays as it is."""

    def __init__(self, encoding: str) -> None:
        # 47: gzip or zlib, as the data says
        self._zlib = zlib.decompressobj(47) if encoding in ("gzip", "x-gzip", "deflate") else None

    def decode(self, chunk: bytes) -> bytes:
        """The plain bytes that this piece of the body gives."""
        if self._zlib is None:
            return chunk
        try:
            return self._zlib.decompress(chunk)
        except zlib.error:
            self._zlib = None
            return b""
