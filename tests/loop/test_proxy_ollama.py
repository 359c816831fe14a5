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
# Of the model, not of the request, so that every route uses one loaded runner.
PARAMETERS = {"temperature": 0, "seed": 1, "num_predict": 3, "num_ctx": 256}
Rig = tuple[str, str, Ledger]


@pytest.fixture(scope="module")
def rig(
    ollama_server: Server, smol: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """The proxy's URL, the server's, the ledger."""
    folder = tmp_path_factory.mktemp("proxy")
    made = {"model": "quick", "from": smol, "parameters": PARAMETERS, "stream": False}
    httpx.post(f"{ollama_server.host}/api/create", json=made, timeout=60).raise_for_status()
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
    asked: dict[str, Any] = {"model": "quick", "stream": stream}
    asked |= {"messages": ASKED} if "chat" in path else {"prompt": "Say hello."}
    asked |= {"temperature": 0, "seed": 1, "max_tokens": 3} if path.startswith("/v1") else {}
    asked |= {"stream_options": {"include_usage": True}} if stream and "/v1" in path else {}
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
    assert row["usage"]["completion_tokens"] == 3
    assert row["model_digest"] == Ollama(server).models()["quick:latest"]


def test_the_ollama_package(rig: Rig) -> None:
    url, server, ledger = rig
    client = ollama_client.Client(url)
    answer = client.chat("quick", ASKED)
    pieces = list(client.chat("quick", ASKED, stream=True))
    first, second = rows(ledger)[-2:]
    assert first["answer"] == answer.message.content
    assert second["answer"] == "".join(piece.message.content or "" for piece in pieces)
    direct = ollama_client.Client(server)
    names = [sorted(str(one) for one in asked.list().models) for asked in (client, direct)]
    assert names[0] == names[1]
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
        stream = ask(model="quick", messages=ASKED, max_tokens=3, temperature=0, stream=True)  # type: ignore[call-overload]
        pieces = [piece.choices[0].delta.content or "" for piece in stream]
    first, second = rows(ledger)[-2:]
    assert first["rid"] == raw.headers["x-f2o-rid"]
    assert first["answer"] == answer.choices[0].message.content
    assert second["answer"] == "".join(pieces)
    assert first["user_hmac"]
    assert second["user_hmac"] is None


def _answer(
    base: str, method: str, path: str, body: Any, n: int = 0
) -> tuple[int, dict[str, str], bytes]:
    if isinstance(body, dict):
        body = json.dumps(body).replace("{n}", str(n)).encode()
    sent = {"content": body} if body else {}
    answer = httpx.request(method, base + path, timeout=120, **sent)  # type: ignore[arg-type]
    # Transfer-Encoding is about one connection: after a HEAD, h11 and Go do not choose the same.
    changed = {"date", "x-f2o-rid", "transfer-encoding"}
    head = {name: value for name, value in answer.headers.items() if name not in changed}
    return answer.status_code, head, _timeless(answer.content)


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
        ("POST", "/api/copy", {"source": "smol", "destination": "copy-{n}"}),
        ("DELETE", "/api/delete", {"model": "copy-{n}"}),
        ("POST", "/api/create", {"model": "made-{n}", "from": "smol", "system": "x"}),
        ("DELETE", "/api/delete", {"model": "made-{n}"}),
        ("POST", "/api/embed", {"model": "nobody", "input": "x"}), ("OPTIONS", "/api/chat", None),
        ("POST", "/api/chat", b"{"), ("POST", "/api/generate", {"model": "nobody", "prompt": "x"}),
    ]  # fmt: skip
    # Later ones find its layers there.
    _answer(server, "POST", "/api/create", {"model": "made", "from": "smol", "system": "x"})
    for method, path, body in calls:
        # {n}: what one call makes or deletes must not be there, or be gone, for the other.
        seen = [_answer(base, method, path, body, n) for n, base in enumerate((server, url))]
        for _ in range(30):  # models made in one second are listed in an order of chance
            if method == "GET" and seen[0] != seen[1]:
                seen = [_answer(base, method, path, body) for base in (server, url)]
        if (method, path) == ("POST", f"/api/blobs/{digest}"):
            assert [one[0] for one in seen] == [201, 200]  # the first made it
        else:
            assert seen[0] == seen[1], (method, path)
    # Broken JSON and an unknown model on a captured route are kept as what they are.
    kept = rows(ledger)[before:]
    assert [(row["http_status"], row["complete"]) for row in kept] == [(400, False), (404, False)]


def test_the_server_stops_when_the_client_leaves(rig: Rig) -> None:
    url, server, ledger = rig
    before = len(rows(ledger))
    asked = {"model": "quick", "messages": ASKED, "options": {"num_predict": 3000}}
    with httpx.stream("POST", f"{url}/api/chat", json=asked, timeout=120) as answer:
        json.loads(next(answer.iter_lines()))
    # One answer at a time: were it still busy with the first, this would take minutes.
    asked["options"] = {"num_predict": 1}
    assert httpx.post(f"{server}/api/chat", json=asked, timeout=60).status_code == 200
    (row,) = rows(ledger)[before:]
    assert (row["complete"], row["http_status"]) == (False, 200)
