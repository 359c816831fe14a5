"""Two processes on one machine (gloo, CPU) are one training: the same curve, one voice, one end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from killed import Job
from safetensors.numpy import load_file
from torch.distributed import HashStore

from ft2ollama.base import Base
from ft2ollama.errors import MachineError, UsageError, UserError
from ft2ollama.runs import Run
from ft2ollama.train.distributed import EndedElsewhere, Team
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


def of_two(store: Any, *works: Callable[[Team], Any]) -> list[Any]:
    """What each process gets, or the error it ends with."""

    def run(rank: int, work: Callable[[Team], Any]) -> Any:
        try:
            return work(Team(rank, len(works), store))
        except UserError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, range(len(works)), works))


def test_the_first_process_decides() -> None:
    waited: list[str] = []

    def first(team: Team) -> Any:
        found = team.share("run", lambda: {"folder": "运行/1"})
        team.in_turn("plan", lambda: waited.append("first"))
        team.agree("inputs", {"data": "1"})
        return found

    def second(team: Team) -> Any:
        found = team.share("run", lambda: {"folder": "mine"})
        team.in_turn("plan", lambda: waited.append("second"))
        team.agree("inputs", {"data": "2"})
        return found

    one, two = of_two(HashStore(), first, second)
    assert one == {"folder": "运行/1"}
    assert waited == ["first", "second"]
    assert isinstance(two, UsageError)
    assert two.what == "process 1 reads another data than process 0"


def test_one_failure_is_told_once_and_ends_all() -> None:
    def first(team: Team) -> Any:
        assert team.is_first_to_fail(4)
        assert not team.is_first_to_fail(1)
        raise MachineError("no room")

    def second(team: Team) -> Any:
        return team.share("run", lambda: "mine")

    one, two = of_two(HashStore(), first, second)
    assert isinstance(one, MachineError)
    assert isinstance(two, EndedElsewhere)
    assert two.code == 4
    assert Team(1, 2, None).is_first_to_fail(1)  # a process that is alone


def test_an_order_counts_at_its_step_only() -> None:
    store = HashStore()
    first, second = Team(0, 2, store), Team(1, 2, store)
    assert not second.ordered("stop", 7)
    first.order("stop", 8)
    assert [second.ordered("stop", step) for step in (7, 8, 9)] == [False, True, False]
    assert not Team().ordered("stop", 8)


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
