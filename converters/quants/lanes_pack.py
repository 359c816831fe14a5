"""Kernels that round a super-block for its scales as stored and write the bits; no lanes needed.

Rounded levels go through 256 bytes that stay in the first cache, and not through memory. Where the
bits go: `layout`, whose functions these repeat.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.fits import TINY
from converters.quants.kernel_cache import kernel, part
from converters.quants.lanes import ONE, ZERO, f32, nearest
from converters.quants.lanes_affine import kept_affine, stored_affine
from converters.quants.lanes_symmetric import kept_symmetric, stored_symmetric
from converters.quants.lanes_vector import address, offset

_SUPER = 256
_GROUP = 32


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
def multiples(d: Any, integers: Any, out: Any) -> None:
    """out: [n * k] = d [n] times integers [n, k]."""
    k = integers.shape[1]
    for n in range(len(integers)):
        for j in range(k):
            out[n * k + j] = d[n] * f32(integers[n, j])


@kernel
def pack_affine(x: Any, scale: Any, shift: Any, found: Any, fit: Any, out: Any, room: Any) -> None:
    """out: [n, bytes], as layout.affine_bits. room: 256 bytes."""
    size, n_bytes = x.shape[1], out.shape[1]
    rows, levels, bits = address(x), address(room), address(out)
    for n in range(len(out)):
        for at in range(0, _SUPER, size):
            j = (n * _SUPER + at) // size
            row, to = offset(rows, n * _SUPER + at), offset(levels, at)
            if scale[j] != ZERO:
                stored_affine(row, size, scale[j], shift[j], fit.n_max, to)
            else:
                kept_affine(row, size, found[2, j], found[3, j], fit, to)
        block = offset(bits, n * n_bytes)
        if fit.n_max == 3:
            _two_bits(levels, 0, block)
        else:
            if fit.n_max == 31:
                _high_bits(levels, 4, block)
            _nibbles(levels, _GROUP, offset(block, n_bytes - _SUPER // 2))


@kernel
def pack_symmetric(x: Any, scale: Any, found: Any, n_max: Any, out: Any, room: Any) -> None:
    """out: [n, bytes], as layout.symmetric_bits. room: 256 bytes."""
    size, n_bytes = x.shape[1], out.shape[1]
    rows, levels, bits = address(x), address(room), address(out)
    for n in range(len(out)):
        for at in range(0, _SUPER, size):
            j = (n * _SUPER + at) // size
            row, to = offset(rows, n * _SUPER + at), offset(levels, at)
            if scale[j] != ZERO:
                stored_symmetric(row, size, scale[j], n_max, to)
            else:
                kept_symmetric(row, size, found[j], n_max, to)
        block = offset(bits, n * n_bytes)
        if n_max == 4:
            _high_bits(levels, 2, block)
            _two_bits(levels, 0, offset(block, _GROUP))
        else:
            _nibbles(levels, 2 * _GROUP, block)
            _two_bits(levels, 4, offset(block, 4 * _GROUP))


@part
def _nibbles(levels: Any, group: Any, out: Any) -> None:
    """Groups 2j low, 2j + 1 high: 256 levels -> 128 bytes."""
    for j in range(0, _SUPER // 2, group):
        for t in range(group):
            low, high = levels[2 * j + t], levels[2 * j + group + t]
            out[j + t] = np.uint8((low & 15) | (high << 4))


@part
def _high_bits(levels: Any, shift: Any, out: Any) -> None:
    for t in range(_GROUP):
        out[t] = np.uint8(levels[t] >> shift)
    for j in range(1, 8):
        for t in range(_GROUP):
            out[t] = np.uint8(out[t] | ((levels[32 * j + t] >> shift) << j))


@part
def _two_bits(levels: Any, shift: Any, out: Any) -> None:
    for j in range(2):
        for t in range(_GROUP):
            a, b = levels[128 * j + t] >> shift & 3, levels[128 * j + 32 + t] >> shift & 3
            c, d = levels[128 * j + 64 + t] >> shift & 3, levels[128 * j + 96 + t] >> shift & 3
            out[32 * j + t] = np.uint8(a | b << 2 | c << 4 | d << 6)
