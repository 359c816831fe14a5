"""One supervised fine-tune with transformers.Trainer and peft; nothing home-made but the loss.

In: a `Plan` and an opened run.  Out: `adapter/` (PEFT files), `proof/` (what the server must
reproduce), `loss.png`, `loss.svg` and the events of every step.
"""

from __future__ import annotations

import gc
import math
import random
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Trainer

from ft2ollama.data.dropped import FILE as DROPPED
from ft2ollama.data.dropped import write_dropped
from ft2ollama.errors import Interrupted, JobError
from ft2ollama.language import choose_language
from ft2ollama.runs import Run
from ft2ollama.train.arguments import training_arguments
from ft2ollama.train.batches import Collator, rows
from ft2ollama.train.calibrate import affordable_tokens, collect, wants_statistics
from ft2ollama.train.callbacks import Report, Reporter, StopOnCtrlC
from ft2ollama.train.loss import learned_loss
from ft2ollama.train.methods import trainable_model
from ft2ollama.train.optimizer import own_optimizer
from ft2ollama.train.plan import Plan
from ft2ollama.train.plot import plot_loss
from ft2ollama.train.reference import write_proof
from ft2ollama.train.saving import save_trained


def train(plan: Plan, run: Run, *, dtype: str, device: str, report: Report) -> None:
    """Train, then write adapter, curve and proof files.

    Continues from the newest checkpoint of the run when its inputs are the same. Raises Interrupted
    after Ctrl-C (a checkpoint is saved and the resume command is in `fix`).
    """
    _quiet()
    events = _recorded(run, report)
    with run.lock():
        if not can_resume(run, plan):
            shutil.rmtree(run.checkpoints, ignore_errors=True)
            run.drop_events("step", "eval", "eval_set")
        _train_locked(plan, run, dtype=dtype, device=device, report=events)
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def can_resume(run: Run, plan: Plan) -> bool:
    """Is there a checkpoint, and was it made from the very same inputs?"""
    same = run.stage_record("train").get("inputs") == plan.inputs
    return same and latest_checkpoint(run.checkpoints) is not None


def _train_locked(plan: Plan, run: Run, *, dtype: str, device: str, report: Report) -> None:
    config = plan.config
    with run.stage("train", plan.inputs) as stage:
        write_dropped(run.folder / DROPPED, plan.dropped, choose_language())
        report({"event": "phase", "phase": "loading the base model"})
        trainer, stop = _make_trainer(plan, run, dtype=dtype, device=device, report=report)
        checkpoint = latest_checkpoint(run.checkpoints)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            stop.release()
        if stop.pressed:
            raise _interrupted(run, trainer.state.global_step, plan.steps)
        stage.detail.update(_summary(trainer, plan, dtype, device))
        stage.outputs += _calibration(trainer, plan, run, stage.detail, report)
        report({"event": "phase", "phase": "saving what was trained"})
        stage.outputs += save_trained(trainer.model, config, plan.base, run)
        del trainer
        gc.collect()
        stage.outputs += plot_loss(*_curve(run), run.folder, run.id)
        stage.outputs += write_proof(plan, run, device=device, report=report)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, if any."""
    found = [
        path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()
    ]
    return max(found, key=lambda path: int(path.name.split("-")[1]), default=None)


class LearnedTokenTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with the head computed on learned tokens only."""

    tokens_seen = 0
    each: Mapping[str, list[dict[str, Any]]] = {}  # validation rows by data set

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> Any:
        """Loss of one micro-batch; its sum over the step is the mean over all learned tokens."""
        if model.training:
            self.tokens_seen += int(inputs["attention_mask"].sum())
        with self.accelerator.autocast():  # where the method asks for it (methods.precision)
            loss = learned_loss(model, inputs, num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """eval_loss of all held-out rows, and eval_<name>_loss of each data set."""
        found: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        for name, samples in self.each.items() if metric_key_prefix == "eval" else ():
            found |= super().evaluate(samples, ignore_keys, f"eval_{name}")
        return found

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: Any = None,
    ) -> tuple[torch.Tensor, None, None]:
        """Loss only: evaluation needs no logits."""
        with torch.no_grad(), self.accelerator.autocast():
            return learned_loss(model, self._prepare_inputs(inputs), None), None, None


def _make_trainer(
    plan: Plan, run: Run, *, dtype: str, device: str, report: Report
) -> tuple[LearnedTokenTrainer, StopOnCtrlC]:
    config = plan.config
    random.seed(config.seed)
    model = trainable_model(
        config,
        plan.base.folder,
        dtype=dtype,
        device=device,
        new_ids=[plan.tokenizer.id(text) or 0 for text in config.new_tokens],
    )
    model.enable_input_require_grads()
    arguments = training_arguments(plan, run.checkpoints, device, dtype)
    trainer = LearnedTokenTrainer(
        model=model,
        args=arguments,
        optimizers=(own_optimizer(config, model, arguments), None),
        data_collator=Collator(model.config.pad_token_id or 0),
        train_dataset=rows(plan.train),
        eval_dataset=rows(plan.validation) or None,
    )
    trainer.each = {name: rows(samples) for name, samples in plan.validation_sets.items()}
    trainer.remove_callback(transformers.PrinterCallback)
    stop = StopOnCtrlC(report)
    trainer.add_callback(Reporter(report, lambda: trainer.tokens_seen))
    trainer.add_callback(stop)
    return trainer, stop


def _recorded(run: Run, report: Report) -> Report:
    def record(event: dict[str, Any]) -> None:
        if event["event"] in ("step", "eval", "eval_set"):
            run.event(event["event"], **{k: v for k, v in event.items() if k != "event"})
        report(event)

    return record


def _curve(run: Run) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """(step, loss) of training and validation; a step repeated after a resume counts once."""
    steps = {event["step"]: event["loss"] for event in run.events("step")}
    evals = {event["step"]: event["eval_loss"] for event in run.events("eval")}
    return sorted(steps.items()), sorted(evals.items())


def _summary(trainer: LearnedTokenTrainer, plan: Plan, dtype: str, device: str) -> dict[str, Any]:
    logs = [log for log in trainer.state.log_history if "loss" in log]
    losses = [log["loss"] for log in logs]
    evals = [log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log]
    for log in logs:
        if not math.isfinite(log["loss"]) or not math.isfinite(log.get("grad_norm", 0.0)):
            raise JobError(
                f"training diverged at step {log['step']}",
                f"loss {log['loss']:g}, gradient norm {log.get('grad_norm', 0.0):g}, "
                f"learning_rate {plan.config.learning_rate:g}",
                f"learning_rate={plan.config.learning_rate / 4:g}",
            )
    return {
        "steps": trainer.state.global_step,
        "first_loss": round(losses[0], 4) if losses else None,
        "last_loss": round(losses[-1], 4) if losses else None,
        "eval_loss": round(evals[-1], 4) if evals else None,
        "compute_dtype": dtype,
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _calibration(
    trainer: LearnedTokenTrainer, plan: Plan, run: Run, detail: dict[str, Any], report: Report
) -> list[Path]:
    """Statistics for the quantizer, where the export will use them."""
    run.calibration.unlink(missing_ok=True)
    if not wants_statistics(plan.config, plan.quant):
        return []
    report({"event": "phase", "phase": "collecting calibration statistics"})
    found = collect(
        trainer.model,
        [sample.ids for sample in plan.train],
        run.calibration,
        max_tokens=affordable_tokens(trainer.tokens_seen),
    )
    detail["calibration"] = asdict(found)
    return [run.calibration]


def _interrupted(run: Run, step: int, steps: int) -> Interrupted:
    return Interrupted(
        f"training stopped by Ctrl-C after step {step} of {steps}",
        f"checkpoint saved in {run.checkpoints}",
        f"ft2ollama train --resume {run.id}",
    )


def _quiet() -> None:
    """Silence what the libraries tell developers; our own notes say what users need."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(torch|transformers|peft|accelerate)(\..*)?")
