"""Published memory figures of QLoRA and LoRA trainings, with the trainer's way of working.

Each point: source, model, rank, tokens of a micro-batch, GiB that were published, and the `Way` its
documentation describes. Where a page says "context length that fits", the GiB are the card's.
Units: these pages write GB and mean GiB (a "24 GB" card has 24 GiB).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ft2ollama.estimate.memory import Way
from ft2ollama.estimate.shape import Shape

LLAMA3_8B = Shape("Llama-3.1-8B", 4096, 14336, 32, 32, 8, 128, 128256)
LLAMA3_70B = Shape("Llama-3.3-70B", 8192, 28672, 80, 64, 8, 128, 128256)
LLAMA2_7B = Shape("Llama-2-7B", 4096, 11008, 32, 32, 32, 128, 32000)
LLAMA32_3B = Shape("Llama-3.2-3B", 3072, 8192, 28, 24, 8, 128, 128256, tied=True)
MISTRAL_7B = Shape("Mistral-7B", 4096, 14336, 32, 32, 8, 128, 32768)
QWEN_14B = Shape("Qwen2.5-14B", 5120, 13824, 48, 40, 8, 128, 152064)
QWEN_32B = Shape("Qwen2.5-32B", 5120, 27648, 64, 40, 8, 128, 152064)

# transformers + PEFT + FlashAttention-2: prepare_model_for_kbit_training casts the embeddings to
# float32 and turns checkpointing on; every token is scored.
HF = Way(bits=4, other_bytes=4, saves="autocast", recompute=1.0, logits="full")
# unsloth: checkpoints offloaded to the CPU, its own kernels, cut cross entropy.
UNSLOTH = Way(bits=4, saves="fused", recompute=1.0, kept=0.0, logits="chunked")
# unsloth of early 2024: the same without the lean MLP saves.
UNSLOTH_2024 = replace(UNSLOTH, saves="autocast")
# torchtune: activation checkpointing with offloading, compiled layers, logits in 8 chunks, a 16-bit
# adapter; its "peak memory" is torch's own count, without the CUDA context.
TORCHTUNE = Way(
    bits=4, state_bytes=12, saves="fused", recompute=1.0, kept=0.0, logits="chunked", chunk=1 / 8,
    context=0,
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """gib: published.  tokens: of a micro-batch."""

    group: str
    shape: Shape
    way: Way
    rank: int
    tokens: int
    gib: float


def _row(
    group: str, shape: Shape, way: Way, rank: int, pairs: dict[int, float]
) -> tuple[Point, ...]:
    return tuple(Point(group, shape, way, rank, tokens, gib) for tokens, gib in pairs.items())


_1K = 1024
_MINIMUM = ((LLAMA32_3B, 3.5), (MISTRAL_7B, 5.0), (LLAMA3_8B, 6.0), (QWEN_14B, 8.5),
            (QWEN_32B, 26.0), (LLAMA3_70B, 41.0))  # fmt: skip

POINTS: tuple[Point, ...] = (
    # unsloth.ai/docs/basics/unsloth-benchmarks, "Llama 3.1 (8B) max. context length", batch 1
    *_row("HF + FA2, 8B, longest context", LLAMA3_8B, HF, 32,
          {932: 12, 2551: 16, 5789: 24, 12264: 40, 15502: 48, 28454: 80}),
    *_row("unsloth, 8B, longest context", LLAMA3_8B, UNSLOTH, 32,
          {21848: 12, 40724: 16, 78475: 24, 153977: 40, 191728: 48, 342733: 80}),
    # the same page, "Llama 3.3 (70B) max. context length"
    *_row("70B, longest context", LLAMA3_70B, UNSLOTH, 32, {12106: 48, 89389: 80}),
    *_row("70B, longest context", LLAMA3_70B, HF, 32, {6916: 80}),
    # LLaMA-Factory wiki, "Performance comparison": Llama-2-7B, 4 bit, A100 40 GB, batch 1, rank 8
    *_row("LLaMA-Factory + FA2, 7B", LLAMA2_7B, HF, 8,
          {1 * _1K: 6, 2 * _1K: 7, 4 * _1K: 9, 8 * _1K: 12, 16 * _1K: 19, 32 * _1K: 32}),
    *_row("LLaMA-Factory + unsloth, 7B", LLAMA2_7B, UNSLOTH_2024, 8,
          {1 * _1K: 5, 2 * _1K: 6, 4 * _1K: 7, 8 * _1K: 8, 16 * _1K: 10, 32 * _1K: 16,
           65000: 25, 100_000: 37}),
    # torchtune README: 8B on an RTX 4090 at 2 x 2048, 3B on an A100 at 2 x 4096
    Point("torchtune", LLAMA3_8B, TORCHTUNE, 8, 2 * 2048, 7.4),
    Point("torchtune", LLAMA3_8B, replace(TORCHTUNE, bits=16), 8, 2 * 2048, 16.2),
    Point("torchtune", LLAMA32_3B, TORCHTUNE, 8, 2 * 4096, 4.6),
    Point("torchtune", LLAMA32_3B, replace(TORCHTUNE, bits=16), 8, 2 * 4096, 8.5),
    # unsloth.ai/docs, "Unsloth requirements": "absolute minimum"; no length is given, so 1,024
    *(Point("unsloth, minimum table", shape, UNSLOTH, 16, _1K, gib) for shape, gib in _MINIMUM),
)  # fmt: skip
