"""Which inputs the linear layers meet on the user's own conversations: for the quantizer.

In: the trained model and rendered conversations. Out: one statistics file (converters/importance):
per input the sums of x x^T within blocks of columns, from two disjoint sets of conversations.
A quarter of the tokens is a general text of our own (general.txt: prose, code, dialogue, several
languages): what is rounded by the user's conversations alone is rounded less well for all else.
One forward pass without gradients and without the head, and a product of [width, tokens] by
[tokens, width] per block, both over at most MAX_TOKENS tokens: a few steps' worth of training.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.importance import packed, write_statistics
from converters.quants.feedback import column_blocks
from ft2ollama.quant_choice import UNCALIBRATED
from ft2ollama.train.calibrate_experts import ExpertSums

if TYPE_CHECKING:
    import torch

    from ft2ollama.config import Config
    from ft2ollama.data.tokenizer import Tokenizer
    from ft2ollama.runs import Run
    from ft2ollama.train.plan import Plan

MAX_SAMPLES = 128
MAX_TOKENS, MIN_TOKENS = 16_384, 2048
# of the trained tokens: a pass costs 0.4 of a trained token's time, so 5 % of the training; 0.6 of
# it in models of a few hundred million weights, whose whole rows are correlated: 8 %
SHARE = 8
GENERAL = 4  # one token in so many is of the general text
HELD_OUT = 4  # one conversation in so many judges instead of calibrating
BATCH_TOKENS = 2048  # padded; more would not be faster and needs memory


@dataclass(frozen=True)
class Collected:
    """What was looked at, and what it cost."""

    conversations: int
    tokens: int
    seconds: float
    inputs: int


def collect(
    model: Any,
    samples: Sequence[Sequence[int]],
    out: Path,
    *,
    max_samples: int = MAX_SAMPLES,
    max_tokens: int = MAX_TOKENS,
    general: Sequence[Sequence[int]] = (),
) -> Collected:
    """Run the conversations through the model and write their statistics to `out`.

    model: a causal LM or a PEFT model, as it was trained. samples: token ids of each conversation;
    every fourth of those that are looked at is held out. general: token ids of other texts; a
    quarter of the tokens is theirs, and they judge nothing.
    """
    import torch

    began = time.monotonic()
    taken = within(samples, max_samples, max_tokens - (max_tokens // GENERAL if general else 0))
    others = beside(taken, general)
    conversations, held_out = parted(taken)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    was_training = model.training
    model.eval()
    sums, experts = _Sums(linears(causal)), ExpertSums(causal)
    try:
        with torch.inference_mode(), sums.watching(), experts.watching():
            for part, rows in enumerate(([*conversations, *others], held_out)):
                for batch in batches(rows):
                    experts.start(_mask(batch), part)
                    _forward(causal, batch, sums, part)
    finally:
        model.train(was_training)
    sums.write(out, experts)
    tokens = sum(map(len, [*taken, *others]))
    inputs = len(sums.n_cols) + len(experts.n_cols)
    return Collected(len(taken), tokens, time.monotonic() - began, inputs)


def wants_statistics(config: Config, quant: str) -> bool:
    """Whether the export of this config as `quant` will use them."""
    if config.export_mode == "exact" or config.export_as != "model":
        return False
    return config.export_mode != "auto" or quant not in UNCALIBRATED


def affordable_tokens(trained: int) -> int:
    """How many tokens to look at after a training on so many."""
    return min(MAX_TOKENS, max(MIN_TOKENS, trained // SHARE))


def calibrate_run(run: Run, plan: Plan, *, dtype: str, device: str) -> Collected:
    """Collect on the conversations of `plan` for a run that was trained before."""
    import torch

    from ft2ollama.train.model import load_run, quiet_libraries

    quiet_libraries()
    model = load_run(run, plan.base.folder, getattr(torch, dtype)).to(device)
    samples = [sample.ids for sample in plan.train]
    return collect(model, samples, run.calibration, general=general_text(plan.tokenizer))


def general_text(tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of each passage of general.txt."""
    text = Path(__file__).with_name("general.txt").read_text("utf-8")
    return [tokenizer.encode(passage)[0] for passage in text.split("\n=====\n")]


def beside(
    samples: Sequence[Sequence[int]], general: Sequence[Sequence[int]]
) -> list[Sequence[int]]:
    """So many general texts, the last one cut, that every fourth of all tokens is theirs.

    A random choice, the same every time. Each begins with the token that all samples begin with,
    if there is one (BOS): models attend to it, and without it their states are others.
    """
    starts = {tuple(sample[:1]) for sample in samples}
    start = starts.pop() if len(starts) == 1 else ()
    left = sum(map(len, samples)) // (GENERAL - 1)
    taken: list[Sequence[int]] = []
    for text in random.Random(0).sample(general, len(general)):
        taken.append([*start, *text][:left])
        left -= len(taken[-1])
    return [text for text in taken if text]


def within(samples: Sequence[Sequence[int]], most: int, tokens: int) -> list[Sequence[int]]:
    """A random choice within both limits, but two at least: one to calibrate, one to judge."""
    taken: list[Sequence[int]] = []
    total = 0
    for sample in random.Random(0).sample(samples, min(most, len(samples))):
        cut = sample[: max(1, tokens // 2)]
        total += len(cut)
        if total > tokens and len(taken) >= 2:
            break
        taken.append(cut)
    return taken


def parted(samples: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """Calibration and held out: every fourth, or the second of fewer than four."""
    step = min(HELD_OUT, max(2, len(samples)))
    held = [sample for i, sample in enumerate(samples) if i % step == step - 1]
    return [sample for i, sample in enumerate(samples) if i % step != step - 1], held


def batches(samples: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Samples of similar length together, at most BATCH_TOKENS with their padding."""
    batch: list[Sequence[int]] = []
    for sample in sorted(samples, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def linears(causal: Any) -> dict[str, Any]:
    """Name -> module of every linear layer of the decoder, as the checkpoint names them.

    PEFT puts its own module in a linear's place and keeps the original inside as base_layer. The
    outer one is watched: fused LoRA layers never call the inner one. Adapter matrices are no
    layers.
    """
    import torch

    found = {}
    for name, module in causal.named_modules():
        if isinstance(module, torch.nn.Linear) and "lora_" not in name:
            outer = name.removesuffix(".base_layer")
            found[outer] = causal.get_submodule(outer)
    head = causal.get_output_embeddings()
    return {name: module for name, module in found.items() if module is not head}


def _mask(batch: Sequence[Sequence[int]]) -> torch.Tensor:
    """[batch, length], true where a token is. The first sample is the longest."""
    import torch

    lengths = torch.tensor([len(sample) for sample in batch])
    return torch.arange(len(batch[0])) < lengths[:, None]


def _forward(causal: Any, batch: list[Sequence[int]], sums: _Sums, part: int) -> None:
    import torch

    device = next(causal.parameters()).device
    mask = _mask(batch).to(device)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    for row, sample in enumerate(batch):
        ids[row, : len(sample)] = torch.tensor(sample)
    sums.start(mask, part)
    decoder = getattr(causal, causal.base_model_prefix)
    hidden = decoder(
        input_ids=ids.to(device), attention_mask=mask.long(), use_cache=False
    ).last_hidden_state
    sums.add_head(causal, hidden)


class _Sums:
    """Running sums of x x^T per input, found by forward pre-hooks."""

    def __init__(self, layers: dict[str, Any]) -> None:
        self._layers = layers
        self.linears: dict[str, str] = {}
        self.n_cols: dict[str, int] = {}
        self._blocks: dict[str, tuple[list[Any], list[Any]]] = {}
        self._counts: dict[str, list[float]] = {}
        self._mask: Any = None
        self._part = 0
        self._last: tuple[str, Any] = ("", None)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every layer."""
        handles = [
            module.register_forward_pre_hook(self._hook(name))
            for name, module in self._layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def start(self, mask: torch.Tensor, part: int) -> None:
        """A new batch. mask: [batch, length], true where a token is."""
        self._mask, self._part, self._last = mask, part, ("", None)

    def _hook(self, name: str) -> Callable[[Any, Any], None]:
        def hook(module: Any, arguments: Any) -> None:
            x = arguments[0]
            owner, seen = self._last
            if x is seen:  # q, k and v, or gate and up: one tensor, one sum
                self.linears[name] = owner
            else:
                self.linears[name] = name
                self._last = (name, x)
                self._add(name, x)

        return hook

    def add_head(self, causal: Any, hidden: torch.Tensor) -> None:
        """The output layer's input, where it has weights of its own; it need not be run."""
        head = causal.get_output_embeddings()
        embedding = causal.get_input_embeddings()
        if head is None or head.weight is embedding.weight:
            return
        name = next(name for name, module in causal.named_modules() if module is head)
        self.linears[name] = name
        self._add(name, hidden)

    def _add(self, name: str, x: torch.Tensor) -> None:
        """x: [batch, length, n_cols], in whatever shape; or other tokens than the batch's."""
        import torch

        flat = x.reshape(-1, x.shape[-1])
        if len(flat) == self._mask.numel():
            flat = flat[self._mask.reshape(-1)]
        n_cols = flat.shape[-1]
        if name not in self._blocks:
            self.n_cols[name] = n_cols
            self._counts[name] = [0.0, 0.0]
            self._blocks[name] = tuple(  # type: ignore[assignment]
                [torch.zeros((w, w), device=flat.device) for w in column_blocks(n_cols)]
                for _ in range(2)
            )
        self._counts[name][self._part] += len(flat)
        flat = flat.float()
        column = 0
        for block in self._blocks[name][self._part]:
            part = flat[:, column : column + len(block)]
            block.addmm_(part.T, part)
            column += len(block)

    def write(self, out: Path, experts: ExpertSums) -> None:
        """All sums into one file."""

        def arrays(name: str) -> Any:
            if name in experts.n_cols:
                return experts.arrays(name)
            first, second = (
                packed([block.cpu().numpy() for block in blocks]) for blocks in self._blocks[name]
            )
            return first, second, tuple(self._counts[name])

        write_statistics(
            out,
            self.linears | experts.linears,
            self.n_cols | experts.n_cols,
            arrays,
            experts.n_experts,
        )
