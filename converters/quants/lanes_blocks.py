"""Kernels of the plain blocks of 32 and of importance: lanes only where they help."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import ZERO, f32, i32
from converters.quants.lanes_tile import empty_into, fill, peaks
from converters.quants.lanes_vector import aligned, offset, put, root
from converters.quants.lanes_width import LANES, TILE

_HALF = f32(np.nextafter(f32(0.5), ZERO))


@kernel
def peaks_of(x: Any, out: Any, room: Any) -> None:
    """out: [n] values of largest magnitude."""
    tile = aligned(room)
    found = offset(tile, TILE)
    for start in range(0, len(x), LANES):
        fill(x, start, tile)
        put(found, 0, peaks(tile, x.shape[1]))
        empty_into(found, 0, out, start)


@kernel
def _order(v: Any) -> Any:
    """An integer ordered as floats are, -0 before 0."""
    bits = i32(f32(v).view(np.int32))
    return i32(bits ^ i32(i32(bits >> i32(31)) & i32(0x7FFFFFFF)))


@kernel
def extremes_of(x: Any, low: Any, high: Any) -> None:
    """Smallest and largest of a row; where that is a zero, the sign of the row's first zero."""
    for n in range(len(x)):
        least = most = _order(x[n, 0])
        for i in range(1, x.shape[1]):
            v = _order(x[n, i])
            least = v if v < least else least
            most = v if v > most else most
        zero = ZERO
        if -1 <= least <= 0 or -1 <= most <= 0:
            for i in range(x.shape[1]):
                if x[n, i] == ZERO:
                    zero = x[n, i]
                    break
        low[n] = zero if -1 <= least <= 0 else _value(least)
        high[n] = zero if -1 <= most <= 0 else _value(most)


@kernel
def _value(order: Any) -> Any:
    """The float of an `_order`."""
    return i32(order ^ i32(i32(order >> i32(31)) & i32(0x7FFFFFFF))).view(np.float32)


@kernel
def truncate(x: Any, low: Any, inverse: Any, offset: Any, n_max: Any, out: Any) -> None:
    """out: [n, size] levels."""
    top = i32(n_max)
    for n in range(len(x)):
        floor, by = low[n], inverse[n]
        for i in range(x.shape[1]):
            q = i32((x[n, i] - floor) * by + offset)
            out[n, i] = np.uint8(top if q > top else q)


@kernel
def round_away(x: Any, inverse: Any, out: Any) -> None:
    """out: [n, size] levels."""
    for n in range(len(x)):
        for i in range(x.shape[1]):
            v = x[n, i] * inverse[n]
            out[n, i] = np.int8(i32(v + (_HALF if v >= ZERO else -_HALF)))


@kernel
def sums_of(x: Any, out: Any) -> None:
    """out: [n] sums."""
    for n in range(len(x)):
        total = x[n, 0]
        for i in range(1, x.shape[1]):
            total += x[n, i]
        out[n] = total


@kernel
def weights_of(rows: Any, importance: Any, span: Any, factor: Any, out: Any) -> None:
    """out: [n_rows, n_cols] weights."""
    n_cols = rows.shape[1]
    for r in range(len(rows)):
        for start in range(0, n_cols, span):
            total = ZERO
            for i in range(start, start + span):
                total += rows[r, i] * rows[r, i]
            sigma2 = f32(factor) * total / f32(span)
            for i in range(start, start + span):
                v = rows[r, i]
                out[r, i] = importance[i] * root(sigma2 + v * v)
