"""How long a training takes: arithmetic, and the passes over memory around it.

In: a `Shape` and how it is trained. Out: FLOP and seconds per token. A GPU's figures come from its
data sheet, a CPU's from a short timing (ft2ollama/machine.py); docs/estimate.md holds both against
measurements.
"""

from __future__ import annotations

from ft2ollama.estimate.cards import Card
from ft2ollama.estimate.memory import Way, layer_saves, linear_bytes
from ft2ollama.estimate.shape import Shape
from ft2ollama.machine import Speed

GPU_SHARE = 0.6  # of the data sheet's rate that large matrix products reach
_FLOAT32_SHARE = 1 / 8  # of the bfloat16 rate that float32 products reach, without TF32
_PASSES = 10  # reads and writes of every linear's result by PEFT's separate steps, per direction
# The machine the CPU figures were taken on: one core of an EPYC with avx512_bf16.
REFERENCE = Speed(gemm=95e9, stream=10.8e9)
_BF16_GAIN = 2.0  # bfloat16 products over float32 ones, where the processor has them
_SECONDS_PER_SAVED_BYTE = {2: 3.5e-9, 4: 2.4e-9}  # element-wise work, on the reference machine
_SECONDS_PER_LOGIT = 20e-9  # softmax and loss, forward and backward, there


def token_flops(
    shape: Shape, way: Way, mean: float, trained: float, *, frozen: bool = True
) -> float:
    """FLOP per token of a forward and a backward pass. mean: tokens of a conversation.

    A frozen weight costs 2 forward and 2 for the gradient of its input; one that learns 2 more;
    a layer computed again 2 more. Attention is causal: half of 4 q per token pair, 2.5 times that
    backward. The output layer is computed for learned tokens only, unless `logits` is "full".
    """
    again, reached = way.recompute, way.reached
    passes = 2 + 2 * reached * (1 if frozen else 2) + 2 * again
    body = passes * shape.active_weights
    attention = 2 * mean * shape.q * shape.layers * (1 + 2.5 * reached + again)
    scored = 1.0 if way.logits == "full" else way.learned
    head = 4 * shape.head_weights * scored
    adapter = 2 * trained * (3 + again) if frozen else 0.0
    return body + attention + head + adapter


def gpu_seconds(shape: Shape, way: Way, card: Card, flops: float, tokens: float) -> float:
    """Seconds per token on a card; tokens: of a micro-batch, which shares one dequantization."""
    directions = 2 + way.recompute
    results = shape.layers * sum(o * min(n, shape.active) for _, _, o, n in shape.linears)
    eager = 2 * _PASSES * results * directions / card.bandwidth
    unpack = 0.0
    if way.bits < 16:
        packed = linear_bytes(shape.linear_weights, way.bits, double=way.double)
        unpack = (packed + 2 * shape.linear_weights) * directions / card.bandwidth / tokens
    rate = GPU_SHARE * card.flops * (_FLOAT32_SHARE if way.bits == 32 else 1)
    return flops / rate + eager + unpack


def cpu_seconds(
    shape: Shape, way: Way, speed: Speed, flops: float, *, native: bool, rank: int = 0
) -> float:
    """Seconds per token on a CPU."""
    width = 4 if way.bits == 32 else 2
    rate = speed.gemm * (_BF16_GAIN if width == 2 and native else 1.0)
    saved = shape.layers * layer_saves(shape, "plain", width, rank)
    elements = saved * _SECONDS_PER_SAVED_BYTE[width]
    elements += shape.vocab * way.learned * _SECONDS_PER_LOGIT
    return flops / rate + elements * REFERENCE.stream / speed.stream
