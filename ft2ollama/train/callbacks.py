"""What is told and watched while a training runs: events, Ctrl-C, the clock, no number."""

from __future__ import annotations

import math
import re
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ft2ollama.train.distributed import team

Report = Callable[[dict[str, Any]], None]


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Turns the trainer's logs into events {event, step, steps, loss, lr, tokens_per_s, ...}."""

    def __init__(self, report: Report, tokens_seen: Callable[[], int]) -> None:
        self._report = report
        self._tokens_seen = tokens_seen
        self._began = self._before = 0.0
        self._tokens_before = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self._began = self._before = time.monotonic()
        self._tokens_before = self._tokens_seen()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Report a step (or an evaluation) with its rate."""
        logs = logs or {}
        if "eval_loss" in logs:
            self._report(
                {
                    "event": "eval",
                    "step": state.global_step,
                    "eval_loss": round(logs["eval_loss"], 5),
                }
            )
        for key, value in logs.items():
            if name := re.fullmatch("eval_(.+)_loss", key):
                self._report(
                    {
                        "event": "eval_set",
                        "step": state.global_step,
                        "set": name[1],
                        "eval_loss": round(value, 5),
                    }
                )
        if "loss" not in logs:
            return
        now, tokens = time.monotonic(), self._tokens_seen()
        self._report(
            {
                "event": "step",
                "step": state.global_step,
                "steps": state.max_steps,
                "loss": round(logs["loss"], 5),
                "grad_norm": round(float(logs.get("grad_norm", 0.0)), 4),
                "lr": logs.get("learning_rate", 0.0),
                "tokens_per_s": round(
                    (tokens - self._tokens_before) / max(now - self._before, 1e-9), 1
                ),
                "tokens": tokens,
                "seconds": round(now - self._began, 2),
                "mem_gb": round(memory_gb(), 2),
            }
        )
        self._before, self._tokens_before = now, tokens

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """What is not training does not count in the rate."""
        self._before = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """What is not training does not count in the rate."""
        self._before = time.monotonic()


class StopOnCtrlC(TrainerCallback):  # type: ignore[misc]
    """The first Ctrl-C ends the step, saves a checkpoint and stops; the second one ends at once.

    Of several processes the first one decides, and all stop at the end of the same step.
    """

    def __init__(self, report: Report, save: Callable[[TrainerControl], None]) -> None:
        """save: asks for a whole checkpoint."""
        self._report, self._save = report, save
        self._previous: Any = None
        self._ordered = False
        self.pressed = self.stopped = False

    def _press(self, number: int, frame: FrameType | None) -> None:
        if team().has_failed():  # the launcher ends us: another process has told why
            raise SystemExit(1)
        if not team().first:
            return
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        self._report({"event": "stopping"})

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take over SIGINT and SIGTERM while training."""
        self._previous = [
            (number, signal.signal(number, self._press))
            for number in (signal.SIGINT, signal.SIGTERM)
        ]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask the trainer for a checkpoint and the end."""
        if args.world_size > 1:
            due = team().ordered("stop", state.global_step)
            if self.pressed and not self._ordered:
                team().order("stop", state.global_step + 1)
                self._ordered = True
        else:
            due = self.pressed
        if due:
            self._save(control)
            control.should_training_stop = self.stopped = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """An epoch that was broken off has no end: nothing is measured or saved again."""
        if self.stopped and not at_an_end(state):
            control.should_evaluate = control.should_save = control.should_log = False

    def go_on(self, control: TrainerControl) -> None:
        """There was no room for the checkpoint: stopping now would lose the training."""
        if self.stopped:
            control.should_training_stop = self.pressed = self.stopped = False
            self._report({"event": "not_stopped"})

    def release(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous or ():
            signal.signal(number, handler)
        self._previous = None


class SaveByTheClock(TrainerCallback):  # type: ignore[misc]
    """Asks for a checkpoint when the last one is too old."""

    def __init__(self, minutes: float, save: Callable[[TrainerControl], None]) -> None:
        self._seconds, self._save = minutes * 60, save
        self._last = time.monotonic()
        self._ordered = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Any checkpoint is as good as ours."""
        self._last = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The first process looks at the clock, and all save at the end of the same step."""
        due = time.monotonic() - self._last >= self._seconds
        if args.world_size > 1:
            if team().first and due and self._ordered < state.global_step:
                self._ordered = state.global_step + 1
                team().order("save", self._ordered)
            due = team().ordered("save", state.global_step)
        if due and state.global_step < state.max_steps:
            self._save(control)


class SaveAfterEvaluation(TrainerCallback):  # type: ignore[misc]
    """At the end of an epoch the checkpoint waits for the evaluation; must be the last callback.

    transformers saves first: a run killed in between would never make up for the evaluation.
    """

    def __init__(self) -> None:
        self._waiting = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Hold a checkpoint back when the epoch ends with this step."""
        if control.should_save and at_an_end(state):
            control.should_save, self._waiting = False, True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save now; transformers evaluates before it does."""
        control.should_save, self._waiting = control.should_save or self._waiting, False


def at_an_end(state: TrainerState) -> bool:
    """Is this the last step of an epoch or of the training?"""
    epoch = float(state.epoch or 0.0)
    return abs(epoch - round(epoch)) < 1e-9 or bool(state.global_step >= state.max_steps)


class NanGuard(TrainerCallback):  # type: ignore[misc]
    """Ends a training at the first loss or gradient that is no number, before it is applied."""

    def __init__(self, step: Callable[[], tuple[float, float]], scaled: Callable[[], bool]) -> None:
        """step: loss and gradient norm of the step, the norm as it was before clipping.

        scaled: is float16 used, whose scaler skips steps that overflow by itself?
        """
        self._step, self._scaled = step, scaled

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look before the weights are touched."""
        loss, norm = self._step()
        if math.isfinite(loss) and (math.isfinite(norm) or self._scaled()):
            return
        raise Diverged(state.global_step + 1, loss, norm)


class Diverged(Exception):
    """step: from 1; the weights are still those of the step before."""

    def __init__(self, step: int, loss: float, norm: float) -> None:
        super().__init__(f"step {step}: loss {loss:g}, gradient norm {norm:g}")
        self.step, self.loss, self.norm = step, loss, norm


def peak_memory_gb() -> float:
    """The most that this process has held at once: on the GPU when one is in use, else resident."""
    import resource

    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated() / 1e9)
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def memory_gb() -> float:
    """Resident memory of this process, or the peak on the GPU when one is in use."""
    import psutil
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated() / 1e9)
    return float(psutil.Process().memory_info().rss / 1e9)
