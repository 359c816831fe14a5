"""collect status, export, forget and serve, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from proxy_rig import CHAT, NDJSON, Fake, served
from sqlalchemy import select, text

from ft2ollama.cli import cli
from ft2ollama.loop import tables as t
from ft2ollama.loop.conservation import conservation
from ft2ollama.loop.identity import hmac_user, key_file
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback
from ft2ollama.loop.records import Exchange, Feedback

PROXY = ("proxy", "http://127.0.0.1:11434")
DAY = 86_400_000
Run = Callable[..., Any]


@pytest.fixture
def filled(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ledger:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FT2OLLAMA_LEDGER", ledger.engine.url.render_as_string(hide_password=False))

    def one(number: int, answer: str, **more: Any) -> Exchange:
        asked = [{"role": "user", "content": f"Frage {number} 多久？"}]
        values = {"rid": f"r{number}", "model": "m", **more}
        return Exchange(asked, f"Frage {number} 多久？", answer, number * DAY, **values)

    rows = [
        one(1, "30 天", user_hmac=hmac_user("li"), chat_id="c1", contexts=[{"text": "30 天"}]),
        one(2, "falsch"),
        one(3, "schlecht"),
        one(4, "halb", complete=False),
        one(5, "", task="title"),
        one(6, "13800138000", user_hmac=hmac_user("li"), expires_ms=1),
    ]
    said = [
        Feedback("correction", 1, "api", rid="r2", text="richtig"),
        Feedback("thumb", 1, "api", rid="r2", value=-1),
        Feedback("thumb", 1, "api", rid="r3", value=-1),
        Feedback("comment", 1, "api", message_id="m9", text="call 13800138000"),
    ]
    with ledger.begin() as connection:
        add_exchanges(connection, PROXY, rows)
        add_feedback(connection, said)
    return ledger


@pytest.fixture
def run() -> Run:
    def invoke(*args: str, code: int = 0, **more: Any) -> Any:
        done = CliRunner().invoke(cli, ["--json", "collect", *args], **more)
        assert done.exit_code == code, (done.output, done.exception)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    return invoke


def test_status(filled: Ledger, run: Run) -> None:
    (found,) = run("status")
    (source,) = found["sources"]
    counts = [source[name] for name in ("rows", "complete", "incomplete", "background", "erased")]
    assert counts == [6, 4, 1, 1, 0]
    assert found["feedback"] == {"correction": 1, "thumb down": 2}
    assert (found["waiting"], [count for _, count in found["days"]]) == (1, [1] * 6)
    shown = CliRunner().invoke(cli, ["collect", "status"])
    assert "▁" in shown.stderr or "█" in shown.stderr
    assert shown.stdout == "6\n"


def test_status_of_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path))
    assert run("status")[0]["sources"] == []
    shown = CliRunner().invoke(cli, ["collect", "status"])
    assert "ft2ollama collect serve" in shown.stderr


def test_export(filled: Ledger, run: Run, tmp_path: Path) -> None:
    def export(*options: str) -> list[Any]:
        (done,) = run("export", str(tmp_path / "out.jsonl"), *options)
        lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
        assert done["rows"] == len(lines)
        return list(map(json.loads, lines))

    rows = export()
    assert [row["messages"][-1]["content"] for row in rows] == ["30 天", "richtig", "13800138000"]
    assert rows[0]["messages"][0] == {"role": "user", "content": "Frage 1 多久？"}
    assert len(export("--disliked")) == 4
    assert len(export("--human")) == 1
    assert export("--model", "other") == []
    first, second, _ = export("--format", "ragas")
    assert first == {
        "user_input": "Frage 1 多久？", "response": "30 天", "retrieved_contexts": ["30 天"],
    }  # fmt: skip
    assert second["reference"] == "richtig"


def test_the_export_can_be_trained_on(filled: Ledger, run: Run, tmp_path: Path) -> None:
    run("export", str(tmp_path / "out.jsonl"))
    done = CliRunner().invoke(cli, ["--json", "data", "check", str(tmp_path / "out.jsonl")])
    assert done.exit_code == 0, done.output


def _trained(ledger: Ledger, folder: Path, rid: str) -> Path:
    """A run that kept `rid`, was published and moved biz:latest."""
    data = folder / "train.jsonl"
    data.write_text("13800138000")
    run = {"run_id": "20261122", "line": "biz", "state": "PROMOTED", "base_ref": "b",
           "base_sha256": "0", "config": {}, "config_sha256": "0", "code_version": "0", "seed": 1,
           "created_ms": 1}  # fmt: skip
    deployed = {
        "host": "h", "alias": "biz:latest", "to_digest": "d", "to_tag": "biz:20261122",
        "run_id": "20261122", "action": "publish", "state": "verified", "ts_ms": 1,
    }  # fmt: skip
    record = {"run_id": "20261122", "rid": rid, "role": "new", "verdict": "keep",
              "evidence": {"said": "13800138000"}, "samples": ["0"]}  # fmt: skip
    item = {"set_name": "golden", "version": 1, "item_id": "i", "question_sha256": "0",
            "prompt": {"q": "13800138000"}, "rid": rid}  # fmt: skip
    output = {
        "stage": "CURATED",
        "path": str(data),
        "sha256": "0",
        "bytes": 1,
        "run_id": "20261122",
    }
    with ledger.begin() as connection:
        connection.execute(t.run.insert().values(**run))
        connection.execute(t.deployment.insert().values(**deployed))
        connection.execute(t.run_record.insert().values(**record))
        connection.execute(t.eval_item.insert().values(**item))
        connection.execute(t.stage_output.insert().values(**output))
    return data


def test_forget(filled: Ledger, run: Run, tmp_path: Path) -> None:
    data = _trained(filled, tmp_path, "r6")
    assert run("forget", "--text", "13800138000", "--dry-run") == [
        {"event": "found", "rids": ["r6"]}
    ]
    run("forget", "--user", "li", code=1)  # not without a word
    found, trained, done = run("forget", "--text", "13800138000", "--yes")
    assert (found["rids"], done["erased"], done["runs"]) == (["r6"], 1, ["20261122"])
    assert trained["names"] == ["biz:20261122", "biz:latest"]
    assert trained["files"] == [str(data)]
    with filled.engine.connect() as connection:
        everything = [
            str(row)
            for table in t.tables.sorted_tables
            for row in connection.execute(select(table)).all()
        ]
        (erased,) = connection.execute(select(t.erasure)).mappings().all()
    assert not [row for row in everything if "13800138000" in row]
    assert (erased["rid"], erased["runs"], erased["reason"]) == ("r6", ["20261122"], "asked for")
    if filled.engine.dialect.name == "sqlite":
        stored = b"".join(file.read_bytes() for file in Path(filled.name).parent.glob("ledger*"))
        assert b"13800138000" not in stored
    again = Exchange([{"role": "user", "content": "x"}], "frage 6 多久", "13800138000", 9)
    other = Exchange([{"role": "user", "content": "x"}], "frage 6 多久", "etwas anderes", 9)
    with filled.begin() as connection:  # from another file, in other messages
        rids = add_exchanges(connection, ("file", "other.json"), [again, other])
    assert rids[0] is None
    assert rids[1] is not None
    assert [str(one) for one in conservation(filled) if "erased" in one.promise] == []


@pytest.mark.parametrize(
    ("options", "rids"),
    [
        (["--user", "li"], ["r1", "r6"]), (["--user", "li", "--chat", "c1"], ["r1"]),
        (["--rid", "r2", "--rid", "r3"], ["r2", "r3"]), (["--expired"], ["r6"]),
        (["--text", "richtig"], ["r2"]), (["--text", "1 多久"], ["r1"]), (["--chat", "c9"], []),
    ],
)  # fmt: skip
def test_what_is_forgotten(filled: Ledger, run: Run, options: list[str], rids: list[str]) -> None:
    assert run("forget", *options, "--yes")[0]["rids"] == rids
    with filled.engine.connect() as connection:
        left = connection.execute(select(t.exchange.c.rid).where(t.exchange.c.deleted_ms.is_(None)))
        assert set(left.scalars()) == {f"r{n}" for n in range(1, 7)} - set(rids)
    assert run("forget", *options, "--yes")[0]["rids"] == []


def test_forget_asks(filled: Ledger) -> None:
    no = CliRunner().invoke(cli, ["collect", "forget", "--rid", "r1"], input="n\n")
    assert "cannot be undone" in no.stderr
    with filled.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM erasure")).scalar_one() == 0


def test_forget_what(filled: Ledger, run: Run) -> None:
    run("forget", "--yes", code=1)


def test_the_key_of_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "data"))
    first = hmac_user("li")
    assert hmac_user(" li ") == first != hmac_user("wang")
    assert key_file().stat().st_mode & 0o777 == 0o600
    assert hmac_user("") == ""
    key_file().unlink()
    assert hmac_user("li") != first
    monkeypatch.setenv("FT2OLLAMA_HMAC_KEY", "shared")
    shared = hmac_user("li")
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "other"))
    assert hmac_user("li") == shared


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_with_all_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: int
) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path))
    with served(Fake()) as upstream:
        command = [sys.executable, "-m", "ft2ollama", "--json", "-v", "collect", "serve", "--fast",
                   "--consent=all", "--port=0", f"--upstream={upstream}"]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as proxy:
            assert proxy.stdout is not None
            address = json.loads(proxy.stdout.readline())["address"]
            for _ in range(5):
                answer = httpx.post(f"{address}/api/chat", json=CHAT)
                assert answer.content == NDJSON
            said = {"rid": answer.headers["x-f2o-rid"], "thumb": 1, "comment": "so"}
            assert httpx.post(f"{address}/ft2ollama/feedback", json=said).status_code == 200
            os.kill(proxy.pid, how)
            out, err = proxy.communicate(timeout=30)
    assert proxy.returncode == 0, err
    *events, ended = map(json.loads, out.splitlines())
    assert (ended["event"], ended["stored"], ended["adds_up"]) == ("ended", 5, True)
    assert [one["event"] for one in events] == ["exchange"] * 5 + ["feedback"] * 2
    assert "/api/chat  m  complete  3 tokens" in err
    with Ledger.open(tmp_path / "ledger.db") as ledger, ledger.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM exchange")).scalar_one() == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--upstream=http://127.0.0.1:11435"], "would ask itself"),
        (["--tokens=nothing.txt"], "cannot read the tokens"),
        (["--host=no.such.host.invalid"], "is no address"),
    ],
)
def test_serve_refuses(options: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ft2ollama", "collect", "serve", "--consent=all", *options],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
