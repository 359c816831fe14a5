"""One supervised fine-tune with transformers.Trainer and peft; nothing home-made but the loss.

In: a `Plan` and an opened run.  Out: `adapter/` (PEFT files), `proof/` (what the server must
reproduce), `loss.png`, `loss.svg`, `train_report.md` and the events of every step.

Of several processes (distributed.py) each one trains; the first one alone holds the run's lock and
writes into its folder.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import EarlyStoppingCallback

from ft2ollama.data.dropped import FILE as DROPPED
from ft2ollama.data.dropped import write_dropped
from ft2ollama.errors import Interrupted, JobError, MachineError, UsageError
from ft2ollama.language import choose_language
from ft2ollama.runs import Run
from ft2ollama.train import checkpoints
from ft2ollama.train.arguments import training_arguments
from ft2ollama.train.batches import rows
from ft2ollama.train.calibrate import affordable_tokens, collect, general_text, wants_statistics
from ft2ollama.train.callbacks import (
    Diverged,
    NanGuard,
    Report,
    Reporter,
    SaveAfterEvaluation,
    SaveByTheClock,
    StopOnCtrlC,
    peak_memory_gb,
)
from ft2ollama.train.distributed import lost_partner, team
from ft2ollama.train.engine import Engine
from ft2ollama.train.memory_errors import Load, is_out_of_memory, out_of_memory
from ft2ollama.train.methods import trainable_model
from ft2ollama.train.model import quiet_libraries
from ft2ollama.train.optimizer import own_optimizer
from ft2ollama.train.packing import training_rows
from ft2ollama.train.plan import Plan
from ft2ollama.train.plot import plot_loss
from ft2ollama.train.reference import write_proof
from ft2ollama.train.report import write_report
from ft2ollama.train.resume import Start, choose_start, curve, recorded
from ft2ollama.train.saving import save_trained
from ft2ollama.train.speed import speed_up
from ft2ollama.train.trackers import prepare_trackers


def train(
    plan: Plan,
    run: Run,
    *,
    dtype: str,
    device: str,
    report: Report,
    origins: Mapping[str, str] | None = None,
) -> None:
    """Train, then write adapter, curve, report and proof files.

    Continues from the newest checkpoint of the run when its inputs are the same. origins: where
    each key's value came from, for the report.  Raises Interrupted after Ctrl-C (a checkpoint
    is saved and the resume command is in `fix`), JobError when it diverges, MachineError when
    memory runs out.
    """
    quiet_libraries()
    first = team().first
    with run.lock() if first else nullcontext():
        found = team().share("start", lambda: choose_start(run, plan, report).as_json())
        start = Start.from_json(found)
        events = recorded(run, report) if first else report
        job = _Job(plan, run, dtype, device, events)
        if not first:
            job.fit(start).gathered()
            return
        with run.stage("train", plan.inputs) as stage:
            write_dropped(run.folder / DROPPED, plan.dropped, choose_language())
            trainer = job.fit(start)
            stage.detail.update(job.summary(trainer))
            stage.outputs += job.calibration(trainer, stage.detail)
            stage.outputs += job.save(trainer)
            del trainer
            gc.collect()
            stage.outputs += plot_loss(*curve(run), run.folder, run.id)
            stage.outputs += write_proof(plan, run, device=device, report=events)
        write_report(plan, run, origins or {})
    checkpoints.remove_passing(run.checkpoints)


@dataclass
class _Job:
    """One training in this process: loads, trains, and says what came of it."""

    plan: Plan
    run: Run
    dtype: str
    device: str
    report: Report
    seconds: float = 0.0

    def fit(self, start: Start) -> Engine:
        """The trained engine. Raises what `train` raises."""
        self.report({"event": "phase", "phase": "loading the base model"})
        engine: Engine | None = None
        try:
            engine = self._engine()
            self._train(engine, start)
        except Diverged as error:
            raise self._diverged(error) from error
        except Exception as error:
            if (lost := lost_partner(error)) is not None:
                raise lost from error
            if not is_out_of_memory(error):
                raise
            step = engine.state.global_step if engine is not None else None
            raise self._out_of_memory(error, step) from error
        return engine

    def _engine(self) -> Engine:
        config = self.plan.config
        random.seed(config.seed)
        folder = self.plan.base.folder
        model = trainable_model(
            config,
            folder,
            dtype=self.dtype,
            device=self.device,
            new_ids=[self.plan.tokenizer.id(text) or 0 for text in config.new_tokens],
        )
        learned = training_rows(config, folder, rows(self.plan.train))
        arguments = training_arguments(
            self.plan, self.run.checkpoints, self.device, self.dtype, self.run.id
        )
        way = speed_up(model, config, learned)
        for text in way.notes:
            self.report({"event": "note", "text": text})
        prepare_trackers(config, self.run.folder, self.run.id)
        engine = Engine(
            inputs=self.plan.inputs,
            report=self.report,
            keep=0 if config.resolved_save_strategy == "eval" else config.save_total_limit,
            model=model,
            args=arguments,
            optimizers=(own_optimizer(config, model, arguments), None),
            data_collator=way.collator,
            train_dataset=learned,
            eval_dataset=rows(self.plan.validation) or None,
        )
        engine.each = {name: rows(kept) for name, kept in self.plan.validation_sets.items()}
        if config.sharded and not engine.is_fsdp_enabled:
            raise UsageError(
                "fsdp: no weights would be shared here",
                f"accelerate shares them among GPUs only, and this trains on {self.device}",
                "leave fsdp out: each process then holds the whole model",
            )
        engine.remove_callback(transformers.PrinterCallback)
        return engine

    def _train(self, engine: Engine, start: Start) -> None:
        """Train with everything that watches; ends with the signals given back."""
        config = self.plan.config
        stop = StopOnCtrlC(self.report, engine.save_in_passing)
        engine.on_failed_save = lambda: stop.go_on(engine.control)
        engine.add_callback(Reporter(self.report, lambda: engine.tokens_seen))
        engine.add_callback(NanGuard(engine.loss_and_norm, engine.is_scaled))
        if config.early_stopping_steps and self.plan.validation:
            engine.add_callback(
                EarlyStoppingCallback(config.early_stopping_steps, config.early_stopping_threshold)
            )
        if config.save_minutes:
            engine.add_callback(SaveByTheClock(config.save_minutes, engine.save_in_passing))
        engine.add_callback(stop)
        engine.add_callback(SaveAfterEvaluation())
        engine.resumed_from = start.checkpoint
        engine.stopped_by_user = lambda: stop.stopped
        began = time.monotonic()
        try:
            if start.checkpoint and start.finished and not engine.is_sharded():
                engine.finish(start.checkpoint)
            else:
                engine.train(resume_from_checkpoint=start.checkpoint and str(start.checkpoint))
        finally:
            stop.release()
            engine.release()
            self.seconds = time.monotonic() - began
        if stop.stopped:
            raise self._interrupted(engine.state.global_step)

    # --- what came of it
    def summary(self, engine: Engine) -> dict[str, Any]:
        """For run.json and the report."""
        losses, evals = curve(self.run)
        state = engine.state
        best = min(evals, key=lambda pair: pair[1], default=None)
        return {
            "steps": state.global_step,
            "planned_steps": self.plan.steps,
            "first_loss": round(losses[0][1], 4) if losses else None,
            "last_loss": round(losses[-1][1], 4) if losses else None,
            "eval_loss": round(evals[-1][1], 4) if evals else None,
            "best_eval_loss": round(best[1], 4) if best else None,
            "best_step": best[0] if best else None,
            "kept": "best" if state.best_model_checkpoint and self._keeps_best() else "last",
            "tokens_seen": engine.tokens_seen,
            "learned_seen": engine.learned_seen,
            "train_seconds": round(self.seconds, 2),
            "peak_memory_gb": round(peak_memory_gb(), 2),
            "processes": engine.args.world_size,
            "compute_dtype": self.dtype,
            "device": self.device,
            "threads": torch.get_num_threads(),
        }

    def _keeps_best(self) -> bool:
        return self.plan.config.load_best_model_at_end

    def save(self, engine: Engine) -> list[Path]:
        """What was trained; the weights may be shared among the processes, which all gather."""
        self.report({"event": "phase", "phase": "saving what was trained"})
        state = engine.gathered()
        model = engine.accelerator.unwrap_model(engine.model)
        return save_trained(model, self.plan.config, self.plan.base, self.run, state=state)

    def calibration(self, engine: Engine, detail: dict[str, Any]) -> list[Path]:
        """Statistics for the quantizer, where the export will use them."""
        self.run.calibration.unlink(missing_ok=True)
        if engine.is_sharded() or not wants_statistics(self.plan.config, self.plan.quant):
            return []
        self.report({"event": "phase", "phase": "collecting calibration statistics"})
        found = collect(
            engine.model,
            [sample.ids for sample in self.plan.train],
            self.run.calibration,
            max_tokens=affordable_tokens(engine.tokens_seen),
            general=general_text(self.plan.tokenizer),
        )
        detail["calibration"] = asdict(found)
        return [self.run.calibration]

    # --- how it may end
    def _interrupted(self, step: int) -> Interrupted:
        return Interrupted(
            f"training stopped by Ctrl-C after step {step} of {self.plan.steps}",
            f"checkpoint saved in {self.run.checkpoints}",
            f"ft2ollama train --resume {self.run.id}",
        )

    def _diverged(self, error: Diverged) -> JobError:
        last = checkpoints.newest(self.run.checkpoints)
        kept = f"\nthe checkpoints up to {last.name} are kept" if last else ""
        rate = self.plan.config.learning_rate
        whose = f"process {team().rank}: " if team().size > 1 else ""
        return JobError(
            f"training diverged at step {error.step}",
            f"{whose}loss {error.loss:g}, gradient norm {error.norm:g}, learning_rate {rate:g}; "
            f"the step was not applied{kept}",
            f"learning_rate={rate / 4:g}",
        )

    def _out_of_memory(self, error: BaseException, step: int | None) -> MachineError:
        config = self.plan.config
        load = Load(
            rows=config.per_device_train_batch_size,
            accumulation=config.gradient_accumulation_steps,
            longest=max(len(sample.ids) for sample in self.plan.train),
            cutoff_len=config.cutoff_len,
            device=self.device,
            predicted=self.run.record.get("estimate", {}),
            checkpointing=bool(getattr(config, "gradient_checkpointing", False)),
            quantized=bool(getattr(config, "quantization_bit", None)),
        )
        when = (
            "while loading the model"
            if step is None
            else f"at step {step + 1} of {self.plan.steps}"
        )
        saved = checkpoints.newest(self.run.checkpoints) is not None
        command = f"ft2ollama train --resume {self.run.id}"
        return out_of_memory(error, load, command=command, when=when, goes_on=saved)
