"""GPU memory of a training, as terms that can be added up by hand (docs/estimate.md).

In: a `Shape` and how it is trained (`Way`). Out: bytes, per term. Every function is one line of the
formula; tests/test_estimate_published.py holds their sum against published measurements.

h: hidden size, f: feed-forward width, q and kv: widths of queries and keys, L: layers, V:
vocabulary, r: LoRA rank, T: tokens of a micro-batch, padding included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ft2ollama.estimate.shape import Shape

CONTEXT = 450_000_000  # bytes: the CUDA context and cuBLAS's workspace
FRAGMENTS = 1.05  # what the allocator cannot use between tensors

Saves = Literal["plain", "autocast", "fused"]
Logits = Literal["full", "learned", "chunked"]


@dataclass(frozen=True)
class Way:
    """How a trainer works, as far as memory depends on it. The defaults are ours.

    bits: of the linear weights: 4, 8, 16 or 32.  double: 4-bit with quantized scales.
    other_bytes: per embedding, head and norm weight (4 after PEFT's prepare_model_for_kbit).
    frozen: share of the base's weights that learn nothing; 0 in full fine-tuning.
    state_bytes: per trained weight: itself, its gradient and Adam's two moments.
    saves: what a layer keeps for the backward pass: "plain" is PEFT with a float32 adapter on a
    16-bit base, "autocast" the same under autocast, "fused" only what is mathematically needed.
    recompute: share of the layers computed again in the backward pass (gradient checkpointing).
    kept: share of their inputs that stays on the GPU (0: offloaded).
    reached: share of the layers that gradients pass; below 1 when only the last layers learn.
    logits: "full" scores every token in float32, "learned" only those with a label (`learned`, a
    share), "chunked" holds the share `chunk` of them at once.
    """

    bits: int = 16
    double: bool = True
    other_bytes: int = 2
    frozen: float = 1.0
    state_bytes: int = 16
    saves: Saves = "plain"
    recompute: float = 0.0
    kept: float = 1.0
    logits: Logits = "learned"
    learned: float = 1.0
    chunk: float = 0.0
    reached: float = 1.0
    context: int = CONTEXT


def linear_bytes(weights: float, bits: int, *, double: bool = True) -> float:
    """Bytes of the linear layers.

    4 bits: NF4 in blocks of 64 with a float32 scale each; with double quantization the scales are
    8-bit in blocks of 256 (QLoRA, arXiv 2305.14314, section 3: 4.127 bits per weight). 8 bits:
    LLM.int8() keeps a float32 scale per row, which is too little to count.
    """
    if bits == 4:
        return weights * (0.5 + (1 / 64 + 4 / 16384 if double else 4 / 64))
    return weights * bits / 8


def adapter_weights(shape: Shape, rank: int, target: Sequence[str] = ("all",)) -> int:
    """Weights of the LoRA matrices: r (inputs + outputs) for each linear layer that has one."""
    every = "all" in target
    return (
        rank
        * shape.layers
        * sum((i + o) * n for name, i, o, n in shape.linears if every or name in target)
    )


def layer_saves(shape: Shape, saves: Saves, width: int = 2, rank: int = 0) -> float:
    """Bytes per token that one layer keeps for the backward pass; width: bytes of the base's type.

    A token meets `active` experts. "plain" counts PEFT's float32 copy of every linear layer's
    input (with a float32 base there is no copy, and layers share their inputs) and the float32
    results of the A matrices; counted with torch's saved_tensors_hooks in the tests.
    """
    h, q, kv, f = shape.hidden, shape.q, shape.kv, shape.ffn * shape.active
    if saves == "fused":
        return 2 * (4 * h + 2 * (q + 2 * kv) + 2 * f) + 4 * shape.heads
    if saves == "autocast":
        return 2 * (6 * h + 2 * (q + 2 * kv) + 4 * f) + 8 * h + 4 * shape.heads
    small = 4 * shape.heads + 4 * rank * len(shape.linears) + 8
    if width == 4:
        return 16 * h + 8 * q + 8 * kv + 16 * f + small
    return 28 * h + 8 * q + 4 * kv + 10 * f + small


def layer_gradients(shape: Shape, saves: Saves) -> float:
    """Bytes per token of the gradients in flight while one layer is passed backwards."""
    f = shape.ffn * shape.active
    return 2 * ((3 if saves == "fused" else 4) * f + 4 * shape.hidden)


def logit_bytes(shape: Shape, way: Way) -> float:
    """Bytes per token of the output layer's results.

    "full": 18 V: 16-bit logits, a float32 copy, the shifted copy, the softmax and its gradient.
    "learned": 14 V of the tokens with a label: 16-bit, float32, softmax and gradient.
    "chunked": the gradient of the hidden state, and "full" for the share in one chunk.
    """
    if way.logits == "full":
        return 18 * shape.vocab
    if way.logits == "learned":
        return 14 * shape.vocab * way.learned
    return 4 * shape.hidden + 18 * shape.vocab * way.chunk


def token_bytes(shape: Shape, way: Way, rank: int = 0) -> tuple[float, float]:
    """(saved for the backward pass, working set) per token of a micro-batch.

    Layers that are computed again keep 2 h, their input; the largest of one layer's work and the
    logits comes on top, because they are never needed at once.
    """
    saved = layer_saves(shape, way.saves, 4 if way.bits == 32 else 2, rank)
    again = way.recompute
    kept = (1 - again) * saved + again * 2 * shape.hidden * way.kept
    work = layer_gradients(shape, way.saves) + (saved if again else 0)
    return shape.layers * way.reached * kept, max(work, logit_bytes(shape, way))


def dequantized(shape: Shape, bits: int) -> float:
    """Bytes of the one or two weight matrices that are 16-bit while they are multiplied."""
    return 2.0 * max(i * o for _, i, o, _ in shape.linears) if bits < 16 else 0.0


def fixed_bytes(shape: Shape, way: Way, trained: float) -> float:
    """Bytes that do not depend on the batch. trained: weights that get a gradient (LoRA's, or the
    base's own, which then count in `state_bytes` only)."""
    base = linear_bytes(shape.linear_weights, way.bits, double=way.double)
    return (
        way.frozen * (base + shape.other_weights * way.other_bytes)
        + trained * way.state_bytes
        + dequantized(shape, way.bits)
        + way.context
    )


def total_bytes(shape: Shape, way: Way, trained: float, tokens: float) -> float:
    """Peak GPU bytes with `tokens` in a micro-batch."""
    held, work = token_bytes(shape, way)
    return fixed_bytes(shape, way, trained) + FRAGMENTS * tokens * (held + work)


# A CPU process, measured (docs/estimate.md): torch, transformers, peft and the trainer; how much
# more than the saved tensors glibc's malloc takes after some steps, by bytes of the base's type;
# the logits of a learned token (large blocks, which malloc gives back).
CPU_LIBRARIES = 610_000_000
CPU_FRAGMENTS = {2: 0.91, 4: 1.82}
CPU_LOGITS = 12  # bytes per word of the vocabulary
_REPLYING = 100_000_000  # the cache and the logits of a reply


def cpu_token_bytes(shape: Shape, way: Way, rank: int = 0) -> tuple[float, float]:
    """(saved, logits) per token of a micro-batch, before malloc's share."""
    held, _ = token_bytes(shape, way, rank)
    if way.logits == "learned":
        return held, CPU_LOGITS * shape.vocab * way.learned
    return held, 4 * shape.hidden + CPU_LOGITS * shape.vocab * way.chunk


def cpu_loading(shape: Shape, way: Way, stored: float) -> float:
    """Peak bytes while the base is read: the mapped file beside the converted weights."""
    same = way.bits == 32 and stored >= 4 * shape.weights
    return CPU_LIBRARIES + stored + (0 if same else shape.weights * 2)


def cpu_replies(shape: Shape, stored: float, left: float) -> float:
    """Peak bytes while the reference replies are written. left: what malloc kept of the training.

    The base is read once more, in float32; a 16-bit file is converted and mapped meanwhile.
    """
    mapped = stored if stored < 3.9 * shape.weights else 0.0
    return CPU_LIBRARIES + left + 4.0 * shape.weights + mapped + _REPLYING
