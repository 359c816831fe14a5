"""What the trainer tells: one event a step, and a checkpoint when the user presses Ctrl-C."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

Report = Callable[[dict[str, Any]], None]


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Turns the trainer's logs into events {event, step, steps, loss, lr, tokens_per_s, mem_gb}."""

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
                "seconds": round(now - self._began, 2),
                "mem_gb": round(memory_gb(), 2),
            }
        )
        self._before, self._tokens_before = now, tokens


class StopOnCtrlC(TrainerCallback):  # type: ignore[misc]
    """The first Ctrl-C ends the step, saves a checkpoint and stops; the second one ends at once."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._previous: Any = None
        self.pressed = False

    def _press(self, number: int, frame: FrameType | None) -> None:
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
        if self.pressed:
            control.should_save = True
            control.should_training_stop = True

    def release(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous or ():
            signal.signal(number, handler)
        self._previous = None


def memory_gb() -> float:
    """Resident memory of this process, or the peak on the GPU when one is in use."""
    import psutil
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated() / 1e9)
    return float(psutil.Process().memory_info().rss / 1e9)
