"""Trainings in a process of their own, which kills itself at a chosen point.

The processes come from a fork server that has the libraries loaded already, so each costs about as
much as its training.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.runs import Run, create_run
from ft2ollama.train.plan import Plan, make_plan

SETTINGS: dict[str, Any] = {
    "template": "chatml",
    "lora_rank": 4,
    "learning_rate": 1e-2,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "proof_replies": 0,
    "export_mode": "exact",
}


PRELOAD = [
    "ft2ollama.train.trainer", "peft", "bitsandbytes", "matplotlib.figure",
    "transformers.models.llama.modeling_llama", "matplotlib.backends.backend_agg",
]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What a process trains: everything that can be sent to it."""

    base: Base
    dataset: str
    folder: Path
    settings: dict[str, Any]

    def plan(self) -> Plan:
        data = {"model_name_or_path": str(self.base.folder), "dataset": self.dataset}
        return make_plan(Config(**{**SETTINGS, **data, **self.settings}), self.base)

    def train(self, report: Callable[[dict[str, Any]], None] = lambda _: None) -> Run:
        from ft2ollama.train.trainer import train

        run = create_run("", "", folder=self.folder)
        train(self.plan(), run, dtype="float32", device="cpu", report=report)
        return run


def result(run: Run) -> tuple[Any, Any, bytes]:
    """Both curves and the adapter's bytes."""
    from ft2ollama.train.resume import curve

    return (*curve(run), (run.adapter / "adapter_model.safetensors").read_bytes())


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_event(kind: str, step: int) -> Callable[[dict[str, Any]], None]:
    def report(event: dict[str, Any]) -> None:
        if event["event"] == kind and event.get("step") == step:
            die()

    return report


def _die_in_torch_save(nth: int) -> None:
    """Half of a file is written when the process dies."""
    import torch

    save, left = torch.save, [nth]

    def half(value: Any, path: Any, **rest: Any) -> None:
        left[0] -= 1
        save(value, path, **rest)
        if left[0] == 0:
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            die()

    torch.save = half


def _die_before(name: str) -> None:
    """Before the checkpoint is given its name, or before old ones are removed."""
    from ft2ollama.train import checkpoints

    setattr(checkpoints, name, lambda *_, **__: die())


def _child(job: Job, point: tuple[str, Any]) -> None:
    name, value = point
    report: Callable[[dict[str, Any]], None] = lambda _: None  # noqa: E731
    if name in ("step", "checkpoint", "eval"):
        report = _die_at_event(name, value)
    elif name == "torch.save":
        _die_in_torch_save(value)
    elif name == "before":
        _die_before(value)
    job.train(report)


def train_and_die(job: Job, point: tuple[str, Any]) -> None:
    """Train in another process until `point`; fails when it was never reached."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_child, args=(job, point))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, f"{point} was never reached: {process.exitcode}"
