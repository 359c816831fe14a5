"""The proxy in front of a real Ollama: its own clients, and the same bytes on every route."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama as ollama_client
import openai
import pytest
from proxy_rig import proxied, rows

from ft2ollama.loop.ledger import Ledger
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server

pytestmark = pytest.mark.ollama
ASKED = [{"role": "user", "content": "Say hello."}]
OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 8, "num_ctx": 256}
Rig = tuple[str, str, Ledger]


@pytest.fixture(scope="module")
def rig(
    ollama_server: Server, smol: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """The proxy's URL, the server's, the ledger."""
    folder = tmp_path_factory.mktemp("proxy")
    with (
        Ledger.open(folder / "ledger.db") as ledger,
        proxied(ollama_server.host, ledger, folder) as (url, _),
    ):
        yield url, ollama_server.host, ledger


def _timeless(body: bytes) -> bytes:
    """Without times and ids, which differ from one call to the next."""
    text = re.sub(rb'"(created_at|created|id|modified_at|expires_at)":("[^"]*"|\d+)', b"", body)
    return re.sub(rb'"[a-z_]*duration":\d+', b"", text)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "path", ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions"]
)
def test_the_same_answer_with_and_without(rig: Rig, path: str, stream: bool) -> None:
    url, server, ledger = rig
    asked: dict[str, Any] = {"model": "smol", "stream": stream}
    asked |= {"messages": ASKED} if "chat" in path else {"prompt": "Say hello."}
    own = {"options": OPTIONS}
    theirs = {"temperature": 0, "seed": 1, "max_tokens": 8}
    asked |= theirs if path.startswith("/v1") else own
    asked |= {"stream_options": {"include_usage": True}} if stream and "/v1" in path else {}
    httpx.post(server + path, json=asked, timeout=120)  # the second one has the prompt in its cache
    direct = httpx.post(server + path, json=asked, timeout=120)
    through = httpx.post(url + path, json=asked, timeout=120)
    assert _timeless(through.content) == _timeless(direct.content)
    changed = {"date", "x-f2o-rid", "content-length"}
    heads = [
        {k: v for k, v in one.headers.items() if k not in changed} for one in (direct, through)
    ]
    assert heads[0] == heads[1]
    row = rows(ledger)[-1]
    assert row["rid"] == through.headers["x-f2o-rid"]
    assert (row["question"], row["route"], row["complete"]) == ("Say hello.", path, True)
    assert len(row["answer"]) > 3
    assert row["done_reason"] == "length"
    assert row["usage"]["completion_tokens"] == 8
    assert row["model_digest"] == Ollama(server).models()["smol:latest"]


def test_the_ollama_package(rig: Rig) -> None:
    url, server, ledger = rig
    client = ollama_client.Client(url)
    answer = client.chat("smol", ASKED, options=OPTIONS)
    pieces = list(client.chat("smol", ASKED, options=OPTIONS, stream=True))
    first, second = rows(ledger)[-2:]
    assert first["answer"] == answer.message.content
    assert second["answer"] == "".join(piece.message.content or "" for piece in pieces)
    direct = ollama_client.Client(server)
    assert client.list() == direct.list()
    assert client.show("smol") == direct.show("smol")
    with pytest.raises(ollama_client.ResponseError, match="not found"):
        client.chat("nobody", ASKED)
    client._client.close()
    direct._client.close()
    assert rows(ledger)[-1]["http_status"] == 404


def test_the_openai_package(rig: Rig) -> None:
    url, _, ledger = rig
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        ask = client.chat.completions.create
        raw = client.chat.completions.with_raw_response.create(
            model="smol",
            messages=ASKED,
            max_tokens=8,
            temperature=0,
            user="li",  # type: ignore[arg-type]
        )
        answer = raw.parse()
        stream = ask(model="smol", messages=ASKED, max_tokens=8, temperature=0, stream=True)  # type: ignore[call-overload]
        pieces = [piece.choices[0].delta.content or "" for piece in stream]
    first, second = rows(ledger)[-2:]
    assert first["rid"] == raw.headers["x-f2o-rid"]
    assert first["answer"] == answer.choices[0].message.content
    assert second["answer"] == "".join(pieces)
    assert first["user_hmac"]
    assert second["user_hmac"] is None


def test_every_other_route_gives_the_same_bytes(rig: Rig, tmp_path: Path) -> None:
    url, server, ledger = rig
    before = len(rows(ledger))
    data = b"not a model" * 1000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/", None), ("HEAD", "/", None), ("GET", "/api/version", None),
        ("GET", "/api/tags", None), ("HEAD", "/api/tags", None), ("GET", "/v1/models", None),
        ("GET", "/v1/models/smol", None), ("POST", "/api/show", {"model": "smol"}),
        ("POST", "/api/show", {"model": "nobody"}), ("GET", "/nowhere?a=%20b", None),
        ("DELETE", "/api/delete", {"model": "nobody"}), ("PUT", "/api/tags", None),
        ("HEAD", f"/api/blobs/{digest}", None), ("POST", f"/api/blobs/{digest}", data),
        ("HEAD", f"/api/blobs/{digest}", None), ("POST", "/api/blobs/sha256:00", data),
        ("POST", "/api/copy", {"source": "smol", "destination": "copy"}),
        ("DELETE", "/api/delete", {"model": "copy"}),
        ("POST", "/api/create", {"model": "made", "from": "smol", "system": "x"}),
        ("DELETE", "/api/delete", {"model": "made"}),
        ("POST", "/api/embed", {"model": "nobody", "input": "x"}), ("OPTIONS", "/api/chat", None),
        ("POST", "/api/chat", b"{"), ("POST", "/api/generate", {"model": "nobody", "prompt": "x"}),
    ]  # fmt: skip
    for method, path, body in calls:
        seen = []
        for base in (server, url):
            sent = {"content": body} if isinstance(body, bytes) else {"json": body} if body else {}
            answer = httpx.request(method, base + path, timeout=120, **sent)  # type: ignore[arg-type]
            head = {k: v for k, v in answer.headers.items() if k not in ("date", "x-f2o-rid")}
            seen.append((answer.status_code, head, _timeless(answer.content)))
            if method == "POST" and path.startswith("/api/blobs/") and base == server:
                assert answer.status_code in (200, 201, 400)
        if method == "POST" and path == f"/api/blobs/{digest}":
            seen = [one[2:] for one in seen]  # the first makes the blob (201), the second finds it
        assert seen[0] == seen[1], (method, path)
    # Broken JSON and an unknown model on a captured route are kept as what they are.
    kept = rows(ledger)[before:]
    assert [(row["http_status"], row["complete"]) for row in kept] == [(400, False), (404, False)]


def test_the_server_stops_when_the_client_leaves(rig: Rig) -> None:
    url, server, ledger = rig
    before = len(rows(ledger))
    asked = {"model": "smol", "messages": ASKED, "options": {**OPTIONS, "num_predict": 3000}}
    with httpx.stream("POST", f"{url}/api/chat", json=asked, timeout=120) as answer:
        json.loads(next(answer.iter_lines()))
    # One answer at a time: were it still busy with the first, this would take minutes.
    asked["options"] = OPTIONS
    assert httpx.post(f"{server}/api/chat", json=asked, timeout=60).status_code == 200
    (row,) = rows(ledger)[before:]
    assert (row["complete"], row["http_status"]) == (False, 200)
