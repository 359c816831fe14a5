"""`collect import` as a user runs it, and a Dify app that is read by its address."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from import_files import CASES
from sqlalchemy import select

from ft2ollama.cli import cli
from ft2ollama.cli.failure import run_and_exit_code
from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger

BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "data"))


def rows(ledger: Ledger, table: Any = t.exchange) -> list[dict[str, Any]]:
    with ledger.read() as connection:
        order = table.c.seq if "seq" in table.c else next(iter(table.c))
        found = connection.execute(select(table).order_by(order)).mappings().all()
    return [dict(row) for row in found]


Invoke = Callable[..., Any]


@pytest.fixture
def invoke(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Invoke:
    """Run the command; what it wrote."""
    monkeypatch.setenv("FT2OLLAMA_LEDGER", ledger.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str, code: int = 0) -> Any:
        capsys.readouterr()
        ended = run_and_exit_code(cli, ["collect", "import", *args])
        written = capsys.readouterr()
        assert ended == code, written
        return written

    return run


def test_command(invoke: Invoke, tmp_path: Path) -> None:
    BY_NAME["dify_feedback.csv"].write(tmp_path / "f.csv")
    shown = invoke("--rejects", str(tmp_path / "no.jsonl"), str(tmp_path / "f.csv"))
    assert shown.out == "1\n"
    assert "1 imported, 0 there already, 2 rejected, of 3" in shown.err
    listed = [json.loads(line) for line in (tmp_path / "no.jsonl").read_text().splitlines()]
    assert [row["code"] for row in listed] == ["dify-cut", "no-answer"]
    assert listed[0]["place"] == f"{tmp_path / 'f.csv'}:2"
    assert "500 characters" in listed[0]["reason"]
    assert "DIFY_API_KEY" in listed[0]["fix"]
    chinese = invoke("--lang", "zh", "--dry-run", str(tmp_path / "f.csv"))
    assert "共 3 行：导入 0，已有 1，拒绝 2" in chinese.err
    assert "没有写入" in chinese.err


def test_command_says_when_nothing_could_be_imported(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"instruction": "a", "output": ""}\n')
    invoke(str(tmp_path / "x.jsonl"), code=2)
    invoke(str(tmp_path / "missing.jsonl"), code=2)
    invoke("--as", "nonsense", str(tmp_path / "x.jsonl"), code=2)


class _Dify(BaseHTTPRequestHandler):
    """The service API: one user, two conversations, three messages a page at a time."""

    def do_GET(self) -> None:
        url = urlparse(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        right = self.headers["Authorization"] == "Bearer app-key"
        status, found = (200, self.found(url.path, asked)) if right else (401, {"code": "no"})
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def found(self, path: str, asked: dict[str, str]) -> Any:
        if path == "/v1/conversations":
            last = asked.get("last_id")
            rest = {None: ["c1"], "c1": ["c2"]}[last] if asked["user"] == "li" else []
            return {"data": [{"id": one} for one in rest], "has_more": last is None}
        if path == "/v1/messages":
            talk, first = asked["conversation_id"], asked.get("first_id")
            number = 2 if first is None else 1
            one = {
                "id": f"{talk}-m{number}", "conversation_id": talk, "query": f"{number}?",
                "answer": f"{talk} {number}", "created_at": 1700000000, "feedback": None,
            }  # fmt: skip
            return {"data": [one], "has_more": number == 2}
        if path == "/v1/app/feedbacks":
            one = {"id": "f", "message_id": "c1-m1", "rating": "like", "from_source": "user",
                   "content": None, "created_at": "2026-11-01T00:00:00"}  # fmt: skip
            return {"data": [one]}
        return {"error": "?"}

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def dify() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Dify)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_dify_by_url(
    ledger: Ledger, invoke: Invoke, dify: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIFY_API_KEY", raising=False)
    assert "DIFY_API_KEY is not set" in invoke(dify, code=2).err
    monkeypatch.setenv("DIFY_API_KEY", "wrong")
    assert "does not accept the key" in invoke("--user", "li", dify, code=2).err
    monkeypatch.setenv("DIFY_API_KEY", "app-key")
    assert "no --user" in invoke(dify, code=2).err
    invoke("--user", "li", dify.replace("/v1", "/x"), code=4)
    invoke("--user", "li", dify)
    assert [row["answer"] for row in rows(ledger)] == ["c1 2", "c1 1", "c2 2", "c2 1"]
    (said,) = rows(ledger, t.feedback)
    assert said["value"] == 1.0
    again = invoke("--user", "li", dify)
    assert "0 imported, 5 there already, 0 rejected, of 5" in again.err
