"""A server that dies, or whose disk is full, while a model is registered: nothing half is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_ollama import CHATML
from go_prompts import byte_model

from ft2ollama.aliases import digest_of, move_alias
from ft2ollama.errors import JobError, MachineError, UserError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server, start_server
from ft2ollama.ollama_store import Store
from ft2ollama.preflight import Upload, preflight
from ft2ollama.pypi import SMOLLM2_GGUF_SHA256

pytestmark = pytest.mark.ollama


def client(server: Server) -> Ollama:
    """One that gives up soon."""
    found = Ollama(server.host, timeout_s=60)
    found.upload_pauses_s = (0.1, 0.1)
    return found


def create(server: Server, gguf: Path, **watch: Callable[..., None]) -> None:
    client(server).create(
        "smol", gguf=gguf, gguf_sha256=SMOLLM2_GGUF_SHA256, template=CHATML, **watch
    )


def works(server: Server, name: str = "smol") -> bool:
    options = {"num_predict": 1, "num_thread": 1, "num_ctx": 64}
    reply = Ollama(server.host).chat(name, [{"role": "user", "content": "x"}], options=options)
    return reply.reply_tokens == 1


def error_of(call: Callable[[], None]) -> UserError | None:
    try:
        call()
    except UserError as error:
        return error
    return None


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The file of a small model that is there before anything goes wrong."""
    return byte_model(tmp_path / "old.gguf")


@pytest.mark.parametrize("moment", ["upload", "create"])
def test_a_server_killed_half_way_is_told_and_the_next_try_completes(
    ollama_binary: Path, smollm2_gguf: Path, old: Path, tmp_path: Path, moment: str
) -> None:
    models, log = tmp_path / "models", tmp_path / "log"
    with start_server(ollama_binary, models=models, log=log, threads=1) as server:
        client(server).create("old", gguf=old, template=CHATML)

        def kill_at_half(done: int, total: int) -> None:
            if done > total // 2:
                os.killpg(server.pid, signal.SIGKILL)

        def kill_at_once(_: str) -> None:
            os.killpg(server.pid, signal.SIGKILL)

        watch = {"progress": kill_at_half} if moment == "upload" else {"status": kill_at_once}
        told = error_of(lambda: create(server, smollm2_gguf, **watch))  # type: ignore[arg-type]
        if told is None:
            assert moment == "create"  # a busy client may read its first line after the last
        else:
            assert server.host in str(told)
            assert told.fix
    with start_server(ollama_binary, models=models, log=log, threads=1) as server:
        there = set(Ollama(server.host).models())
        assert there - {"smol:latest"} == {"old:latest"}
        # Killed after its first line, the server may have written the model before that.
        assert "smol:latest" not in there or moment == "create"
        assert told or "smol:latest" in there
        assert works(server, "old")
        create(server, smollm2_gguf)
        assert works(server)


def test_an_upload_outlives_the_server(
    ollama_binary: Path, smollm2_gguf: Path, old: Path, tmp_path: Path
) -> None:
    """A service manager starts it again on its port: nobody has to do anything."""
    models, log = tmp_path / "models", tmp_path / "log"
    servers = [start_server(ollama_binary, models=models, log=log, threads=1)]
    said: list[str] = []
    try:
        client(servers[0]).create("old", gguf=old, template=CHATML)

        def kill_at_half(done: int, total: int) -> None:
            if done > total // 2 and len(servers) == 1 and not said:
                os.killpg(servers[0].pid, signal.SIGKILL)

        def start_again(text: str) -> None:
            said.append(text)
            servers[0].stop()
            port = servers[0].port
            servers.append(
                start_server(ollama_binary, models=models, log=log, port=port, threads=1)
            )

        create(servers[0], smollm2_gguf, progress=kill_at_half, trouble=start_again)
        assert len(said) == 1
        assert "is sent again in" in said[0]
        assert works(servers[1])
        assert works(servers[1], "old")
    finally:
        for server in servers:
            server.stop()


def test_no_server_is_told_before_anything_is_read(old: Path) -> None:
    with pytest.raises(MachineError, match="no Ollama answers") as caught:
        preflight([Ollama("127.0.0.1:9")], ("x:latest",), {}, Upload(old, "0" * 64))
    assert "ollama serve" in caught.value.fix


def test_a_version_whose_manifest_is_empty_is_made_again(
    ollama: Ollama, ollama_server: Server, old: Path
) -> None:
    """A crash inside /api/create leaves this; the list lacks the name and tells no error."""
    ollama.create("zero:v1", gguf=old, template=CHATML)
    Store(ollama_server.models).manifest("zero:v1").write_bytes(b"")
    assert "zero:v1" not in ollama.models()
    ollama.create("zero:v1", gguf=old, template=CHATML)
    assert works(ollama_server, "zero:v1")
    ollama.delete("zero:v1")


def test_a_name_stays_what_it_was_when_the_disk_is_full(
    ollama_binary: Path, old: Path, tmp_path: Path, small_disk: Path
) -> None:
    log = tmp_path / "log"
    with start_server(ollama_binary, models=small_disk, log=log, threads=1) as server:
        ollama = client(server)
        for version in ("v1", "v2"):
            ollama.create(f"shop:{version}", gguf=old, template=CHATML, system=version)
        first = move_alias(ollama, "shop:latest", "shop:v1", expected=None, models=small_disk)
        with pytest.raises(OSError, match="space"):
            (small_disk / "filler").write_bytes(b"\0" * 50_000_000)
        with pytest.raises(JobError, match="could not be moved") as caught:
            move_alias(ollama, "shop:latest", "shop:v2", expected=first.digest, models=small_disk)
        assert "No space left on device" in caught.value.why
        assert digest_of(ollama, "shop:latest") == first.digest
        assert works(server, "shop")
        (small_disk / "filler").unlink()
        move_alias(ollama, "shop:latest", "shop:v2", expected=first.digest, models=small_disk)
        assert ollama.show("shop").system == "v2"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_next_try_completes(
    ollama_binary: Path, smollm2_gguf: Path, tmp_path: Path, small_disk: Path
) -> None:
    log = tmp_path / "log"
    with start_server(ollama_binary, models=small_disk, log=log, threads=1) as server:
        with pytest.raises(UserError) as caught:
            create(server, smollm2_gguf)
        assert "no space left on device" in str(caught.value)
        assert Ollama(server.host).models() == {}
        subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
        create(server, smollm2_gguf)
        assert works(server)
