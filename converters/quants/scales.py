"""The scales inside a block, as the runtime reads them.

In: blocks [n, bytes of a block]. Out: what a level means in each sub-block. Structures:
ggml/src/ggml-common.h (block_q4_0 ... block_iq4_xs); the inverse of `layout`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind

from converters.quants import layout
from converters.quants.layout import Bytes
from converters.transforms import F32


@dataclass(frozen=True)
class Scales:
    """What a level means: value = step * level + offset, one of each per sub-block: [n, k]."""

    step: F32
    offset: F32


def scales_of(blocks: Bytes, kind: Kind) -> Scales:
    """The steps and offsets stored in blocks; for codebook types of the codebook's values."""
    return _READERS[kind](blocks)


def _half(data: Bytes, start: int) -> F32:
    """A float16 field as [n, 1]."""
    return np.ascontiguousarray(data[:, start : start + 2]).view(np.float16).astype(np.float32)


def _symmetric(step: F32, middle: int) -> Scales:
    return Scales(step, np.float32(-middle) * step)


def _with_low(data: Bytes) -> Scales:
    return Scales(_half(data, 0), _half(data, 2))


def _affine_k(data: Bytes) -> Scales:
    scales, lows = layout.from_six_bits(data[:, 4:16])
    return _two_scales(data, 0, scales, lows)


def _q2_k(data: Bytes) -> Scales:
    return _two_scales(data, 80, data[:, :16] & np.uint8(15), data[:, :16] >> np.uint8(4))


def _two_scales(data: Bytes, start: int, scales: Bytes, lows: Bytes) -> Scales:
    """Of integers [n, k] and the two float16 fields from `start` on."""
    step = _half(data, start) * scales.astype(np.float32)
    return Scales(step, -(_half(data, start + 2) * lows.astype(np.float32)))


def _q3_k(data: Bytes) -> Scales:
    packed = data[:, 96:108]
    low = np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], axis=1)
    high = np.concatenate([packed[:, 8:] >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
    scales = (low | high << 4).astype(np.float32) - np.float32(32)
    return _symmetric(_half(data, 108) * scales, 4)


def _q6_k(data: Bytes) -> Scales:
    scales = np.ascontiguousarray(data[:, 192:208]).view(np.int8).astype(np.float32)
    return _symmetric(_half(data, 208) * scales, 32)


def _iq4_xs(data: Bytes) -> Scales:
    high = np.stack([data[:, 2:4] >> shift & 3 for shift in (0, 2, 4, 6)], axis=2).reshape(-1, 8)
    low = np.stack([data[:, 4:8] & 15, data[:, 4:8] >> 4], axis=2).reshape(-1, 8)
    scales = (low | high << 4).astype(np.float32) - np.float32(32)
    return _symmetric(_half(data, 0) * scales, 0)


_READERS: dict[Kind, Callable[[Bytes], Scales]] = {
    Kind.Q4_0: lambda data: _symmetric(_half(data, 0), 8),
    Kind.Q4_1: _with_low,
    Kind.Q5_0: lambda data: _symmetric(_half(data, 0), 16),
    Kind.Q5_1: _with_low,
    Kind.IQ4_NL: lambda data: _symmetric(_half(data, 0), 0),
    Kind.Q2_K: _q2_k,
    Kind.Q3_K: _q3_k,
    Kind.Q4_K: _affine_k,
    Kind.Q5_K: _affine_k,
    Kind.Q6_K: _q6_k,
    Kind.IQ4_XS: _iq4_xs,
}
