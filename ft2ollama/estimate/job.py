"""What is to be trained, in the estimate's terms.

In: the config and the rows. Out: a frozen `Job`; a suggestion is the same job with one thing
replaced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ft2ollama.estimate.memory import Way, adapter_weights
from ft2ollama.estimate.rows import Rows
from ft2ollama.estimate.shape import Shape

CHUNK_BYTES = 64 << 20  # of float32 logits that train/loss.py holds at once

if TYPE_CHECKING:
    from ft2ollama.config import Config

Method = Literal["lora", "full", "freeze"]


@dataclass(frozen=True)
class Job:
    """One training.

    device: cpu or cuda.  bits: of the base's linear weights.  pure: weights that learn are bfloat16
    too.  packed: rows are joined to cutoff_len without padding.  recompute: share of the layers
    computed again; recompute_auto: as many as do not fit.  stored: bytes of the base on disk, 0 if
    unknown.  replies: reference replies afterwards.
    """

    shape: Shape
    rows: Rows
    device: str
    method: Method = "lora"
    bits: int = 16
    double: bool = True
    rank: int = 16
    target: tuple[str, ...] = ("all",)
    freeze_layers: int = 2
    pure: bool = False
    batch: int = 8
    accumulation: int = 1
    cutoff_len: int = 2048
    epochs: float = 3.0
    max_steps: int = -1
    packed: bool = False
    recompute: float = 0.0
    recompute_auto: bool = False
    stored: float = 0.0
    replies: int = 0

    @property
    def trained(self) -> float:
        """Weights that learn."""
        if self.method == "lora":
            return adapter_weights(self.shape, self.rank, self.target)
        if self.method == "full":
            return self.shape.weights
        return self.shape.linear_weights * self._top

    @property
    def _top(self) -> float:
        return min(1.0, self.freeze_layers / self.shape.layers)

    @property
    def way(self) -> Way:
        """The same as the memory formula sees it."""
        learns = {"lora": 0.0, "full": 1.0}.get(self.method, self.trained / self.shape.weights)
        state = 8 if self.pure else 16
        if self.method != "lora" and self.bits == 16 and not self.pure:
            state += 2  # autocast keeps a bfloat16 copy of every weight that learns
        return Way(
            bits=self.bits,
            double=self.double,
            other_bytes=4 if self.bits == 32 else 2,
            frozen=1 - learns,
            state_bytes=state,
            saves="plain" if self.method == "lora" else "autocast",
            recompute=self.recompute,
            logits="chunked"
            if self.method == "lora"
            else "learned",  # a frozen head, see train/loss
            chunk=self._chunk,
            learned=self.rows.learned,
            reached=self._top if self.method == "freeze" else 1.0,
        )

    @property
    def _chunk(self) -> float:
        """Share of a micro-batch's tokens whose logits are there at once."""
        learned = self.micro_batch * self.rows.learned
        at_once = max(1.0, CHUNK_BYTES / (4 * self.shape.vocab))
        return min(learned, at_once) / max(1, self.micro_batch)

    @property
    def micro_batch(self) -> int:
        """Tokens of the largest micro-batch, padding included."""
        longest = self.cutoff_len if self.packed else min(self.rows.longest, self.cutoff_len)
        return self.batch_rows * longest

    @property
    def batch_rows(self) -> int:
        """Conversations of the largest micro-batch: not more than there are."""
        return min(self.batch, self.rows.count) if self.rows.known else self.batch

    @property
    def steps(self) -> int:
        """Optimizer steps, as transformers.Trainer counts them; 0 without data."""
        if self.max_steps > 0 or not self.rows.known:
            return max(0, self.max_steps)
        count: float = self.rows.count
        if self.packed:
            count = math.ceil(count * self.rows.mean / self.cutoff_len)
        per_epoch = max(1, math.ceil(math.ceil(count / self.batch) / self.accumulation))
        return math.ceil(per_epoch * self.epochs)

    @property
    def tokens(self) -> float:
        """Tokens of the whole training, without padding (rows are grouped by length)."""
        if self.max_steps <= 0:
            return self.rows.count * self.rows.mean * self.epochs
        row = self.cutoff_len if self.packed else self.rows.mean
        return self.max_steps * self.accumulation * self.batch * row

    @property
    def name(self) -> str:
        """The method as people call it."""
        if self.method != "lora":
            layers = f" (last {self.freeze_layers} layers)" if self.method == "freeze" else ""
            return {"full": "full fine-tuning", "freeze": "freeze"}[self.method] + layers
        kinds = {4: "QLoRA, NF4", 8: "LoRA on 8 bits", 16: "LoRA, bfloat16", 32: "LoRA, float32"}
        return kinds[self.bits]


def job_of(config: Config, shape: Shape, rows: Rows, *, device: str, dtype: str) -> Job:
    """The config's job. dtype: float32 or bfloat16, as chosen for the device."""
    bits = getattr(config, "quantization_bit", None) or (32 if dtype == "float32" else 16)
    again = getattr(config, "gradient_checkpointing", False)  # None: as many layers as needed
    return Job(
        shape=shape,
        rows=rows,
        device=device,
        method=getattr(config, "finetuning_type", "lora"),
        bits=int(bits),
        double=bool(getattr(config, "double_quantization", True)),
        rank=config.lora_rank,
        target=tuple(config.lora_target),
        freeze_layers=abs(getattr(config, "freeze_trainable_layers", 2)),
        batch=config.per_device_train_batch_size,
        accumulation=config.gradient_accumulation_steps,
        cutoff_len=config.cutoff_len,
        epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        pure=bool(getattr(config, "pure_bf16", False)),
        packed=any(getattr(config, key, False) for key in ("packing", "neat_packing")),
        replies=config.proof_replies,
        recompute=float(again is True),
        recompute_auto=again is None and device == "cuda",
    )
