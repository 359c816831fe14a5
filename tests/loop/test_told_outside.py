"""Hooks and timers: what leaves this process arrives, and what fails says why in a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from fixtures_ollama import Serve, reply
from pydantic import ValidationError

from ft2ollama.loop.cycle import told_in_a_line
from ft2ollama.loop.notify import notify
from ft2ollama.loop.schedule import Task, cannot_run, cron_line, parse_when
from ft2ollama.loop.settings import Notify
from ft2ollama.loop.states import Cycle


def test_a_webhook_gets_utf_8_json(serve: Serve) -> None:
    heard: list[tuple[Any, ...]] = []

    def handle(handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        heard.append((handler.headers["X-Ft2ollama-Event"], json.loads(body.decode("utf-8"))))
        reply(handler, b"", 204)

    said: list[str] = []
    with serve(handle) as url:
        notify(Notify(webhook=f"{url}/x"), "promoted", {"line": "客服"}, said.append)
    assert heard == [("promoted", {"event": "promoted", "line": "客服"})]
    assert said == []


def test_what_fails_is_one_line_without_the_secret(serve: Serve) -> None:
    said: list[str] = []
    with serve(lambda handler: reply(handler, b"no", 403)) as url:
        notify(Notify(webhook=f"{url}/secret-token"), "failed", {}, said.append)
    notify(Notify(command="echo first >&2; echo last >&2; exit 3"), "failed", {}, said.append)
    notify(Notify(webhook="http://me:secret@127.0.0.1:9/x"), "failed", {}, said.append)
    assert said[0] == f"nobody was told by {url}/...: HTTP 403"
    assert said[1] == "nobody was told by echo: exit status 3: last"
    assert said[2].startswith("nobody was told by http://127.0.0.1:9/...: ")
    assert not any("\n" in line or "secret" in line for line in said)


def test_an_address_is_known_by_its_beginning() -> None:
    with pytest.raises(ValidationError, match="begins with http"):
        Notify(webhook="example.com/hook")


def _cycle(state: str, error: str | None) -> Cycle:
    from dataclasses import fields

    values: dict[str, Any] = {one.name: None for one in fields(Cycle)}
    return Cycle(**{**values, "run_id": "c1", "line": "shop", "state": state, "error": error})


def test_the_message_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_LANG", "en")
    assert told_in_a_line(_cycle("PROMOTED", None)) == "shop: promoted, c1"
    monkeypatch.setenv("FT2OLLAMA_LANG", "zh")
    assert told_in_a_line(_cycle("REJECTED", "FAIL: speed")) == (
        "shop: 未通过, c1: 没有达到要求：speed (没有变慢)"
    )


def _module(folder: Path) -> Path:
    """A package `ft2ollama` that answers, where only PYTHONPATH would find it."""
    (folder / "ft2ollama").mkdir(parents=True)
    (folder / "ft2ollama/__main__.py").write_text("import sys; print(sys.argv[1:])")
    return folder


def test_a_timer_that_could_not_start_is_told_before(tmp_path: Path) -> None:
    words = ("-S", "-m", "ft2ollama", "retrain", "x.yaml", "--if-due")
    bare = Task("shop", (sys.executable, *words), tmp_path)
    assert "No module named" in cannot_run(bare)
    path = _module(tmp_path / "a b")
    known = Task("shop", ("/usr/bin/env", f"PYTHONPATH={path}", sys.executable, *words), tmp_path)
    assert cannot_run(known) == ""


def test_the_printed_line_runs_without_an_environment(tmp_path: Path) -> None:
    path = _module(tmp_path / "100% 客服")
    words = ("/usr/bin/env", f"PYTHONPATH={path}", sys.executable, "-S", "-m", "ft2ollama",
             "retrain", "x.yaml", "--if-due")  # fmt: skip
    line = cron_line(Task("shop", words, tmp_path), parse_when("sun 03:00"))
    command = line.split(" ", 5)[5].replace(r"\%", "%")  # what cron hands to sh
    done = subprocess.run(
        ["/usr/bin/env", "-i", "/bin/sh", "-c", command], capture_output=True, text=True,
        check=False, env=dict(os.environ),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "['retrain', 'x.yaml', '--if-due']\n"), done.stderr
