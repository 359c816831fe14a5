"""The proxy in front of an upstream of our own: transparency, records, faults."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy_rig import (
    ANSWER,
    CHAT,
    NDJSON,
    SSE,
    Fake,
    answering,
    head,
    proxied,
    reply,
    rows,
    served,
    wait_for,
)

from ft2ollama.loop.ledger import Ledger


@pytest.fixture
def fake() -> Iterator[tuple[Fake, str]]:
    upstream = Fake()
    with served(upstream) as url:
        yield upstream, url


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield ledger


Rig = tuple[str, Fake, Ledger]


@pytest.fixture
def rig(fake: tuple[Fake, str], sqlite: Ledger, tmp_path: Path) -> Iterator[Rig]:
    """The proxy's URL, the upstream, the ledger."""
    with proxied(fake[1], sqlite, tmp_path) as (url, _):
        yield url, fake[0], sqlite


def test_an_exchange_becomes_a_row(rig: Rig) -> None:
    url, _, ledger = rig
    headers = {"X-F2O-Chat-Id": "c1", "X-F2O-Message-Id": "m1", "X-F2O-User": "li@example.com",
               "X-F2O-Task": "{{TASK}}"}  # fmt: skip
    answer = httpx.post(f"{url}/api/chat", json={**CHAT, "options": {"seed": 1}}, headers=headers)
    assert answer.content == NDJSON
    (row,) = rows(ledger)
    wanted = {
        "rid": answer.headers["x-f2o-rid"], "question": "退货期多长？", "answer": ANSWER,
        "messages": CHAT["messages"], "model": "m", "model_digest": "d" * 64, "complete": True,
        "done_reason": "stop", "http_status": 200, "route": "/api/chat", "chat_id": "c1",
        "message_id": "m1", "usage": {"prompt_tokens": 7, "completion_tokens": 3}, "task": None,
        "raw": '{"model":"m","options":{"seed":1}}', "consent": "all", "origin": "model",
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert 0 < row["ttft_ms"] <= row["latency_ms"]
    assert len(row["user_hmac"]) == 64
    assert "example" not in json.dumps(row, default=str)


@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [("/api/chat", NDJSON, b"application/x-ndjson"),
     ("/v1/chat/completions", SSE, b"text/event-stream")],
)  # fmt: skip
def test_pieces_may_be_cut_anywhere(rig: Rig, path: str, body: bytes, content_type: bytes) -> None:
    url, fake, ledger = rig
    answers = set()
    with httpx.Client() as client:
        for cut in range(1, len(body)):
            fake.script = answering([body[:cut], body[cut:]], content_type)
            assert client.post(url + path, json=CHAT).content == body
    fake.script = answering([body[i : i + 1] for i in range(len(body))], content_type)
    assert httpx.post(url + path, json=CHAT).content == body
    answers = {(row["answer"], row["complete"], row["done_reason"]) for row in rows(ledger)}
    assert len(answers) == 1
    assert len(rows(ledger)) == len(body)
    assert answers.pop()[1:] == (True, "stop")


def test_a_piece_leaves_before_the_next_is_made(rig: Rig) -> None:
    url, fake, ledger = rig
    heard = [threading.Event() for _ in range(3)]
    lines = NDJSON.splitlines(keepends=True)

    async def script(scope: Any, body: bytes, receive: Any, send: Any) -> None:
        await head(send, b"application/x-ndjson")
        for line, event in zip(lines, heard, strict=True):
            await send({"type": "http.response.body", "body": line, "more_body": True})
            assert await asyncio.to_thread(event.wait, 10)
        await send({"type": "http.response.body", "body": b""})

    fake.script = script
    with httpx.stream("POST", f"{url}/api/chat", json=CHAT) as answer:
        for n, (line, event) in enumerate(zip(answer.iter_raw(), heard, strict=True)):
            assert line == lines[n]
            # Strict: with the last piece, before the reply's end, the row is there.
            assert len(rows(ledger)) == (n == 2)
            event.set()


def test_one_document_waits_for_its_record_too(rig: Rig) -> None:
    url, fake, ledger = rig
    document = json.dumps({"model": "m", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"content": "30 天"}}], "usage": {"total_tokens": 9}}).encode()  # fmt: skip

    async def script(scope: Any, body: bytes, receive: Any, send: Any) -> None:
        await reply(send, document, b"application/json")

    fake.script = script
    answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT)
    assert answer.content == document
    (row,) = rows(ledger)
    assert (row["answer"], row["complete"], row["usage"]) == ("30 天", True, {"total_tokens": 9})


def test_a_client_that_leaves_stops_the_upstream(rig: Rig) -> None:
    url, fake, ledger = rig
    stopped = threading.Event()

    async def script(scope: Any, body: bytes, receive: Any, send: Any) -> None:
        await head(send, b"application/x-ndjson")
        first = NDJSON.splitlines(keepends=True)[0]
        await send({"type": "http.response.body", "body": first, "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        stopped.set()

    fake.script = script
    with httpx.stream("POST", f"{url}/api/chat", json=CHAT) as answer:
        next(answer.iter_raw())
    assert stopped.wait(10)
    (row,) = wait_for(lambda: rows(ledger))
    assert (row["answer"], row["complete"]) == ("30", False)


def test_a_client_that_leaves_before_the_first_piece(rig: Rig) -> None:
    url, fake, ledger = rig
    stopped = threading.Event()

    async def script(scope: Any, body: bytes, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"
        stopped.set()

    fake.script = script
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/api/chat", json=CHAT, timeout=0.3)
    assert stopped.wait(10)
    (row,) = wait_for(lambda: rows(ledger))
    assert (row["answer"], row["complete"], row["http_status"]) == ("", False, None)


def test_an_upstream_that_dies_is_seen_as_without_the_proxy(rig: Rig, fake: Any) -> None:
    url, upstream, ledger = rig

    async def script(scope: Any, body: bytes, receive: Any, send: Any) -> None:
        await head(send, b"application/x-ndjson")
        await send({"type": "http.response.body", "body": NDJSON[:70], "more_body": True})

    upstream.script = script
    seen = []
    for base in (fake[1], url):
        seen.append(body := bytearray())
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            _hear_into(body, base)
    assert seen == [NDJSON[:70]] * 2
    (row,) = wait_for(lambda: rows(ledger))
    assert (row["answer"], row["complete"]) == ("", False)


def _hear_into(body: bytearray, url: str) -> None:
    with httpx.stream("POST", f"{url}/api/chat", json=CHAT) as answer:
        for piece in answer.iter_raw():
            body += piece


def test_errors_in_the_stream_and_before_it(rig: Rig) -> None:
    url, fake, ledger = rig
    cut = NDJSON.splitlines(keepends=True)[0] + b'{"error":"out of memory"}\n'
    fake.script = answering([cut])
    assert httpx.post(f"{url}/api/chat", json=CHAT).content == cut

    async def script(scope: Any, body: bytes, receive: Any, send: Any) -> None:
        await reply(send, b'{"error":"model not found"}', b"application/json", 404)

    fake.script = script
    assert httpx.post(f"{url}/api/chat", json=CHAT).status_code == 404
    first, second = rows(ledger)
    assert (first["answer"], first["complete"], first["http_status"]) == ("30", False, 200)
    assert (second["complete"], second["http_status"]) == (False, 404)
    assert "model not found" in second["raw"]


def test_nobody_upstream(sqlite: Ledger, tmp_path: Path) -> None:
    with proxied("http://127.0.0.1:9", sqlite, tmp_path) as (url, proxy):
        answer = httpx.post(f"{url}/api/chat", json=CHAT)
        assert answer.status_code == 502
        assert "127.0.0.1:9" in answer.json()["error"]
        assert wait_for(lambda: proxy.health()["stored"]) == 1


def test_packed_answers_pass_untouched_and_are_read(rig: Rig) -> None:
    url, fake, ledger = rig
    packed = gzip.compress(NDJSON)
    for encoding, body in ((b"gzip", packed), (b"br", b"\x01\x02 whatever")):

        async def script(
            scope: Any,
            _: bytes,
            receive: Any,
            send: Any,
            encoding: Any = encoding,
            body: Any = body,
        ) -> None:
            await head(send, b"application/x-ndjson", 200, (b"Content-Encoding", encoding))
            for i in range(0, len(body), 5):
                piece = {"type": "http.response.body", "body": body[i : i + 5], "more_body": True}
                await send(piece)
            await send({"type": "http.response.body", "body": b""})

        fake.script = script
        with httpx.stream("POST", f"{url}/api/chat", json=CHAT) as answer:
            assert b"".join(answer.iter_raw()) == body
    first, second = rows(ledger)
    assert (first["answer"], first["complete"]) == (ANSWER, True)
    assert (second["answer"], second["complete"]) == ("", False)
    assert "Content-Encoding br is not read" in second["raw"]


def test_requests_arrive_as_they_were_sent(rig: Rig) -> None:
    url, fake, _ = rig

    async def script(scope: Any, body: bytes, receive: Any, send: Any) -> None:
        more = [
            (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Connection", b"X-Hop"),
            (b"X-Hop", b"1"), (b"Location", b"http://elsewhere/"), (b"Date", b"then"),
        ]  # fmt: skip
        await head(send, b"text/odd", 307, *more)
        await send({"type": "http.response.body", "body": body[::-1]})

    fake.script = script
    target = "/api/%E6%A8%A1%2f..//x%7e?q=%20+&q="
    with httpx.Client() as client:
        request = client.build_request("PATCH", url + "/", content=b"\x00\xff", headers={
            "X-F2O-Chat-Id": "c", "X-Two": "ä".encode(), "Accept-Encoding": "br",
            "Authorization": "Bearer mine", "Connection": "X-Gone", "X-Gone": "1"})  # fmt: skip
        request.extensions["target"] = target.encode()
        answer = client.send(request)
    assert (answer.status_code, answer.content) == (307, b"\xff\x00")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert (b"Date", b"then") in answer.headers.raw
    assert "x-hop" not in answer.headers
    ((scope, body),) = fake.requests
    assert (scope["method"], body) == ("PATCH", b"\x00\xff")
    assert scope["raw_path"] + b"?" + scope["query_string"] == target.encode()
    names = dict(scope["headers"])
    assert names[b"host"] == url.removeprefix("http://").encode()
    assert names[b"accept-encoding"] == b"br"
    assert names[b"authorization"] == b"Bearer mine"
    assert not {b"x-f2o-chat-id", b"x-gone", b"connection"} & set(names)


@pytest.mark.parametrize("target", ["http://elsewhere.example/api/tags", "*"])
def test_it_is_no_open_proxy(rig: Rig, target: str) -> None:
    url, fake, _ = rig
    with httpx.Client() as client:
        request = client.build_request("GET", url, extensions={"target": target.encode()})
        assert client.send(request).status_code == 400
    assert fake.requests == []


def test_a_blob_is_not_buffered(rig: Rig) -> None:
    """The upstream reads the first megabyte while the client holds the last one back."""
    url, fake, _ = rig
    fake.reads_body = False
    first = threading.Event()

    async def script(scope: Any, _: bytes, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
            if size > 1 << 19:
                first.set()
        await reply(send, str(size).encode(), b"text/plain")

    fake.script = script

    def pieces() -> Iterator[bytes]:
        for n in range(64):
            yield bytes(1 << 20)
            if n == 0:
                assert first.wait(10)

    for headers in ({}, {"Content-Length": str(64 << 20)}):
        first.clear()
        answer = httpx.post(f"{url}/api/blobs/sha256:0", content=pieces(), headers=headers)
        assert answer.content == str(64 << 20).encode()
    assert dict(fake.requests[1][0]["headers"])[b"content-length"] == str(64 << 20).encode()
    answer = httpx.head(f"{url}/api/blobs/sha256:0")
    assert (answer.status_code, answer.content) == (200, b"")


def test_pictures_of_50_megabytes(rig: Rig) -> None:
    url, fake, ledger = rig
    picture = base64.b64encode(bytes(37 << 20)).decode()
    message = {"role": "user", "content": "Was ist das?", "images": [picture]}
    asked = {"model": "m", "messages": [message]}
    assert httpx.post(f"{url}/api/chat", json=asked, timeout=60).content == NDJSON
    assert json.loads(fake.requests[0][1]) == asked
    fake.requests.clear()
    longer = {"model": "m", "messages": [message, message]}
    assert httpx.post(f"{url}/api/chat", json=longer, timeout=60).content == NDJSON
    first, second = rows(ledger)
    assert (first["question"], first["answer"]) == ("Was ist das?", ANSWER)
    assert first["messages"][0]["images"][0]["chars"] == len(picture)
    assert (second["question"], second["answer"]) == ("", ANSWER)
    assert f"{len(json.dumps(longer))}"[:3] in second["raw"]
    assert len(json.dumps(rows(ledger), default=str)) < 5000


def test_texts_no_database_keeps(ledger: Ledger, fake: Any, tmp_path: Path) -> None:
    asked = (
        b'{"model":"m","messages":[{"role":"user","content":"a\\u0000b\\ud800c\\ud83d\\ude00"}]}'
    )
    with proxied(fake[1], ledger, tmp_path) as (url, proxy):
        httpx.post(f"{url}/api/chat", content=asked)
        httpx.post(f"{url}/api/chat", content=b"no json")
        assert proxy.health()["stored"] == 2
    assert [row["question"] for row in rows(ledger)] == ["a\ufffdb\ufffdc😀", ""]


def test_loading_a_model_is_no_exchange(rig: Rig) -> None:
    url, _, ledger = rig
    for body in (
        {"model": "m"},
        {"model": "m", "prompt": ""},
        {"prompt": "x", "options": {"num_predict": 0}},
    ):
        httpx.post(f"{url}/api/generate", json=body)
    httpx.post(f"{url}/api/chat", json={"model": "m", "messages": []})
    assert rows(ledger) == []
    health = httpx.get(f"{url}/ft2ollama/health").json()
    assert (health["captured"], health["loads"], health["adds_up"]) == (4, 4, True)


@pytest.mark.parametrize(
    ("consent", "headers", "kept"),
    [("all", {}, True), ("all", {"X-F2O-No-Store": "1"}, False), ("none", {}, False),
     ("header", {}, False), ("header", {"X-F2O-Consent": "terms-3"}, True),
     ("header", {"X-F2O-Consent": "no"}, False)],
)  # fmt: skip
def test_consent(
    fake: Any, sqlite: Ledger, tmp_path: Path, consent: str, headers: dict[str, str], kept: bool
) -> None:
    with proxied(fake[1], sqlite, tmp_path, consent=consent) as (url, proxy):
        answer = httpx.post(f"{url}/api/chat", json=CHAT, headers=headers)
        assert answer.content == NDJSON
        assert ("x-f2o-rid" in answer.headers) == kept
        assert proxy.health()["declined"] == (not kept)
        assert proxy.health()["adds_up"]
    assert len(rows(sqlite)) == kept
    if kept:
        assert rows(sqlite)[0]["consent"] == headers.get("X-F2O-Consent", "all")


def test_tokens(fake: Any, sqlite: Ledger, tmp_path: Path) -> None:
    from ft2ollama.loop.proxy.tokens import read_tokens

    (tmp_path / "tokens").write_text("# ours\na-long-enough-token\nanother-long-token-1\n")
    tokens = read_tokens(tmp_path / "tokens")
    with proxied(fake[1], sqlite, tmp_path, tokens=tokens) as (url, _):
        for given in ("", "Bearer wrong", "Basic another-long-token-1"):
            headers = {"Authorization": given}
            for path in ("/api/chat", "/api/tags", "/ft2ollama/health"):
                assert httpx.post(url + path, json=CHAT, headers=headers).status_code == 401
        headers = {"Authorization": "Bearer another-long-token-1"}
        assert httpx.post(f"{url}/api/chat", json=CHAT, headers=headers).content == NDJSON
    ((scope, _),) = fake[0].requests
    assert b"authorization" not in dict(scope["headers"])


def test_feedback(rig: Rig) -> None:
    url, _, ledger = rig
    rid = httpx.post(f"{url}/api/chat", json=CHAT).headers["x-f2o-rid"]
    path = f"{url}/ft2ollama/feedback"
    said = {"rid": rid, "thumb": -1, "correction": "14 天。", "user": "li"}
    assert httpx.post(path, json=said).json()["kept"] == ["thumb", "correction"]
    by_header = httpx.post(path, json={"comment": "so?"}, headers={"X-F2O-Message-Id": "m9"})
    assert by_header.json()["where"] == ["stored"]
    for wrong, status in (
        ({"rid": "nobody", "thumb": 1}, 404), ({"rid": rid, "thumb": 5}, 422),
        ({"rid": rid}, 422), ({"thumb": 1}, 422), ({"rid": rid, "stars": 3}, 422), ([], 422),
    ):  # fmt: skip
        assert httpx.post(path, json=wrong).status_code == status
    assert (
        httpx.post(path, content=b"{", headers={"Content-Type": "application/json"}).status_code
        == 400
    )
    # What another site's page may send without being asked first, and under another name.
    assert httpx.post(path, content=json.dumps(said).encode()).status_code == 415
    assert httpx.post(path, json=said, headers={"Host": "evil.example"}).status_code == 403
    with ledger.engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT kind, value, text FROM feedback ORDER BY id"
        ).all()
        waiting = connection.exec_driver_sql("SELECT message_id FROM feedback_waiting").all()
    assert found == [("thumb", -1.0, None), ("correction", None, "14 天。")]
    assert waiting == [("m9",)]
