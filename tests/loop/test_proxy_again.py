"""What Ollama stumbles over is asked once more; nothing that changes the server ever is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy_rig import ANSWER, CHAT, NDJSON, Fake, answering, proxied, reply, rows, served

from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.proxy.again import KEEP_BODY
from ft2ollama.loop.proxy.app import Proxy

EOF_ERROR = b'{"error":"POST predict: Post \\"http://127.0.0.1:45455/completion\\": EOF"}'
OPENAI_ERROR = b'{"error":{"message":"unexpected EOF","type":"api_error"}}'


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[tuple[str, Fake, Ledger, Proxy]]:
    upstream = Fake()
    with (
        served(upstream) as behind,
        Ledger.open(tmp_path / "ledger.db") as ledger,
        proxied(behind, ledger, tmp_path) as (url, proxy),
    ):
        yield url, upstream, ledger, proxy


def failing(times: int, error: bytes = EOF_ERROR, status: int = 500) -> Any:
    """A script that answers with an error so many times, then as it should."""
    left = [times]
    good = answering([NDJSON])

    async def script(scope: Any, body: bytes, receive: Any, send: Any) -> None:
        if left[0]:
            left[0] -= 1
            await reply(send, error, b"application/json", status)
        else:
            await good(scope, body, receive, send)

    return script


@pytest.mark.parametrize("error", [EOF_ERROR, OPENAI_ERROR, b'{"error":"EOF"}'])
def test_a_stumble_is_not_seen(rig: tuple[str, Fake, Ledger, Proxy], error: bytes) -> None:
    url, upstream, ledger, proxy = rig
    upstream.script = failing(1, error)
    answer = httpx.post(f"{url}/api/chat", json=CHAT)
    assert (answer.status_code, answer.content) == (200, NDJSON)
    assert [body for _, body in upstream.requests] == [upstream.requests[0][1]] * 2
    assert json.loads(upstream.requests[1][1]) == CHAT
    (row,) = rows(ledger)
    assert (row["answer"], row["complete"], row["http_status"]) == (ANSWER, True, 200)
    assert (proxy.health()["asked_again"], proxy.health()["adds_up"]) == (1, True)


def test_only_once_and_the_error_is_passed_as_it_is(rig: tuple[str, Fake, Ledger, Proxy]) -> None:
    url, upstream, ledger, _ = rig
    upstream.script = failing(9)
    answer = httpx.post(f"{url}/api/chat", json=CHAT)
    assert (answer.status_code, answer.content) == (500, EOF_ERROR)
    assert answer.headers["content-length"] == str(len(EOF_ERROR))
    assert len(upstream.requests) == 2
    (row,) = rows(ledger)
    assert (row["complete"], row["http_status"]) == (False, 500)


@pytest.mark.parametrize(
    ("error", "status"),
    [(b'{"error":"out of memory"}', 500), (EOF_ERROR, 404), (b"EOF", 500), (b'["EOF"]', 500),
     (b'{"error":"' + b" " * 5000 + b'EOF"}', 500)],
)  # fmt: skip
def test_other_errors_are_passed_at_once(
    rig: tuple[str, Fake, Ledger, Proxy], error: bytes, status: int
) -> None:
    url, upstream, _, _ = rig
    upstream.script = failing(1, error, status)
    answer = httpx.post(f"{url}/api/chat", json=CHAT)
    assert (answer.status_code, answer.content) == (status, error)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "/api/version", 2),
        ("POST", "/api/show", 2),
        ("POST", "/api/create", 1),
        ("POST", "/api/pull", 1),
        ("POST", "/api/copy", 1),
        ("DELETE", "/api/delete", 1),
    ],
)
def test_what_changes_the_server_is_never_repeated(
    rig: tuple[str, Fake, Ledger, Proxy], method: str, path: str, asked: int
) -> None:
    url, upstream, _, _ = rig
    upstream.script = failing(1)
    body = None if method == "GET" else b'{"model":"m"}'
    status = httpx.request(method, f"{url}{path}", content=body).status_code
    assert (status, len(upstream.requests)) == (200 if asked == 2 else 500, asked)


def test_not_after_the_first_byte(rig: tuple[str, Fake, Ledger, Proxy]) -> None:
    url, upstream, _, _ = rig
    cut = NDJSON.splitlines(keepends=True)[0] + EOF_ERROR + b"\n"
    upstream.script = answering([cut])
    assert httpx.post(f"{url}/api/chat", json=CHAT).content == cut
    assert len(upstream.requests) == 1


def test_a_body_too_large_to_keep_is_sent_once(rig: tuple[str, Fake, Ledger, Proxy]) -> None:
    url, upstream, _, _ = rig
    upstream.script = failing(1)
    picture = {**CHAT, "pad": "x" * KEEP_BODY}
    assert httpx.post(f"{url}/api/chat", json=picture, timeout=60).status_code == 500
    assert len(upstream.requests) == 1
