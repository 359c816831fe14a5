"""The real command as a subprocess, and a trained run of a tiny model to use it on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_tiny import write_rows

from ft2ollama.base import Base

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """command("train", "x.yaml", ...) in an empty folder; stdout and stderr are text."""

    def run(*args: str, cwd: Path = tmp_path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ft2ollama", *args],
            cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip

    return run


CONFIG = """\
model_name_or_path: {base}
dataset: {rows}
template: chatml
lora_rank: 4
learning_rate: 1e-2
num_train_epochs: 2
per_device_train_batch_size: 4
proof_replies: 2
compute_dtype: float32
run_name: tiny
"""


@pytest.fixture
def config(tmp_path: Path, tiny: Base, rows: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.format(base=tiny.folder, rows=rows))
    return path


@pytest.fixture(scope="session")
def trained_once(tiny: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    rows = write_rows(folder / "rows.json")
    (folder / "tiny.yaml").write_text(CONFIG.format(base=tiny.folder, rows=rows))
    done = subprocess.run(
        [sys.executable, "-m", "ft2ollama", "train", "tiny.yaml"],
        cwd=folder, env={**os.environ, "FT2OLLAMA_RUNS": str(folder / "runs")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def trained(trained_once: Path) -> Path:
    """The folder of a finished run, among the runs of this test alone."""
    folder = Path(os.environ["FT2OLLAMA_RUNS"]) / trained_once.name
    shutil.copytree(trained_once, folder)
    return folder
