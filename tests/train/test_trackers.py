"""report_to: what is missing is told before anything expensive, what is there gets the curve."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from killed import Job

from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.errors import ExitCode, MachineError, UsageError
from ft2ollama.train.distributed import check_engine
from ft2ollama.train.trackers import check_trackers

pytestmark = pytest.mark.filterwarnings("ignore")
NEEDED = {"model_name_or_path": "x", "dataset": "y"}


@pytest.mark.skipif(find_spec("clearml") is not None, reason="clearml is installed")
def test_a_missing_tracker_is_told_with_the_command() -> None:
    check_trackers(())
    with pytest.raises(MachineError) as caught:
        check_trackers(("clearml",))
    assert caught.value.what == "report_to: clearml is not installed"
    assert caught.value.fix.startswith("pip install clearml")
    assert caught.value.code is ExitCode.MACHINE


def test_swanlab_has_a_switch_of_its_own() -> None:
    assert Config(**NEEDED).trackers == ()
    assert Config(**NEEDED, use_swanlab=True, report_to="none").trackers == ("swanlab",)
    assert Config(**NEEDED, use_swanlab=True, report_to="swanlab,wandb").trackers == (
        "swanlab", "wandb",
    )  # fmt: skip


@pytest.mark.skipif(find_spec("tensorboardX") is None, reason="tensorboardX is not installed")
def test_tensorboard_gets_the_curve(
    tiny: Base, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    Job(tiny, str(rows), tmp_path / "run", {"report_to": "tensorboard", "max_steps": 2}).train()
    (written,) = (tmp_path / "run" / "tensorboard").rglob("events.out.tfevents.*")
    assert b"train/loss" in written.read_bytes()


def test_an_engine_is_checked_before_anything_expensive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ds.json"
    config = Config(**NEEDED, deepspeed=path)
    with pytest.raises(UsageError, match="deepspeed: cannot read"):
        check_engine(config)
    path.write_text('{"zero_optimization": {"stage": 2},}')
    with pytest.raises(UsageError, match=r"ds.json is no JSON"):
        check_engine(config)
    path.write_text("[1]")
    with pytest.raises(UsageError, match="holds no settings"):
        check_engine(config)
    path.write_text('{"zero_optimization": {"stage": 2}}')
    with pytest.raises(UsageError, match="deepspeed needs a launcher") as caught:
        check_engine(config)
    assert caught.value.fix.startswith("torchrun --nproc-per-node")
    monkeypatch.setenv("WORLD_SIZE", "1")
    if find_spec("deepspeed") is None:
        with pytest.raises(MachineError, match="deepspeed is not installed"):
            check_engine(config)
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(UsageError, match="fsdp needs a launcher"):
        check_engine(Config(**NEEDED, fsdp="full_shard auto_wrap"))
    check_engine(Config(**NEEDED, fsdp="false"))
