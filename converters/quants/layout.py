"""Where the bits go: integer levels and scales <-> the bytes of a block. No decision is taken here.

In: levels as uint8 (one per weight) and scales that will be stored as float16. Out: [n, bytes of a
block]. Structures: ggml/src/ggml-common.h (block_q4_0 ... block_iq4_xs); n counts blocks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize as gguf_dequantize

from converters.transforms import F32

Bytes = npt.NDArray[np.uint8]

_SIX, _FOUR, _TWO = np.uint8(63), np.uint8(15), np.uint8(3)  # masks of that many bits
_S2, _S4, _S6 = np.uint8(2), np.uint8(4), np.uint8(6)  # shifts; a plain 2 would widen the type

_LOW_FOUR, _FIFTH_SIXTH = np.uint32(0x0F0F0F0F), np.uint32(0x30303030)  # bits of each of 4 bytes
SUPER = 256  # elements of a super-block
AFFINE_BITS = {3: slice(16, 80), 15: slice(16, 144), 31: slice(16, 176)}
SYMMETRIC_BITS = {4: slice(0, 96), 32: slice(0, 192)}
"""Where a super-block keeps its levels: by the number of levels, as the searches count them."""
F16_LIMIT = 65520.0  # from here on rounding gives infinity


class ScaleOverflow(Exception):
    """A number that cannot be stored."""

    def __init__(self, value: float, limit: float) -> None:
        super().__init__(f"{value:g} would have to be stored, and the limit is {limit:g}")


def half(scales: F32) -> Bytes:
    """Float16, ties to even, subnormals kept: [n] -> [n, 2] bytes."""
    largest = float(np.abs(scales).max(initial=0))
    if not largest < F16_LIMIT:
        raise ScaleOverflow(largest, F16_LIMIT)
    return scales.astype(np.float16).view(np.uint8).reshape(-1, 2)


def q8_0_frame(d: F32) -> Bytes:
    """d, and room for 32 signed bytes."""
    blocks = np.empty((len(d), 34), np.uint8)
    blocks[:, :2] = half(d)
    return blocks


def plain_frame(n_max: int, *scales: F32) -> Bytes:
    """d, in Q4_1 and Q5_1 m, and room for the levels of Q4_0 to Q5_1 or IQ4_NL (n_max 15)."""
    head = 2 * len(scales)
    blocks = np.empty((len(scales[0]), head + (20 if n_max == 31 else 16)), np.uint8)
    for i, scale in enumerate(scales):
        blocks[:, 2 * i : 2 * i + 2] = half(scale)
    return blocks


def q2_k_frame(d: F32, d_low: F32, scales: Bytes) -> Bytes:
    """16 bytes scale | min << 4, room for the levels, d, dmin. scales: [n, 16], as packed."""
    blocks = np.empty((len(d), 84), np.uint8)
    blocks[:, :16], blocks[:, 80:82], blocks[:, 82:] = scales, half(d), half(d_low)
    return blocks


def q3_k_frame(d: F32, scales: Bytes) -> Bytes:
    """Room for the levels, 12 bytes of 6-bit scales, d. scales: [n, 16], 0..63."""
    low4 = (scales & _FOUR).reshape(-1, 2, 8)
    blocks = np.empty((len(d), 110), np.uint8)
    blocks[:, 96:104] = low4[:, 0] | low4[:, 1] << _S4
    blocks[:, 104:108] = _four_pairs((scales >> _S4).reshape(-1, 4, 4))
    blocks[:, 108:] = half(d)
    return blocks


def k_frame(d: F32, d_low: F32, scales: Bytes, n_max: int) -> Bytes:
    """d, dmin, 12 bytes of `six_bits`, and room for the levels of Q4_K or Q5_K."""
    blocks = np.empty((len(d), AFFINE_BITS[n_max].stop), np.uint8)
    blocks[:, :2], blocks[:, 2:4], blocks[:, 4:16] = half(d), half(d_low), scales
    return blocks


def q6_k_frame(d: F32, scales: npt.NDArray[np.int8]) -> Bytes:
    """Room for the levels, 16 signed scales, d. scales: [n, 16]."""
    blocks = np.empty((len(d), 210), np.uint8)
    blocks[:, 192:208], blocks[:, 208:] = scales.view(np.uint8), half(d)
    return blocks


def iq4_xs_frame(d: F32, scales: Bytes) -> Bytes:
    """d, the scales' high pairs, their low nibbles, room for the levels. scales: [n, 8], 0..63."""
    low = (scales & _FOUR).reshape(-1, 4, 2)
    blocks = np.empty((len(d), 136), np.uint8)
    blocks[:, :2] = half(d)
    blocks[:, 2:4] = _four_pairs((scales >> _S4).reshape(-1, 2, 4).swapaxes(1, 2))
    blocks[:, 4:8] = low[:, :, 0] | low[:, :, 1] << _S4
    return blocks


def with_plain(blocks: Bytes, levels: Bytes, n_max: int) -> Bytes:
    """Blocks of Q4_0 to Q5_1 or IQ4_NL with these levels [n, 32], written in place.

    The fifth bits (bit j of 32 = element j), then nibbles: elements 0-15 low, 16-31 high.
    """
    blocks[:, -16:] = _nibbles(levels)
    if n_max == 31:
        blocks[:, -20:-16] = _fifth_bits(levels)
    return blocks


def with_iq4_xs(blocks: Bytes, levels: Bytes) -> Bytes:
    """Blocks of IQ4_XS with these indices [n, 256], written in place: nibbles by sub-block."""
    blocks[:, 8:] = _nibbles(levels.reshape(-1, 32)).reshape(-1, 128)
    return blocks


def with_affine(blocks: Bytes, levels: Bytes, n_max: int) -> Bytes:
    """Blocks of Q2_K, Q4_K or Q5_K with these levels, written in place."""
    blocks[:, AFFINE_BITS[n_max]] = affine_bits(levels, n_max)
    return blocks


def with_symmetric(blocks: Bytes, levels: Bytes, n_max: int) -> Bytes:
    """Blocks of Q3_K or Q6_K with these levels, written in place."""
    blocks[:, SYMMETRIC_BITS[n_max]] = symmetric_bits(levels, n_max)
    return blocks


def affine_bits(levels: Bytes, n_max: int) -> Bytes:
    """Levels 0..n_max, [n, 256], as Q2_K, Q4_K or Q5_K keeps them: [n, AFFINE_BITS].

    Q4_K: nibbles of pairs of sub-blocks; Q5_K: before them the fifth bits (bit j of byte t =
    element t of sub-block j).
    """
    if n_max == 3:
        return _two_bits(levels)
    nibbles = _paired_nibbles(levels & _FOUR)
    return nibbles if n_max == 15 else np.concatenate([_high_bits(levels >> _S4), nibbles], axis=1)


def symmetric_bits(levels: Bytes, n_max: int) -> Bytes:
    """Levels 0..2 n_max - 1, [n, 256], as Q3_K or Q6_K: [n, SYMMETRIC_BITS].

    Q3_K: high bits, 64 bytes of 2-bit levels; Q6_K: 128 bytes of low nibbles, 64 of high pairs.
    """
    if n_max == 4:
        return np.concatenate([_high_bits(levels >> _S2), _two_bits(levels & _TWO)], axis=1)
    low = (levels & _FOUR).reshape(-1, 2, 2, 64)
    nibbles = (low[:, :, 0] | low[:, :, 1] << _S4).reshape(-1, 128)
    return np.concatenate([nibbles, _two_bits(levels >> _S4)], axis=1)


def six_bits(scales: Bytes, lows: Bytes) -> Bytes:
    """8 scales and 8 mins -> 12 bytes: the first four of each whole, the others split 4 + 2.

    Above 63 a number reaches into another's bits, as it does in ggml. Four bytes are moved at once.
    """
    scale, low = (np.ascontiguousarray(v).view(np.uint32) for v in (scales, lows))
    words = np.empty((len(scale), 3), np.uint32)
    words[:, 0] = scale[:, 0] | (scale[:, 1] & _FIFTH_SIXTH) << np.uint32(2)
    words[:, 1] = low[:, 0] | (low[:, 1] & _FIFTH_SIXTH) << np.uint32(2)
    words[:, 2] = (scale[:, 1] & _LOW_FOUR) | (low[:, 1] & _LOW_FOUR) << np.uint32(4)
    return words.view(np.uint8)


def from_six_bits(packed: Bytes) -> tuple[Bytes, Bytes]:
    """What the runtime reads out of `six_bits`: scales [n, 8], mins [n, 8]."""
    first, second, split = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & _SIX, (split & _FOUR) | first >> _S6 << _S4], axis=1)
    lows = np.concatenate([second & _SIX, split >> _S4 | second >> _S6 << _S4], axis=1)
    return scales, lows


def decode(data: Bytes, kind: GGMLQuantizationType) -> F32:
    """Bytes of whole blocks -> flat float32, as gguf-py reads them."""
    flat = data.reshape(-1)
    if kind == GGMLQuantizationType.F32:
        return flat.view(np.float32)
    if kind == GGMLQuantizationType.F16:
        return flat.view(np.float16).astype(np.float32)
    # one long row: gguf-py works in groups of rows, and a single group is one vector operation
    values: F32 = gguf_dequantize(flat.reshape(1, -1), kind).reshape(-1)
    return values


def _four_pairs(pairs: Bytes) -> Bytes:
    """[n, 4, k] pairs of bits -> [n, k] bytes."""
    packed: Bytes = pairs[:, 0] | pairs[:, 1] << _S2 | pairs[:, 2] << _S4 | pairs[:, 3] << _S6
    return packed


def _nibbles(levels: Bytes) -> Bytes:
    """[n, 32] -> [n, 16]."""
    return (levels[:, :16] & _FOUR) | levels[:, 16:] << _S4


def _fifth_bits(levels: Bytes) -> Bytes:
    """[n, 32] -> [n, 4]."""
    return np.packbits(levels >> _S4, axis=1, bitorder="little")


def _paired_nibbles(levels: Bytes) -> Bytes:
    """Sub-blocks 2j low, 2j + 1 high: 256 levels -> 128 bytes."""
    pairs = levels.reshape(-1, 4, 2, 32)
    return (pairs[:, :, 0] | pairs[:, :, 1] << _S4).reshape(-1, 128)


def _high_bits(bits: Bytes) -> Bytes:
    """Bit j of byte t = element t of the j-th group of 32: 256 bits -> 32 bytes."""
    groups = bits.reshape(-1, 8, 32)
    packed: Bytes = groups[:, 0].copy()
    for j in range(1, 8):
        packed |= groups[:, j] << np.uint8(j)
    return packed


def _two_bits(levels: Bytes) -> Bytes:
    """Of each 128, four groups of 32 at shifts 0, 2, 4, 6: 256 levels -> 64 bytes."""
    return _four_pairs(levels.reshape(-1, 4, 32)).reshape(-1, 64)
