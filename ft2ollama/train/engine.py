"""transformers' Trainer with four things of ours: loss, order of rows, evaluation, checkpoints.

- The loss is computed inside the model's own call, so that DDP, FSDP and DeepSpeed, which wrap that
  call, see it; it is divided by the learned tokens of the whole step over all processes.
- Rows come in an order that depends on seed and epoch alone (order.py).
- The held-out loss is a mean over tokens, whatever the batches and the number of processes.
- A checkpoint is whole or absent (checkpoints.py), and a full disk costs a checkpoint, not the run.
"""

from __future__ import annotations

import json
import shutil
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from ft2ollama.data.render import IGNORED
from ft2ollama.files import full_disk, write_json
from ft2ollama.train import checkpoints
from ft2ollama.train.batches import count_tokens
from ft2ollama.train.callbacks import Report
from ft2ollama.train.loss import learned_loss
from ft2ollama.train.order import TrainingOrder

Inputs = dict[str, torch.Tensor]


class Engine(Trainer):  # type: ignore[misc]
    """One training of one model; every process has one."""

    def __init__(
        self, *, inputs: Mapping[str, str], report: Report, keep: int | None, **settings: Any
    ) -> None:
        """inputs: the run's, noted in checkpoints.  keep: checkpoints to keep after the
        training, None for all.

        settings: of transformers' Trainer; the data sets are lists of rows with `input_ids` and
        `labels`, of which the first label of a row is not learned.
        """
        self._rows = settings["train_dataset"]
        settings["train_dataset"] = [*self._rows, _filling(self._rows)]
        super().__init__(**settings)
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = True
        self._inputs, self._report, self._keep = dict(inputs), report, keep
        self.each: Mapping[str, list[dict[str, Any]]] = {}  # held-out rows by data set
        self._saving = False
        self.resumed_from: Path | None = None
        self.passing = False  # the checkpoint to come is only there for a crash
        self.on_failed_save: Callable[[], None] = lambda: None
        self.stopped_by_user: Callable[[], bool] = lambda: False
        self.step_loss = torch.zeros((), device=self.args.device)
        self.gradient_norm: Any = None
        self._tokens = torch.zeros((), dtype=torch.int64, device=self.args.device)
        self.tokens_seen = self.learned_seen = 0
        self.order = TrainingOrder(
            self.args.train_sampling_strategy,
            [len(row["input_ids"]) for row in self._rows],
            step_rows=self._rows_per_step(),
            fill_to=self._rows_at_once() if self.args.world_size > 1 else 1,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
        )
        self.add_callback(_Continue(self))
        _call_for_loss(self.model)

    def _rows_at_once(self) -> int:
        return int(self.args.per_device_train_batch_size * self.args.world_size)

    def _rows_per_step(self) -> int:
        return self._rows_at_once() * int(self.args.gradient_accumulation_steps)

    # --- the step
    def _get_train_sampler(self, train_dataset: Any = None) -> TrainingOrder:
        return self.order

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *rest: Any) -> Any:
        """The micro-batches of a step and their learned tokens, over all processes."""
        batches, learned = super().get_batch_samples(epoch_iterator, *rest)
        self.step_loss = torch.zeros((), device=self.args.device)
        if learned is not None:
            self._learned = getattr(self, "_learned", 0) + learned
        return batches, learned

    def compute_loss(
        self,
        model: Any,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> Any:
        """Loss of one micro-batch; the sum over step and processes is the mean of all tokens.

        Wrappers take the mean over the processes, so each one gives its share times their number.
        """
        self._tokens += count_tokens(inputs)
        loss = model(**inputs, n_learned=num_items_in_batch) * self.accelerator.num_processes
        self.step_loss += loss.detach()
        return (loss, {}) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Keep the norm that was measured before clipping: an infinite one is clipped to zero."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.gradient_norm = norm
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the tokens seen so far, of all processes."""
        if "loss" in logs:
            self.tokens_seen = int(self.accelerator.reduce(self._tokens.clone(), "sum"))
            self.learned_seen = int(getattr(self, "_learned", 0))
            logs["num_input_tokens_seen"] = self.tokens_seen
        super().log(logs, start_time)

    def loss_and_norm(self) -> tuple[float, float]:
        """Loss of this step (of this process) and length of its gradient, before clipping."""
        norm = self.gradient_norm
        if norm is None:  # DeepSpeed steps by itself
            return float(self.step_loss), 0.0
        return float(self.step_loss), float(
            norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        )

    def is_scaled(self) -> bool:
        """Does float16 scale the loss? Then single steps may overflow, and are skipped."""
        return getattr(self.accelerator, "scaler", None) is not None

    def is_sharded(self) -> bool:
        """Are the weights shared among the processes?"""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def gathered(self) -> dict[str, Any] | None:
        """All weights, where they are shared among the processes; each of them must ask."""
        if not self.is_sharded():
            return None
        state: dict[str, Any] = self.accelerator.get_state_dict(self.model_wrapped)
        return state

    def save_in_passing(self, control: TrainerControl) -> None:
        """Ask for a checkpoint that only has to outlive this process, if none is due anyway."""
        self.passing = self.passing or not control.should_save
        control.should_save = True

    def release(self) -> None:
        """The model's own call again."""
        self.model.__dict__.pop("forward", None)

    # --- the held-out loss
    def evaluation_loop(
        self, dataloader: Any, description: str, *_: Any, metric_key_prefix: str = "eval", **__: Any
    ) -> EvalLoopOutput:
        """Mean loss over all held-out tokens; the batches are dealt out to the processes."""
        model = self.model_wrapped
        was_training = model.training
        model.eval()
        sets = self.each or {"": self.eval_dataset}
        sums = [self._sum(model, rows) for rows in sets.values()]
        model.train(was_training)
        found = torch.tensor(sums, dtype=torch.float64, device=self.args.device)  # [sets, 2]
        found = self.accelerator.reduce(found, "sum").cpu()
        names = [f"{metric_key_prefix}_{name}_loss" for name in self.each]
        metrics = dict(zip(names, map(_mean, found), strict=False))
        metrics[f"{metric_key_prefix}_loss"] = _mean(found.sum(0))
        return EvalLoopOutput(None, None, metrics, len(self.eval_dataset))

    def _sum(self, model: Any, rows: Sequence[dict[str, Any]]) -> tuple[float, int]:
        """(sum of the losses, learned tokens) of this process's share of the rows."""
        total, learned = 0.0, 0
        for batch in self._held_out(rows):
            inputs = self._prepare_inputs(batch)
            with torch.no_grad():
                total += float(model(**inputs, n_learned=1))
            learned += int((inputs["labels"][:, 1:] != IGNORED).sum())
        return total, learned

    def _held_out(self, rows: Sequence[dict[str, Any]]) -> Iterator[Any]:
        """This process's batches: of like length, and as many as every other process has."""
        rows = sorted(rows, key=lambda row: len(row["input_ids"]), reverse=True)
        size, world = self.args.per_device_eval_batch_size, self.args.world_size
        batches = [rows[at : at + size] for at in range(0, len(rows), size)]
        batches += [[_filling(rows)]] * (-len(batches) % world)
        for batch in batches[self.args.process_index :: world]:
            yield self.data_collator(batch)

    # --- checkpoints
    def _get_output_dir(self, trial: Any) -> str:
        """transformers writes a checkpoint below this folder."""
        root = Path(self.args.output_dir)
        return str(checkpoints.staging(root) if self._saving else root)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save, check and publish a checkpoint, or tell why there is none and go on."""
        root, passing = Path(self.args.output_dir), self.passing or self._keep == 0
        self.passing = False
        if why := self._no_room(root):
            self._failed_save(root, why)
            return
        only_model, self.args.save_only_model = (
            self.args.save_only_model,
            (self.args.save_only_model and not passing),
        )
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
            self._publish(root, passing=passing)
        except Exception as error:
            why = full_disk(error)
            if not why or self.args.world_size > 1:
                raise
            self._failed_save(root, why)
        finally:
            self._saving, self.args.save_only_model = False, only_model

    def _publish(self, root: Path, *, passing: bool) -> None:
        step = self.state.global_step
        part = checkpoints.staging(root) / f"checkpoint-{step}"
        best = self.state.best_model_checkpoint
        if best and Path(best).parent == checkpoints.staging(root):
            self.state.best_model_checkpoint = str(root / Path(best).name)
        write_json(part / f"progress-{self.args.process_index}.json", self._progress())
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(part / checkpoints.STATE))
            checkpoints.publish(root, step, {"passing": passing, "inputs": self._inputs})
            checkpoints.rotate(root, self._keep, best=self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()
        self._report({"event": "checkpoint", "step": step, "passing": passing})

    def _progress(self) -> dict[str, Any]:
        """What transformers does not keep: tokens, and the loss that was not logged yet."""
        return {
            "tokens": int(self._tokens),
            "seen": int(self.accelerator.reduce(self._tokens.clone(), "sum")),
            "learned": int(getattr(self, "_learned", 0)),
            "loss": float(getattr(self, "_tr_loss", 0.0)),
            "logged": getattr(self, "_globalstep_last_logged", 0),
            "finished": self._is_finished(),
        }

    def _is_finished(self) -> bool:
        """Is nothing left to train: all steps done, or stopped early?"""
        early = self.control.should_training_stop and not self.stopped_by_user()
        return bool(early or self.state.global_step >= self.state.max_steps)

    def finish(self, folder: Path) -> None:
        """Take up a training whose last step is in this checkpoint: nothing is left to train.

        transformers would do one more step before it looks.
        """
        self.state = TrainerState.load_from_json(str(folder / checkpoints.STATE))
        self.go_on(folder)
        self._find_best()
        wanted = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(wanted or str(folder))

    def _find_best(self) -> None:
        """The best checkpoint, also when the run folder was moved."""
        if self.state.best_global_step:
            best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best) if best.is_dir() else None

    def go_on(self, folder: Path) -> None:
        """Take up `_progress` again; called when transformers has set its own counters to zero."""
        path = folder / f"progress-{self.args.process_index}.json"
        if not path.is_file():  # a checkpoint of another tool
            return
        was = json.loads(path.read_text("utf-8"))
        self._tokens += was["tokens"]
        self.tokens_seen, self._learned = was["seen"], was["learned"]
        if hasattr(self, "_tr_loss"):
            self._tr_loss += was["loss"]
            self._globalstep_last_logged = was["logged"]

    def _no_room(self, root: Path) -> str:
        """Why there is surely no room for another checkpoint; the same answer in every process."""
        need = free = 0
        if self.args.should_save:
            need, free = checkpoints.room_for(root)
        if self.args.world_size > 1:
            both = torch.tensor([need, free], dtype=torch.float64, device=self.args.device)
            need, free = (int(x) for x in self.accelerator.reduce(both, "sum"))
        if need <= free:
            return ""
        return f"{root} has {free / 1e9:.2f} GB free, a checkpoint takes {need / 1e9:.2f} GB"

    def _failed_save(self, root: Path, why: str) -> None:
        shutil.rmtree(checkpoints.staging(root), ignore_errors=True)
        self._report({"event": "no_checkpoint", "step": self.state.global_step, "why": why})
        self.on_failed_save()


class _Continue(TrainerCallback):  # type: ignore[misc]
    """Takes up a resumed training, and tells the order which epoch it is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._engine.resumed_from is not None:
            self._engine._find_best()
            self._engine.go_on(self._engine.resumed_from)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._engine.order.set_epoch(int(state.epoch or 0))


def _call_for_loss(model: Any) -> None:
    """From now on `model(**inputs, n_learned=n)` is the loss of a batch divided by n."""

    def forward(self: Any, n_learned: int | torch.Tensor | None = None, **inputs: Any) -> Any:
        return learned_loss(self, inputs, n_learned)

    model.forward = types.MethodType(forward, model)


def _mean(sum_and_count: torch.Tensor) -> float:
    return float(sum_and_count[0]) / max(float(sum_and_count[1]), 1.0)


def _filling(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of two tokens of which none is learned: it changes no loss and no gradient."""
    first = rows[0]["input_ids"][0]
    return {"input_ids": [first, first], "labels": [IGNORED, IGNORED]}
