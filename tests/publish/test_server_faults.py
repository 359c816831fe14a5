"""A server that dies, or whose disk is full, while a model is registered: nothing half is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_ollama import CHATML

from ft2ollama.errors import UserError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server, start_server
from ft2ollama.pypi import SMOLLM2_GGUF_SHA256

pytestmark = pytest.mark.ollama


def create(server: Server, gguf: Path, **watch: Callable[..., None]) -> None:
    Ollama(server.host, timeout_s=60).create(
        "smol", gguf=gguf, gguf_sha256=SMOLLM2_GGUF_SHA256, template=CHATML, **watch
    )


def works(server: Server) -> bool:
    options = {"num_predict": 1, "num_thread": 1}
    reply = Ollama(server.host).chat("smol", [{"role": "user", "content": "x"}], options=options)
    return reply.reply_tokens == 1


@pytest.mark.parametrize("moment", ["upload", "create"])
def test_a_server_killed_half_way_is_told_and_the_next_try_completes(
    ollama_binary: Path, smollm2_gguf: Path, tmp_path: Path, moment: str
) -> None:
    models, log = tmp_path / "models", tmp_path / "log"
    with start_server(ollama_binary, models=models, log=log, threads=1) as server:

        def kill_at_half(done: int, total: int) -> None:
            if done > total // 2:
                os.killpg(server.pid, signal.SIGKILL)

        def kill_at_once(_: str) -> None:
            os.killpg(server.pid, signal.SIGKILL)

        watch = {"progress": kill_at_half} if moment == "upload" else {"status": kill_at_once}
        with pytest.raises(UserError) as caught:
            create(server, smollm2_gguf, **watch)  # type: ignore[arg-type]
        assert server.host in str(caught.value)
        assert caught.value.fix
    with start_server(ollama_binary, models=models, log=log, threads=1) as server:
        assert Ollama(server.host).models() == {}
        create(server, smollm2_gguf)
        assert works(server)


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
