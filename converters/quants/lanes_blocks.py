"""Kernels of the plain blocks of 32 and of importance: lanes only where they help."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import ZERO, f32
from converters.quants.lanes_tile import empty_into, fill, peaks
from converters.quants.lanes_vector import (
    address,
    aligned,
    get,
    get_row,
    offset,
    put,
    put_bytes,
    put_fifth_bits,
    put_nibbles,
    root,
    select,
    splat,
    splat_row,
)
from converters.quants.lanes_width import LANES, ROW, TILE

_BLOCK = 2 * ROW
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
def extremes_of(x: Any, low: Any, high: Any, room: Any) -> None:
    """Smallest and largest of a row; where that is a zero, the sign of the row's first zero."""
    size, zero = x.shape[1], splat(ZERO)
    tile = aligned(room)
    found = offset(tile, TILE)
    for start in range(0, len(x), LANES):
        fill(x, start, tile)
        least = most = get(tile, size - 1)
        first_zero = zero
        for k in range(size):
            v = get(tile, size - 1 - k)
            least = select(v < least, v, least)
            most = select(v > most, v, most)
            first_zero = select(v == zero, v, first_zero)
        put(found, 0, select(least == zero, first_zero, least))
        put(found, 1, select(most == zero, first_zero, most))
        empty_into(found, 0, low, start)
        empty_into(found, 1, high, start)


@kernel
def truncate(x: Any, low: Any, inverse: Any, plus: Any, n_max: Any, blocks: Any) -> None:
    """blocks: [n, bytes], see search_numpy."""
    n_bytes = blocks.shape[1]
    rows, first, top = address(x), address(blocks), splat_row(f32(n_max))
    for n in range(len(x)):
        row, end = offset(rows, n * _BLOCK), offset(first, (n + 1) * n_bytes)
        floor, by, more = splat_row(low[n]), splat_row(inverse[n]), splat_row(plus[n])
        v0 = (get_row(row, 0) - floor) * by + more
        v1 = (get_row(row, ROW) - floor) * by + more
        v0, v1 = select(v0 > top, top, v0), select(v1 > top, top, v1)
        put_nibbles(end, -16, v0, v1)
        if n_max == 31:
            put_fifth_bits(end, -20, v0)
            put_fifth_bits(end, -18, v1)


@kernel
def round_away(x: Any, inverse: Any, blocks: Any) -> None:
    """blocks: [n, 34], see search_numpy."""
    rows, first, zero = address(x), address(blocks), splat_row(ZERO)
    half, minus = splat_row(_HALF), splat_row(-_HALF)
    for n in range(len(x)):
        row, to, by = offset(rows, n * _BLOCK), offset(first, n * 34 + 2), splat_row(inverse[n])
        for i in range(0, _BLOCK, ROW):
            v = get_row(row, i) * by
            put_bytes(to, i, v + select(v < zero, minus, half))


@kernel
def sums_of(x: Any, out: Any) -> None:
    """out: [n] sums."""
    for n in range(len(x)):
        total = x[n, 0]
        for i in range(1, x.shape[1]):
            total += x[n, i]
        out[n] = total


@kernel
def _squares(x: Any, span: Any) -> Any:
    """Sums of squares of four neighbouring spans; one at a time would wait for every addition."""
    t0 = t1 = t2 = t3 = ZERO
    for i in range(span):
        a, b, c, d = x[i], x[span + i], x[2 * span + i], x[3 * span + i]
        t0 += a * a
        t1 += b * b
        t2 += c * c
        t3 += d * d
    return t0, t1, t2, t3


@kernel
def _square_sum(x: Any, span: Any) -> Any:
    total = ZERO
    for i in range(span):
        total += x[i] * x[i]
    return total


@kernel
def _weigh(x: Any, importance: Any, span: Any, factor: Any, total: Any, out: Any) -> None:
    sigma2 = f32(factor) * total / f32(span)
    for i in range(span):
        out[i] = importance[i] * root(sigma2 + x[i] * x[i])


@kernel
def weights_of(rows: Any, importance: Any, span: Any, factor: Any, out: Any) -> None:
    """out: [n_rows, n_cols] weights."""
    n_cols, count = rows.shape[1], rows.size // span
    x, known, to = address(rows), address(importance), address(out)
    for k in range(0, count - 3, 4):
        totals = _squares(offset(x, k * span), span)
        for j in range(4):
            at = (k + j) * span
            part = offset(known, at % n_cols)
            _weigh(offset(x, at), part, span, factor, totals[j], offset(to, at))
    for k in range(count - count % 4, count):
        at = k * span
        total, part = _square_sum(offset(x, at), span), offset(known, at % n_cols)
        _weigh(offset(x, at), part, span, factor, total, offset(to, at))
