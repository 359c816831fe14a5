"""Kernels that round a super-block for its scales as stored and write the bits; no lanes needed.

Rounded levels go through 256 bytes that stay in the first cache, and not through memory. Where the
bits go: `layout`, whose functions these repeat.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.fits import TINY
from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import ONE, ZERO, f32, nearest
from converters.quants.lanes_affine import kept_affine, stored_affine
from converters.quants.lanes_symmetric import kept_symmetric, stored_symmetric
from converters.quants.lanes_vector import address, offset

_SUPER = 256
_GROUP = 32
_SUBNORMAL = f32(2.0**-24)  # the smallest float16 above zero


@kernel
def by_largest(scales: Any, n_max: Any, d: Any, integers: Any) -> None:
    """See subscales.by_largest. scales, integers: [n, k]; d: [n]."""
    top = f32(n_max)
    for n in range(len(scales)):
        largest = ZERO
        for j in range(scales.shape[1]):
            largest = scales[n, j] if scales[n, j] > largest else largest
        inverse = top / largest if largest > ZERO else ZERO
        d[n] = largest / top
        for j in range(scales.shape[1]):
            integers[n, j] = np.uint8(nearest(inverse * scales[n, j]))


@kernel
def signed_scales(scales: Any, n_max: Any, d: Any, integers: Any) -> None:
    """See subscales.signed. scales, integers: [n, k]; d: [n]."""
    for n in range(len(scales)):
        largest = ZERO
        for j in range(scales.shape[1]):
            largest = scales[n, j] if abs(scales[n, j]) > abs(largest) else largest
        inverse = f32(-n_max) / largest if largest != ZERO else ZERO
        d[n] = ONE / inverse if abs(largest) >= TINY else ZERO
        for j in range(scales.shape[1]):
            found = nearest(inverse * scales[n, j])
            integers[n, j] = np.int8(found if found < n_max else n_max - 1)


@kernel
def _half(block: Any, at: Any) -> Any:
    """The float16 at byte `at` of a block."""
    bits = np.uint32(block[at]) | np.uint32(block[at + 1]) << np.uint32(8)
    sign = (bits & np.uint32(0x8000)) << np.uint32(16)
    exponent, mantissa = bits >> np.uint32(10) & np.uint32(31), bits & np.uint32(0x3FF)
    if exponent == np.uint32(0):
        value = f32(mantissa) * _SUBNORMAL
        return -value if sign else value
    rest = mantissa << np.uint32(13)
    return np.uint32(sign | (exponent + np.uint32(112)) << np.uint32(23) | rest).view(np.float32)


@kernel
def _pair(block: Any, j: Any, n_max: Any) -> Any:
    """Integers of scale and minimum j in a block of Q2_K, Q4_K or Q5_K; see layout.six_bits."""
    if n_max == 3:
        return int(block[j]) & 15, int(block[j]) >> 4
    if j < 4:
        return int(block[4 + j]) & 63, int(block[8 + j]) & 63
    split, high, low_high = int(block[8 + j]), int(block[j]) >> 6, int(block[4 + j]) >> 6
    return split & 15 | high << 4, split >> 4 | low_high << 4


@kernel
def _signed(block: Any, j: Any, n_max: Any) -> Any:
    """Integer of scale j in a block of Q3_K or Q6_K."""
    if n_max == 32:
        return int(np.int8(block[192 + j]))
    low = int(block[96 + j % 8]) >> 4 * (j // 8) & 15
    high = int(block[104 + j % 4]) >> 2 * (j // 4) & 3
    return (low | high << 4) - 32


@kernel
def pack_affine(x: Any, found: Any, fit: Any, blocks: Any, room: Any) -> None:
    """blocks: [n, bytes], see search_numpy; room: 256 bytes."""
    size, n_bytes = x.shape[1], blocks.shape[1]
    k, halves = _SUPER // size, 80 if fit.n_max == 3 else 0
    rows, levels, first = address(x), address(room), address(blocks)
    for n in range(len(blocks)):
        block = offset(first, n * n_bytes)
        d, d_low = _half(block, halves), _half(block, halves + 2)
        for j in range(k):
            scale, low = _pair(block, j, fit.n_max)
            step, at = d * f32(scale), n * k + j
            row, to = offset(rows, at * size), offset(levels, j * size)
            if step != ZERO:
                stored_affine(row, size, step, d_low * f32(low), fit.n_max, to)
            else:
                kept_affine(row, size, found[2, at], found[3, at], fit, to)
        if fit.n_max == 3:
            _two_bits(levels, 0, offset(block, 16))
        elif fit.n_max == 15:
            _nibbles(levels, _GROUP, offset(block, 16))
        else:
            _high_bits(levels, 4, offset(block, 16))
            _nibbles(levels, _GROUP, offset(block, 48))


@kernel
def pack_symmetric(x: Any, inverse: Any, n_max: Any, blocks: Any, room: Any) -> None:
    """blocks: [n, bytes], see search_numpy; room: 256 bytes."""
    size, n_bytes = x.shape[1], blocks.shape[1]
    k = _SUPER // size
    rows, levels, first = address(x), address(room), address(blocks)
    for n in range(len(blocks)):
        block = offset(first, n * n_bytes)
        d = _half(block, n_bytes - 2)
        for j in range(k):
            step, at = d * f32(_signed(block, j, n_max)), n * k + j
            row, to = offset(rows, at * size), offset(levels, j * size)
            if step != ZERO:
                stored_symmetric(row, size, step, n_max, to)
            else:
                kept_symmetric(row, size, inverse[at], n_max, to)
        if n_max == 4:
            _high_bits(levels, 2, block)
            _two_bits(levels, 0, offset(block, _GROUP))
        else:
            _nibbles(levels, 2 * _GROUP, block)
            _two_bits(levels, 4, offset(block, 4 * _GROUP))


@kernel
def _nibbles(levels: Any, group: Any, out: Any) -> None:
    """Groups 2j low, 2j + 1 high: 256 levels -> 128 bytes."""
    for j in range(0, _SUPER // 2, group):
        for t in range(group):
            low, high = levels[2 * j + t], levels[2 * j + group + t]
            out[j + t] = np.uint8((low & 15) | (high << 4))


@kernel
def _high_bits(levels: Any, shift: Any, out: Any) -> None:
    """Bit j of byte t: bit `shift` of element t of the j-th group of 32."""
    for t in range(_GROUP):
        bits = np.uint8(0)
        for j in range(8):
            bits |= np.uint8((levels[_GROUP * j + t] >> shift) << j)
        out[t] = bits


@kernel
def _two_bits(levels: Any, shift: Any, out: Any) -> None:
    for j in range(2):
        for t in range(_GROUP):
            a, b = levels[128 * j + t] >> shift & 3, levels[128 * j + 32 + t] >> shift & 3
            c, d = levels[128 * j + 64 + t] >> shift & 3, levels[128 * j + 96 + t] >> shift & 3
            out[32 * j + t] = np.uint8(a | b << 2 | c << 4 | d << 6)
