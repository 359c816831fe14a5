"""Lane kernel of error feedback, a row per lane; search_numpy.feedback says what it computes.

Each lane adds in the order of the columns, so the result does not depend on how rows are cut into
calls. The errors of GROUP columns are applied to the later columns in one pass: they stay in
registers, and a value is loaded and stored once for all of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from converters.quants.fits import CODEBOOK
from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import ONE, ZERO, f32
from converters.quants.lanes_vector import (
    aligned,
    get,
    offset,
    put,
    rounded,
    select,
    splat,
)
from converters.quants.lanes_width import GROUP, LANES

_FIRST = f32(CODEBOOK[0])
_MIDS = np.array([(a + b) / 2 for a, b in pairwise(CODEBOOK)], np.float32)
_RISES = np.array([b - a for a, b in pairwise(CODEBOOK)], np.float32)


@kernel
def _uniform(x: Any, step: Any, low: Any, top: Any) -> Any:
    """Level and value for x: the nearest of low, low + step, ... low + top * step."""
    zero, most = splat(ZERO), splat(top)
    v = select(step != zero, (x - low) / step, zero)
    v = select(v > zero, v, zero)
    level = rounded(select(v < most, v, most))
    return level, step * level + low


@kernel
def _code(x: Any, step: Any) -> Any:
    """Index and value for x: the nearest of step * CODEBOOK."""
    zero, one = splat(ZERO), splat(ONE)
    v = select(step != zero, x / step, zero)
    index, value = zero, splat(_FIRST)
    for i in range(len(_MIDS)):
        below = v < splat(_MIDS[i])
        index = index + select(below, zero, one)
        value = value + select(below, zero, splat(_RISES[i]))
    return index, step * value


@kernel
def _gather(source: Any, row: Any, order: Any, tile: Any) -> None:
    """Columns order[i] of LANES rows from `row` on, one after the other; 0 beyond the last row."""
    rows = min(LANES, source.shape[0] - row)
    for i in range(len(order)):
        for k in range(rows):
            tile[i * LANES + k] = source[row + k, order[i]]
        for k in range(rows, LANES):
            tile[i * LANES + k] = ZERO


@kernel
def _transpose(source: Any, row: Any, tile: Any) -> None:
    """As `_gather`, of all columns."""
    rows = min(LANES, source.shape[0] - row)
    for i in range(source.shape[1]):
        for k in range(rows):
            tile[i * LANES + k] = source[row + k, i]
        for k in range(rows, LANES):
            tile[i * LANES + k] = ZERO


@kernel
def _spread(x: Any, error: Any, factor: Any, first: Any, width: Any) -> None:
    """Add the errors of the columns first..first + GROUP to all columns after them."""
    e0, e1, e2, e3 = get(error, 0), get(error, 1), get(error, 2), get(error, 3)
    e4, e5, e6, e7 = get(error, 4), get(error, 5), get(error, 6), get(error, 7)
    for j in range(first + GROUP, width):
        v = get(x, j)
        v = v + e0 * splat(factor[first, j])
        v = v + e1 * splat(factor[first + 1, j])
        v = v + e2 * splat(factor[first + 2, j])
        v = v + e3 * splat(factor[first + 3, j])
        v = v + e4 * splat(factor[first + 4, j])
        v = v + e5 * splat(factor[first + 5, j])
        v = v + e6 * splat(factor[first + 6, j])
        v = v + e7 * splat(factor[first + 7, j])
        put(x, j, v)


@kernel
def feedback(  # noqa: PLR0913 - what it reads, what it writes, room
    source: Any, order: Any, factor: Any, step: Any, low: Any, top: Any, out: Any, room: Any
) -> None:
    """See search_numpy; top is a float32."""
    width, k = len(order), step.shape[1]
    size = source.shape[1] // k
    x = aligned(room)
    given, levels = offset(x, width * LANES), offset(x, 2 * width * LANES)
    steps, lows = offset(x, 3 * width * LANES), offset(x, (3 * width + k) * LANES)
    error = offset(x, (3 * width + 2 * k) * LANES)
    for row in range(0, source.shape[0], LANES):
        _gather(source, row, order, x)
        for i in range(width):
            put(given, i, get(x, i))
        _transpose(step, row, steps)
        _transpose(low, row, lows)
        for first in range(0, width, GROUP):
            for c in range(GROUP):
                i = first + c
                at = order[i] // size
                if top > ZERO:
                    level, value = _uniform(get(x, i), get(steps, at), get(lows, at), top)
                else:
                    level, value = _code(get(x, i), get(steps, at))
                put(levels, i, level)
                lost = get(given, i) - value
                put(error, c, lost)
                for j in range(i + 1, first + GROUP):
                    put(x, j, get(x, j) + lost * splat(factor[i, j]))
            _spread(x, error, factor, first, width)
        for i in range(width):
            for n in range(min(LANES, source.shape[0] - row)):
                out[row + n, order[i]] = np.uint8(levels[i * LANES + n])
