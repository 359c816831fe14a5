"""What benchmarks/train_gpu.py measures with: shapes, synthetic data, floors, and the trainers.

Every function named in STAGES runs in a process of its own and prints JSON lines. Weights are
random and data is made here: neither a hub nor a network is needed.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED, RANK, ALPHA, RATE = 0, 16, 32, 2e-4
IGNORED = -100


@dataclass(frozen=True)
class Shape:
    """A Qwen2-shaped model and the work it is measured on.  row: tokens; rows: per micro-batch."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocab: int
    row: int = 2048
    rows: int = 8
    tied: bool = False

    @property
    def body(self) -> int:
        """Parameters of the linear layers."""
        h, kv = self.hidden, self.hidden // self.heads * self.kv_heads
        return self.layers * (2 * h * h + 2 * h * kv + 3 * h * self.inner)

    def flop_per_token(self, document: float, learned: float, again: float) -> float:
        """FLOP of a step.  document: mean length.  learned, again: shares learned, recomputed."""
        h, kv = self.hidden, self.hidden // self.heads * self.kv_heads
        adapter = RANK * self.layers * (2 * 2 * h + 2 * (h + kv) + 3 * (h + self.inner))
        return (
            (4 + 2 * again) * self.body
            + 2 * self.vocab * h * 2 * learned
            + 2 * document * h * self.layers * (1 + 2.5 + again)
            + 2 * adapter * (3 + again)
        )


SHAPES = {
    "7b": Shape(3584, 28, 28, 4, 18944, 152064),
    "1.5b": Shape(1536, 28, 12, 2, 8960, 151936, tied=True),
    "0.5b": Shape(896, 24, 14, 2, 4864, 151936, tied=True),
    "tiny": Shape(64, 2, 2, 1, 128, 512, row=64, rows=4),
}


def device() -> str:
    """cuda if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def tell(**found: Any) -> None:
    """A result, as a line of JSON."""
    print("RESULT " + json.dumps(found), flush=True)


# --- data
def rows(shape: Shape, work: str, steps: int) -> list[dict[str, list[int]]]:
    """W1: full rows.  W2: lognormal lengths, as many as fill the same tokens.  60 % is learned.

    A token is followed by the next one of a fixed permutation, but for one in ten: learnable, and
    never to zero.
    """
    rng = random.Random(SEED)
    used = min(shape.vocab, 4096)
    after = rng.sample(range(used), used)
    made, tokens, wanted = [], 0, shape.row * shape.rows * steps
    while tokens < wanted:
        length = shape.row
        if work == "W2":
            length = min(
                shape.row, max(8, round(rng.lognormvariate(math.log(shape.row / 14), 0.8)))
            )
        ids = [rng.randrange(used)]
        while len(ids) < length:
            ids.append(rng.randrange(used) if rng.random() < 0.1 else after[ids[-1]])
        first = round(0.4 * length)
        made.append({"input_ids": ids, "labels": [IGNORED] * first + ids[first:]})
        tokens += length
    return made


# --- stages
def ceilings(shape: Shape, folder: Path, steps: int) -> None:
    """What the machine can do: matrix products of these shapes, dequantizing, attention, copies."""
    import torch

    where, tokens = device(), shape.row * shape.rows
    kind = torch.bfloat16

    def rate(work: Any, amount: float) -> float:
        for _ in range(2):
            work()
        times = []
        for _ in range(5):
            synchronize()
            began = time.perf_counter()
            work()
            synchronize()
            times.append(time.perf_counter() - began)
        return amount / statistics.median(times)

    x = torch.randn(tokens, shape.hidden, device=where, dtype=kind)
    w = torch.randn(shape.inner, shape.hidden, device=where, dtype=kind)
    flop = 2.0 * tokens * shape.hidden * shape.inner
    tell(what="bf16 product, TFLOP/s", value=rate(lambda: x @ w.t(), flop) / 1e12)
    small = torch.randn(RANK, shape.hidden, device=where, dtype=kind)
    flop = 2.0 * tokens * shape.hidden * RANK
    tell(what="rank-16 product, TFLOP/s", value=rate(lambda: x @ small.t(), flop) / 1e12)
    tell(what="copy, GB/s", value=rate(lambda: x.clone(), 2.0 * x.nbytes) / 1e9)
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(w, quant_type="nf4", compress_statistics=True)
    moved = w.numel() * 2.5
    tell(what="nf4 -> bf16, GB/s", value=rate(lambda: dequantize_4bit(packed, state), moved) / 1e9)
    from ft2ollama.train.attention import attend

    size = shape.hidden // shape.heads
    q, k, v = (
        torch.randn(1, heads, tokens, size, device=where, dtype=kind, requires_grad=True)
        for heads in (shape.heads, shape.kv_heads, shape.kv_heads)
    )
    borders = torch.arange(0, tokens + 1, shape.row, dtype=torch.int32, device=where)

    def both() -> None:
        out, _ = attend(None, q, k, v, None, cu_seq_lens_q=borders, max_length_q=shape.row)
        out.backward(out)

    flop = 2.0 * tokens * shape.row * shape.hidden * 3.5
    tell(what="attention by document, both ways, TFLOP/s", value=rate(both, flop) / 1e12)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def make_model(shape: Shape, folder: Path, steps: int) -> None:
    """Random bf16 weights, their nf4 form, and one adapter that every trainer starts from."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocab, tie_word_embeddings=shape.tied, max_position_embeddings=32768,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device()):
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder / "bf16")
    del model
    model = AutoModelForCausalLM.from_pretrained(
        folder / "bf16", quantization_config=nf4(), dtype=torch.bfloat16, device_map=device()
    )
    model.save_pretrained(folder / "nf4")
    torch.manual_seed(SEED)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, lora).save_pretrained(folder / "adapter")
    tell(what="linear parameters", value=shape.body)


def nf4() -> Any:
    """4 bits with double quantization, bf16 products."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip


def correctness(shape: Shape, folder: Path, steps: int) -> None:
    """The fast paths against the plain ones on this device, with freed memory full of NaN."""
    import torch

    from ft2ollama.train import attention
    from ft2ollama.train.lora_linear import LoraLinear
    from ft2ollama.train.loss import head_loss

    where = device()
    poison = [torch.full((1 << 20,), math.nan, device=where) for _ in range(8)]
    del poison
    torch.manual_seed(SEED)
    for kind, limit in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        x, w, a, b, g = (
            torch.randn(*size, device=where).to(kind)
            for size in (
                (256, shape.hidden), (shape.inner, shape.hidden), (RANK, shape.hidden),
                (shape.inner, RANK), (256, shape.inner),
            )
        )  # fmt: skip
        results = []
        for fused in (True, False):
            leaves = [one.clone().requires_grad_() for one in (x, a, b)]
            if fused:
                y = LoraLinear.apply(leaves[0], [w], [None], [2.0], leaves[1], leaves[2])[0]
            else:
                y = leaves[0] @ w.t() + 2.0 * (leaves[0] @ leaves[1].t()) @ leaves[2].t()
            y.backward(g)
            results.append([y, *(leaf.grad for leaf in leaves)])
        tell(what=f"LoRA linear, {kind}", value=apart(*results), limit=limit)
    hidden = torch.randn(300, shape.hidden, device=where)
    weight = torch.randn(shape.vocab, shape.hidden, device=where) / math.sqrt(shape.hidden)
    targets = torch.randint(0, shape.vocab, (300,), device=where)
    results = []
    for fused in (True, False):
        h = hidden.clone().requires_grad_()
        plain = torch.nn.functional.cross_entropy
        loss = (
            head_loss(h, weight, targets)
            if fused
            else plain(h @ weight.t(), targets, reduction="sum")
        )
        loss.backward()
        results.append([loss, h.grad])
    tell(what="head loss, float32", value=apart(*results), limit=1e-5)
    lengths = [5, 300, 17, 64, 1]
    borders = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=where)
    size = shape.hidden // shape.heads
    formula = attention.Formula(size**-0.5)
    made = [
        torch.randn(1, heads, sum(lengths), size, device=where).bfloat16()
        for heads in (shape.heads, shape.kv_heads, shape.kv_heads)
    ]
    results = []
    for fast in (True, False):
        q, k, v = (one.clone().requires_grad_() for one in made)
        if fast:
            out, _ = attention.attend(
                None, q, k, v, None, cu_seq_lens_q=borders, max_length_q=max(lengths)
            )
        else:
            parts = [
                attention._long(*(t[:, :, low:high] for t in (q, k, v)), formula)
                for low, high in zip(borders.tolist(), borders.tolist()[1:], strict=False)
            ]
            out = torch.cat(parts, dim=2).transpose(1, 2)
        out.backward(torch.ones_like(out))
        results.append([out, q.grad, k.grad, v.grad])
    tell(what="attention by document, bfloat16", value=apart(*results), limit=2e-2)


def apart(ours: list[Any], theirs: list[Any]) -> float:
    """The largest relative difference, by norm; infinite if a value is none."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        difference = float((a.float() - b.float()).norm() / b.float().norm())
        worst = max(worst, difference if math.isfinite(difference) else math.inf)
    return worst


STAGES = {"ceilings": ceilings, "model": make_model, "correctness": correctness}
