"""Tiles: LANES sub-blocks, transposed, so that row i holds element i of each.

ggml adds the products of a sub-block one after the other, so its sums may not be vectorised without
changing the result; across sub-blocks they may: every lane adds in ggml's order.
"""

from __future__ import annotations

from typing import Any

from converters.quants.fits import MAGNITUDE, RMS
from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import ZERO, f32
from converters.quants.lanes_vector import (
    absolute,
    address,
    get,
    offset,
    put,
    root,
    select,
    splat,
    transpose,
)
from converters.quants.lanes_width import LANES, SQUARE


@kernel
def fill(source: Any, start: Any, tile: Any) -> None:
    """Transpose sub-blocks from `start` on into the tile; after the last one, that again."""
    count, size = source.shape
    if start + LANES > count:
        for k in range(LANES):
            for i in range(size):
                tile[i * LANES + k] = source[min(start + k, count - 1), i]
        return
    first = offset(address(source), start * size)
    for k in range(0, LANES, SQUARE):
        for i in range(0, size, SQUARE):
            transpose(offset(first, k * size + i), size, offset(tile, i * LANES + k))


@kernel
def empty_into(tile: Any, row: Any, out: Any, start: Any) -> None:
    """A row of the tile into out[start:], as far as that goes."""
    for k in range(min(LANES, len(out) - start)):
        out[start + k] = tile[row * LANES + k]


@kernel
def weigh(x: Any, size: Any, weighting: Any, w: Any) -> None:
    """w: weights that follow from the values, see search_numpy."""
    if weighting == RMS:
        total = splat(ZERO)
        for i in range(size):
            total = total + get(x, i) * get(x, i)
        rms = root(total / splat(f32(size)))
        for i in range(size):
            put(w, i, rms + absolute(get(x, i)))
    elif weighting == MAGNITUDE:
        for i in range(size):
            put(w, i, absolute(get(x, i)))
    else:
        for i in range(size):
            put(w, i, get(x, i) * get(x, i))


@kernel
def peaks(x: Any, size: Any) -> Any:
    """The value of largest magnitude, with its sign, the first of several."""
    peak = largest = splat(ZERO)
    for i in range(size):
        v = get(x, i)
        bigger = absolute(v) > largest
        peak = select(bigger, v, peak)
        largest = select(bigger, absolute(v), largest)
    return peak
