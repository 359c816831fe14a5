"""What the codebook and scale searches share: a tile of sub-blocks, one per lane.

The affine and symmetric searches hold their sums in vectors instead: lanes_vector, lanes_tile.

A tile is [SIZE, LANES] float32, one sub-block per lane: ggml adds the products of a sub-block one
after the other, so a compiler may not vectorise along it without changing the result. Across lanes
it may: every lane adds in ggml's order, and the loop over lanes is what LLVM vectorises. Branches
are selects. A tile's numbers are rows of one array, the state, so that LLVM sees they are apart. A
bare literal would widen the arithmetic to 64 bits, hence the many casts. Formulas: search_numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.kernel_compiler import kernel
from converters.quants.lanes_width import LOOP_LANES as LANES
from converters.quants.lanes_width import LOOP_STATE

f32, i32 = np.float32, np.int32
ZERO, ONE, INFINITE = f32(0), f32(1), f32(np.inf)
MAGIC = f32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer in the mantissa's low bits

# Rows of a tile's state.
PEAK, AMAX, BEST, SCALE, INVERSE, TRY, SUM_XL, SUM_L2, ERROR, NEW_ERROR = range(LOOP_STATE)


@kernel
def nearest(v: Any) -> Any:
    """Round half to even; beyond 2^22 wrong in the way ggml is."""
    return i32((f32(v + MAGIC).view(np.int32) & i32(0x007FFFFF)) - i32(0x00400000))


@kernel
def load(source: Any, start: Any, tile: Any) -> Any:
    """Transpose sub-blocks from `start` on into the tile; returns how many there are."""
    count, size = source.shape
    lanes = min(LANES, count - start)
    for k in range(lanes):
        for i in range(size):
            tile[i, k] = source[start + k, i]
    for k in range(lanes, LANES):
        for i in range(size):
            tile[i, k] = ZERO
    return lanes


@kernel
def square(x: Any, size: Any, w: Any) -> None:
    """Weights where none are given: the squares of the values."""
    for i in range(size):
        for k in range(LANES):
            w[i, k] = x[i, k] * x[i, k]


@kernel
def peaks(x: Any, size: Any, s: Any) -> None:
    """The value of largest magnitude, with its sign; the first of several."""
    for k in range(LANES):
        s[AMAX, k] = ZERO
        s[PEAK, k] = ZERO
    for i in range(size):
        for k in range(LANES):
            bigger = abs(x[i, k]) > s[AMAX, k]
            s[PEAK, k] = x[i, k] if bigger else s[PEAK, k]
            s[AMAX, k] = abs(x[i, k]) if bigger else s[AMAX, k]


@kernel
def keep(s: Any) -> None:
    """Keep the candidate TRY where it explains more than the best so far."""
    for k in range(LANES):
        xl, l2 = s[SUM_XL, k], s[SUM_L2, k]
        better = l2 > ZERO and xl * xl > s[BEST, k] * l2
        scale = xl / l2
        s[SCALE, k] = scale if better else s[SCALE, k]
        s[INVERSE, k] = s[TRY, k] if better else s[INVERSE, k]
        s[BEST, k] = scale * xl if better else s[BEST, k]
