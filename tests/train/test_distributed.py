"""Two processes on one machine (gloo, CPU) are one training: the same curve, one voice, one end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed import Job
from safetensors.numpy import load_file

from ft2ollama.base import Base
from ft2ollama.runs import Run
from ft2ollama.train.order import TrainingOrder
from ft2ollama.train.resume import curve

pytestmark = pytest.mark.filterwarnings("ignore")
# 23 rows of lengths from 20 to 70: the last step of an epoch is ragged, and so are the processes.
ROWS = [
    {"instruction": f"What is {i} times {i}?", "output": f"It is {i * i}." * (1 + i % 7)}
    for i in range(26)
]
CONFIG = """\
model_name_or_path: {base}
dataset: {rows}
template: chatml
lora_rank: 4
learning_rate: 1e-2
num_train_epochs: 2
per_device_train_batch_size: 1
gradient_accumulation_steps: 2
per_device_eval_batch_size: 2
proof_replies: 0
export_mode: exact
compute_dtype: float32
val_size: 3
save_steps: 5
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "ragged.json"
    path.write_text(json.dumps(ROWS))
    return path


def two_processes(config: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """The command of the README: torchrun -m ft2ollama train."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", "-m", "ft2ollama", "train", str(config)]
    return subprocess.run(
        [*command, *overrides], cwd=config.parent, capture_output=True, text=True, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, timeout=300,
    )  # fmt: skip


def test_two_processes_are_one_training(tiny: Base, data: Path, tmp_path: Path) -> None:
    config = tmp_path / "two.yaml"
    config.write_text(CONFIG.format(base=tiny.folder, rows=data))
    done = two_processes(config, f"output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "two")]  # one process speaks
    assert done.stderr.count("✓ trained 12 steps") == 1
    assert "2 processes" in done.stderr
    two = Run(tmp_path / "two")
    settings = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "val_size": 3,
        "per_device_eval_batch_size": 3,
    }  # fmt: skip
    one = Job(tiny, str(data), tmp_path / "one", settings).train()
    for mine, theirs in zip(curve(two), curve(one), strict=True):
        assert [step for step, _ in mine] == [step for step, _ in theirs]
        assert [loss for _, loss in mine] == pytest.approx([loss for _, loss in theirs], abs=2e-5)
    assert len(curve(two)[0]) == 12
    was, now = (load_file(run.adapter / "adapter_model.safetensors") for run in (one, two))
    assert max(abs(was[name] - now[name]).max() for name in was) < 1e-4
    first, second = one.stage_record("train"), two.stage_record("train")
    assert second["learned_seen"] == first["learned_seen"]
    assert second["processes"] == 2
    checkpoint = two.checkpoints / "checkpoint-10"
    assert {path.name for path in checkpoint.glob("rng_state_*")} == {
        "rng_state_0.pth", "rng_state_1.pth",
    }  # fmt: skip
    assert json.loads((checkpoint / "complete.json").read_text())["step"] == 10


def test_one_failure_is_told_once(tiny: Base, data: Path, tmp_path: Path) -> None:
    config = tmp_path / "two.yaml"
    config.write_text(CONFIG.format(base=tiny.folder, rows=data) + "lora_rnak: 3\n")
    done = two_processes(config)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1
    assert done.stderr.count("lora_rnak: no such key; did you mean lora_rank?") == 1


def test_the_order_does_not_depend_on_how_the_step_is_cut() -> None:
    lengths = [(i * 37) % 101 for i in range(23)]
    for strategy in ("group_by_length", "random", "sequential"):

        def order(fill_to: int, epoch: int, how: str = strategy) -> list[int]:
            made = TrainingOrder(how, lengths, step_rows=4, fill_to=fill_to, seed=3)
            made.set_epoch(epoch)
            assert len(made) == len(list(made))
            return list(made)

        alone, together = order(1, 0), order(4, 0)
        assert sorted(alone) == list(range(23))
        assert together == [*alone, 23]  # the filling row
        assert (order(1, 1) == alone) is (strategy == "sequential")
        assert order(1, 0) == alone
