"""`chat RUN` as a person uses it, in a terminal, and from a pipe."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ft2ollama.files import read_jsonl
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server

Command = Callable[..., subprocess.CompletedProcess[str]]
_START = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches it
os.execv(sys.executable, [sys.executable, "-m", "ft2ollama", *sys.argv[1:]])
"""
_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A terminal of 100 columns with the command in it."""

    def __init__(self, handle: int, process: subprocess.Popen[bytes]) -> None:
        self._handle, self._process = handle, process
        self.text = ""

    def until(self, wanted: str) -> str:
        """What is written until `wanted` appears."""
        start = len(self.text)
        self._read(lambda: wanted in self.text[start:], wanted)
        return self.text[start:]

    def more(self, characters: int) -> None:
        """Read so many further characters."""
        start = len(self.text)
        self._read(lambda: len(self.text) >= start + characters, f"{characters} characters")

    def _read(self, enough: Callable[[], bool], wanted: str) -> None:
        end = time.monotonic() + 120
        while not enough():
            assert time.monotonic() < end, f"no {wanted!r} in {self.text[-500:]!r}"
            if select.select([self._handle], [], [], 0.2)[0]:
                try:
                    piece = os.read(self._handle, 65536).decode("utf-8", "replace")
                except OSError:
                    raise AssertionError(f"{wanted!r}: {self.text[-500:]!r}") from None
                self.text += _CODES.sub("", piece).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        os.write(self._handle, text.encode())

    def end(self) -> int:
        """Read the rest; the exit code."""
        while self._process.poll() is None:
            if select.select([self._handle], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self._handle, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        return self._process.wait(60)


@contextmanager
def terminal(*args: str, cwd: Path) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (40, 100)) if hasattr(termios, "tcsetwinsize") else None
    process = subprocess.Popen(
        [sys.executable, "-c", _START, *args], cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def test_a_dialogue_in_a_terminal(trained: Path, tmp_path: Path) -> None:
    """The tiny run never stops by itself: its reference is the beginning of an answer of 512."""
    reply = read_jsonl(trained / "proof/replies.jsonl")[0]
    assert not reply["stopped"]
    with terminal("chat", str(trained), cwd=tmp_path) as person:
        begun = person.until(">>> ")
        assert f"run {trained.name} in transformers, float32 on cpu" in begun
        person.type("/save rows.jsonl\r")
        assert "no answer to save yet" in person.until(">>> ")
        person.type(reply["question"] + "\r")
        answer = person.until(">>> ").partition(reply["question"])[2]
        assert answer.lstrip("\n").startswith(reply["text"])
        person.type("/save rows.jsonl\r")
        person.until("appended to rows.jsonl")
        person.type('"""\r')
        person.until("... ")
        person.type("two\r")
        person.until("... ")
        person.type('lines"""\r')
        person.more(40)  # the answer has begun
        person.type("\x03")  # Ctrl-C
        assert "broken off" in person.until(">>> ")
        time.sleep(1)  # readline misses a signal that comes before it waits for a key
        person.type("\x03")
        assert "Ctrl-D or /bye ends" in person.until(">>> ")
        person.type("/undo\r")
        assert "taken back" in person.until(">>> ")
        person.type("/undo\r")
        assert "nothing to take back" in person.until(">>> ")
        person.type("/bye\r")
        assert person.end() == 0
    (row,) = read_jsonl(tmp_path / "rows.jsonl")
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    assert row["messages"][0]["content"] == reply["question"]
    assert row["messages"][1]["content"].startswith(reply["text"])


@pytest.mark.ollama
def test_a_name_that_both_know(
    command: Command, trained: Path, ollama: Ollama, smol: str, ollama_server: Server
) -> None:
    host = {"OLLAMA_HOST": ollama_server.host}
    reply = read_jsonl(trained / "proof/replies.jsonl")[1]
    name = trained.name[:8]  # a model is called as the run's id begins
    ollama.copy(smol, name)
    try:
        both = command("chat", name, "Hi", "--tokens", "4", "--temperature", "0", **host)
        model = command("chat", smol, "Hi", "--tokens", "4", "--temperature", "0", **host)
        length = str(len(reply["ids"]))
        run = command(
            "chat", name, reply["question"], "--run", "--tokens", length, "--json", **host
        )
    finally:
        ollama.delete(name)
    assert both.stdout == model.stdout != ""
    assert f"a model in Ollama and run {trained.name}" in both.stderr
    assert "--run" in both.stderr
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert (answer["model"], answer["text"]) == (trained.name, reply["text"])
    none = command("chat", "no-such-name", "Hi", **host)
    assert none.returncode == 2
    assert "no model 'no-such-name'" in none.stderr
    assert "no run 'no-such-name'" in none.stderr
    wrong = command("chat", "no-such-name", "Hi", "--model", **host)
    assert wrong.returncode == 2
