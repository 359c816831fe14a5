"""Uploads over connections that break: sent again, never twice, and given up with a clear error."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fixtures_ollama import Serve, reply

from ft2ollama.errors import JobError
from ft2ollama.ollama_api import Ollama, ServerError
from ft2ollama.ollama_http import NoAnswer

PAUSES = (0.01, 0.02, 0.03)


class Blobs:
    """A server for blobs that does what `plan` says with each POST, and takes what follows.

    break: closes in the middle.  lost: stores the blob, then closes before its answer.
    """

    def __init__(self, *plan: str) -> None:
        self.plan = list(plan)
        self.stored: dict[str, bytes] = {}
        self.posts = self.heads = 0

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        digest = handler.path.rsplit("/", 1)[1]
        if handler.command == "HEAD":
            self.heads += 1
            reply(handler, b"", 200 if digest in self.stored else 404)
            return
        self.posts += 1
        step = self.plan.pop(0) if self.plan else "take"
        size = int(handler.headers["Content-Length"])
        body = handler.rfile.read(size // 2 if step == "break" else size)
        if step in ("take", "lost"):
            self.stored[digest] = body
        if step in ("break", "lost"):
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
        else:
            reply(handler, b"{}", 201 if step == "take" else int(step))


@pytest.fixture
def blob(tmp_path: Path) -> tuple[Path, str]:
    file = tmp_path / "model.gguf"
    file.write_bytes(os.urandom((5 << 20) + 7))
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


def client(url: str) -> Ollama:
    server = Ollama(url, timeout_s=20)
    server.upload_pauses_s = PAUSES
    return server


def test_a_broken_upload_is_sent_again(serve: Serve, blob: tuple[Path, str]) -> None:
    file, sha256 = blob
    blobs, said = Blobs("break", "503", "break"), list[str]()
    with serve(blobs) as url:
        client(url).upload(file, sha256, trouble=said.append)
    assert blobs.stored == {f"sha256:{sha256}": file.read_bytes()}
    assert (blobs.posts, blobs.heads) == (4, 4)
    assert len(said) == 3
    assert said[0].endswith("model.gguf is sent again in 0.01 s")
    assert "the connection to Ollama" in said[0]


def test_what_arrived_is_not_sent_again(serve: Serve, blob: tuple[Path, str]) -> None:
    blobs = Blobs("lost")
    with serve(blobs) as url:
        client(url).upload(*blob)
    assert (blobs.posts, blobs.heads) == (1, 2)


def test_the_last_try_ends_with_what_happened(serve: Serve, blob: tuple[Path, str]) -> None:
    blobs = Blobs(*["break"] * 9)
    with serve(blobs) as url, pytest.raises(JobError) as caught:
        client(url).upload(*blob)
    assert blobs.posts == len(PAUSES) + 1
    assert caught.value.what == f"model.gguf could not be sent to Ollama at {url}"
    assert caught.value.why.startswith("4 attempts; first: the connection to Ollama")
    assert "is not sent twice" in caught.value.fix
    assert blobs.stored == {}


def test_no_server_and_a_server_that_refuses_are_told_at_once(
    serve: Serve, blob: tuple[Path, str]
) -> None:
    slow = Ollama("127.0.0.1:9")
    slow.upload_pauses_s = (60.0,)
    began = time.monotonic()
    with pytest.raises(NoAnswer):
        slow.upload(*blob)
    assert time.monotonic() - began < 5
    blobs = Blobs("500")
    with serve(blobs) as url, pytest.raises(ServerError):
        client(url).upload(*blob)
    assert blobs.posts == 1
