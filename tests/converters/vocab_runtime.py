"""llama.cpp on a vocabulary alone: a one-layer model of zeros around it, for its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType
from llama_cpp import LlamaCpp

from converters import metadata
from converters.vocab import Vocabulary
from converters.writer import Bytes, Tensor, write

_WIDTH = 8
_SQUARE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def runtime(vocabulary: Vocabulary, path: Path) -> LlamaCpp:
    """Write the vocabulary to `path` as a model of the smallest size and load it."""
    rows = len(vocabulary.tokens.texts)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (rows, _WIDTH), "output_norm": (_WIDTH,)}
    shapes |= {f"blk.0.{name}": (_WIDTH,) for name in ("attn_norm", "ffn_norm")}
    shapes |= {f"blk.0.{name}": (_WIDTH, _WIDTH) for name in _SQUARE}
    counts = {"block_count": 1, "context_length": 64, "vocab_size": rows}
    counts |= {"embedding_length": _WIDTH, "feed_forward_length": _WIDTH, "attention.head_count": 1}
    keys = [
        *metadata.general("llama", "model", ""),
        *[metadata.u32(f"llama.{key}", value) for key, value in counts.items()],
        metadata.f32("llama.attention.layer_norm_rms_epsilon", 1e-5),
        *vocabulary.pairs(),
        *metadata.closing(0),
    ]
    f32 = GGMLQuantizationType.F32
    tensors = [
        Tensor(f"{name}.weight", shape, f32, partial(_zeros, shape))
        for name, shape in shapes.items()
    ]
    write(path, keys, tensors, None)
    return LlamaCpp(path, n_ctx=64)


def _zeros(shape: tuple[int, ...]) -> Iterator[Bytes]:
    yield np.zeros(int(np.prod(shape)) * 4, np.uint8)
