"""`prove` on what `publish` made: no reference is needed while the run is here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ft2ollama.ollama_server import Server

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.ollama
def test_what_was_published_is_proved_by_its_own_run(
    command: Command, trained: Path, ollama_server: Server
) -> None:
    host = {"OLLAMA_HOST": ollama_server.host}
    assert command("publish", "proved", **host).returncode == 0
    done = command("prove", "proved", "--no-replies", **host)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "proved\n"
    assert "100% of the training" in done.stderr
    shutil.rmtree(trained)
    done = command("prove", "proved", "--no-replies", **host)
    assert done.returncode == 2
    assert "the run that made proved is not here" in done.stderr
    assert "--reference FOLDER_OR_HUB_ID" in done.stderr
