"""Where a training starts: at the beginning, or at a checkpoint; and its curve over all its parts.

A run goes on by itself when it was not finished and was made from the same inputs. Events that are
younger than the checkpoint are taken back, because those steps will be done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.files import write_text
from ft2ollama.runs import Run
from ft2ollama.train import checkpoints
from ft2ollama.train.callbacks import Report
from ft2ollama.train.plan import Plan

_CURVE = ("step", "eval")
_KEPT = (*_CURVE, "eval_set", "checkpoint", "no_checkpoint")


@dataclass(frozen=True)
class Start:
    """checkpoint: the folder to go on from, None for the beginning.  step: steps done there.

    finished: that was the last step.
    """

    checkpoint: Path | None = None
    step: int = 0
    finished: bool = False

    def as_json(self) -> dict[str, Any]:
        """For the other processes."""
        folder = str(self.checkpoint or "")
        return {"checkpoint": folder, "step": self.step, "finished": self.finished}

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Start:
        """What `as_json` made."""
        folder = Path(found["checkpoint"]) if found["checkpoint"] else None
        return Start(folder, found["step"], found["finished"])


def can_resume(run: Run, plan: Plan) -> bool:
    """Is there a checkpoint of an unfinished training, made from the very same inputs?"""
    stage = run.stage_record("train")
    unfinished = stage.get("inputs") == plan.inputs and stage.get("status") != "done"
    return unfinished and checkpoints.newest(run.checkpoints) is not None


def choose_start(run: Run, plan: Plan, report: Report) -> Start:
    """The checkpoint to go on from; clears away what does not belong to this training.

    Raises UsageError when the config asks for a checkpoint that no run can go on from.
    """
    wanted = plan.config.resumes_from
    checkpoints.clear_staging(run.checkpoints)
    if wanted and wanted.lower() != "true":
        return _named(Path(wanted).expanduser(), run, plan, report)
    if can_resume(run, plan):
        found, damaged = checkpoints.usable(run.checkpoints)
        for one in damaged:
            _warn(report, f"{one.folder.name} is passed over: {one.problem}")
            checkpoints.remove(one.folder)
        if found is not None:
            _take_back(run, found.step)
            report({"event": "resuming", "step": found.step, "steps": plan.steps})
            return Start(found.folder, found.step, checkpoints.is_final(found.folder))
    if wanted:
        raise UsageError(
            "resume_from_checkpoint: true, but there is nothing to go on from",
            f"{run.folder} has no checkpoint of this config and data",
            "ft2ollama train --resume RUN     # goes on with a run and its own config",
        )
    if checkpoints.newest(run.checkpoints) and run.stage_record("train")["inputs"] != plan.inputs:
        report({"event": "anew"})
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    run.drop_events(*_KEPT)
    return Start()


def _named(folder: Path, run: Run, plan: Plan, report: Report) -> Start:
    found = checkpoints.chosen(folder)
    inputs = checkpoints.inputs_of(folder)
    other = sorted(
        key for key in {*inputs, *plan.inputs} if inputs.get(key) != plan.inputs.get(key)
    )
    if other:
        what = ", ".join(other) if inputs else "an unknown config"
        _warn(report, f"{folder} was made from another {what}: the training goes on, not exactly")
    if folder.resolve().parent == run.checkpoints.resolve():
        _take_back(run, found.step)
    else:
        run.drop_events(*_KEPT)
    report({"event": "resuming", "step": found.step, "steps": plan.steps})
    return Start(folder.absolute(), found.step, checkpoints.is_final(folder))


def _warn(report: Report, text: str) -> None:
    report({"event": "warning", "text": text})


def _take_back(run: Run, step: int) -> None:
    """Forget what happened after `step`, and a last line that a crash cut."""
    path, kept = run.folder / "events.jsonl", []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("event") not in _KEPT or event.get("step", 0) <= step:
            kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))


def recorded(run: Run, report: Report) -> Report:
    """`report` that also writes the curve into events.jsonl; a full disk is told once."""
    told: list[OSError] = []

    def record(event: dict[str, Any]) -> None:
        if event["event"] in _KEPT:
            try:
                run.event(event["event"], **{k: v for k, v in event.items() if k != "event"})
            except OSError as error:
                if not told:
                    told.append(error)
                    _warn(report, f"events.jsonl: {error.strerror}; the training goes on")
        report(event)

    return record


Points = Sequence[tuple[int, float]]


def curve(run: Run) -> tuple[Points, Points]:
    """(step, loss) of training and validation; a step repeated after a resume counts once."""
    steps = {event["step"]: event["loss"] for event in run.events("step")}
    evals = {event["step"]: event["eval_loss"] for event in run.events("eval")}
    return sorted(steps.items()), sorted(evals.items())
