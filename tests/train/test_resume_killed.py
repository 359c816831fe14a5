"""A run that is killed, at any point, ends as if it had not been."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures_tiny import write_rows
from killed import Job, result, train_and_die

from ft2ollama.base import Base
from ft2ollama.errors import JobError, UsageError
from ft2ollama.runs import Run
from ft2ollama.train import checkpoints
from ft2ollama.train.resume import curve

pytestmark = pytest.mark.filterwarnings("ignore")
# Dropout makes the random state count; 6 steps an epoch, the last of them smaller.
SETTINGS = {"lora_dropout": 0.2, "save_steps": 2, "val_size": 1, "per_device_train_batch_size": 4}


def job(tiny: Base, rows: Path, folder: Path, **settings: Any) -> Job:
    return Job(tiny, str(rows), folder, {**SETTINGS, **settings})


@pytest.fixture(scope="module")
def kept_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.json")


@pytest.fixture(scope="module")
def whole(tiny: Base, kept_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The uninterrupted run."""
    return job(tiny, kept_rows, tmp_path_factory.mktemp("whole") / "whole").train()


POINTS: list[tuple[str, Any]] = [
    ("torch.save", 1),  # in the middle of the first checkpoint: there is none yet
    ("step", 2),  # logged, not saved
    ("before", "publish"),  # all files written, not yet counted
    ("checkpoint", 4),  # saved, the next step not done
    ("eval", 6),  # end of an epoch: measured, not saved
    ("before", "rotate"),
    ("step", 12),
    ("checkpoint", 12),  # nothing is left to train
]


def test_killed_again_and_again(tiny: Base, kept_rows: Path, whole: Run, tmp_path: Path) -> None:
    killed = job(tiny, kept_rows, tmp_path / "killed")
    for point in POINTS:
        train_and_die(killed, point)
    run = killed.train()
    assert result(run) == result(whole)
    assert [step for step, _ in curve(run)[0]] == list(range(1, 13))
    assert run.stage_record("train")["tokens_seen"] == whole.stage_record("train")["tokens_seen"]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_steps": 5, "gradient_accumulation_steps": 2, "logging_steps": 3, "save_steps": 2},
        {"num_train_epochs": 1.5, "train_sampling_strategy": "random", "logging_steps": 4},
    ],
)
def test_other_schedules(tiny: Base, rows: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Losses that are logged over several steps, too; the last step is not the end of an epoch."""
    whole = job(tiny, rows, tmp_path / "whole", **settings).train()
    killed = job(tiny, rows, tmp_path / "killed", **settings)
    last = whole.stage_record("train")["steps"]
    for step in (2, last - last % 2):
        train_and_die(killed, ("checkpoint", step))
    assert result(killed.train()) == result(whole)


def test_early_stopping_and_the_best_weights(tiny: Base, rows: Path, tmp_path: Path) -> None:
    """Killed after the step at which it stopped: the resumed run trains no further."""
    settings = {
        "learning_rate": 0.05, "max_grad_norm": 0, "lr_scheduler_type": "constant",
        "load_best_model_at_end": True, "eval_strategy": "steps",
        "eval_steps": 2, "early_stopping_steps": 2, "val_size": 4, "save_steps": 0,
        "lora_dropout": 0.0,
        "early_stopping_threshold": 100,
    }  # fmt: skip
    whole = job(tiny, rows, tmp_path / "whole", **settings).train()
    stage = whole.stage_record("train")
    _, evals = curve(whole)
    best = min(evals, key=lambda pair: pair[1])
    assert (stage["best_step"], stage["kept"]) == (best[0], "best")
    assert (best[0], stage["steps"], stage["planned_steps"]) == (4, 6, 10)
    killed = job(tiny, rows, tmp_path / "killed", **settings)
    train_and_die(killed, ("checkpoint", 2))
    train_and_die(killed, ("checkpoint", stage["steps"]))
    assert result(killed.train()) == result(whole)
    short = job(tiny, rows, tmp_path / "short", **{**settings, "max_steps": 4})
    assert result(short.train())[2] == result(whole)[2]
    assert not whole.checkpoints.exists()


def damaged(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def test_a_damaged_checkpoint_is_passed_over(
    tiny: Base, kept_rows: Path, whole: Run, tmp_path: Path
) -> None:
    killed = job(tiny, kept_rows, tmp_path / "killed")
    train_and_die(killed, ("step", 7))
    folder = killed.folder / "checkpoints"
    damaged(folder / "checkpoint-6", "optimizer.pt")
    (folder / "checkpoint-4" / "adapter_model.safetensors").unlink()
    events: list[dict[str, Any]] = []
    assert result(killed.train(events.append)) == result(whole)
    told = [event["text"] for event in events if event["event"] == "warning"]
    assert told == [
        "checkpoint-6 is passed over: optimizer.pt is damaged: it is not what was written",
        "checkpoint-4 is passed over: adapter_model.safetensors is missing",
    ]
    (resumed,) = (event for event in events if event["event"] == "resuming")
    assert (resumed["step"], resumed["steps"]) == (2, 12)


def test_a_named_checkpoint(tiny: Base, kept_rows: Path, whole: Run, tmp_path: Path) -> None:
    rows, named = kept_rows, tmp_path / "checkpoint-4"
    shutil.copytree(whole.checkpoints / "checkpoint-4", named)
    again = job(tiny, rows, tmp_path / "again", resume_from_checkpoint=str(named)).train()
    assert result(again)[2] == result(whole)[2]
    assert result(again)[0] == [point for point in curve(whole)[0] if point[0] > 4]
    with pytest.raises(UsageError, match="no such folder"):
        job(tiny, rows, tmp_path / "x", resume_from_checkpoint=str(tmp_path / "none")).train()
    with pytest.raises(UsageError, match="nothing to go on from"):
        job(tiny, rows, tmp_path / "y", resume_from_checkpoint="true").train()
    (named / "optimizer.pt").unlink()
    with pytest.raises(UsageError) as caught:
        job(tiny, rows, tmp_path / "z", resume_from_checkpoint=str(named)).train()
    assert "optimizer.pt is missing" in caught.value.why


def test_a_divergence_keeps_the_checkpoints(tiny: Base, rows: Path, tmp_path: Path) -> None:
    """The rate rises until the loss is no number; the step is not applied."""
    made = job(tiny, rows, tmp_path / "nan", learning_rate=1.0, lora_alpha=10**20, save_steps=1)
    with pytest.raises(JobError, match="diverged at step") as caught:
        made.train()
    run = Run(made.folder)
    step = int(caught.value.what.split()[-1])
    last = checkpoints.newest(run.checkpoints)
    if step > 1:
        assert last is not None
        assert last.name == f"checkpoint-{step - 1}"
        assert f"up to {last.name} are kept" in caught.value.why
    assert run.stage_record("train")["status"] == "failed"


def test_which_checkpoints_stay(tiny: Base, rows: Path, tmp_path: Path) -> None:
    def kept(name: str, **settings: Any) -> list[str]:
        run = job(tiny, rows, tmp_path / name, max_steps=6, val_size=0, **settings).train()
        return sorted(path.name for path in run.checkpoints.glob("*"))

    assert kept("limit", save_total_limit=2) == ["checkpoint-4", "checkpoint-6"]
    assert kept("epoch", save_strategy="epoch", save_steps=0) == ["checkpoint-6"]
    assert kept("clock", save_steps=0, save_minutes=1e-9) == []
    assert kept("none", save_strategy="no", save_steps=0) == []
    assert kept("small", save_steps=6, save_only_model=True) == ["checkpoint-6"]
    small = tmp_path / "small" / "checkpoints" / "checkpoint-6"
    assert "save_only_model" in checkpoints.examine(small).problem
    listed = json.loads((small / "complete.json").read_text())["files"]
    assert "optimizer.pt" not in listed
    assert "adapter_model.safetensors" in listed
