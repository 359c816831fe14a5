"""A full fine-tune through the real commands: train, export, publish with its proofs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ft2ollama.base import Base
from ft2ollama.ollama_server import Server

CONFIG = """\
model_name_or_path: {base}
dataset: {rows}
template: chatml
finetuning_type: full
learning_rate: 3e-3
num_train_epochs: 8
per_device_train_batch_size: 4
proof_replies: 2
compute_dtype: float32
"""


@pytest.mark.ollama
def test_a_full_fine_tune_is_published(
    tiny: Base, rows: Path, tmp_path: Path, ollama_server: Server
) -> None:
    (tmp_path / "full.yaml").write_text(CONFIG.format(base=tiny.folder, rows=rows))

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "ft2ollama", *words], cwd=tmp_path, text=True,
            env={**os.environ, "OLLAMA_HOST": ollama_server.host, "COLUMNS": "100"},
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    run = Path(command("train", "full.yaml").stdout.strip())
    record = json.loads((run / "run.json").read_text())["stages"]["train"]
    assert "model/model.safetensors" in record["outputs"]
    assert not [name for name in record["outputs"] if name.startswith("adapter/")]
    assert "nothing to train" in command("train", "full.yaml").stderr
    said = command("publish", "full-tune", "--quant", "F16").stderr
    assert "base + training, rounded" in said
    assert "the run holds a whole model" in " ".join(said.split())
    report = json.loads((run / "proof/proof.json").read_text())
    assert report["verdict"] == "equal"
    assert report["agreement"] > 0.9
    assert all(check["equal"] for check in report["prompts"])
