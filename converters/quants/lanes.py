"""What all lane kernels share: a tile of sub-blocks, rounding, weights.

A tile is [SIZE, LANES] float32, one sub-block per lane: ggml adds the products of a sub-block one
after the other, so a compiler may not vectorise along it without changing the result. Across lanes
it may: every lane adds in ggml's order, and the loop over lanes is what LLVM vectorises. Branches
are selects. A tile's numbers are rows of one array, the state, so that LLVM sees they are apart. A
bare literal would widen the arithmetic to 64 bits, hence the many casts. Formulas: search_numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.fits import MAGNITUDE, RMS
from converters.quants.kernel_cache import kernel

f32, i32 = np.float32, np.int32
LANES = 128  # measured: 64 is 15 % slower, 256 no faster
SIZE = 32  # the longest sub-block
UNROLL = 4  # sums stay in registers for as many elements

ZERO, ONE, INFINITE = f32(0), f32(1), f32(np.inf)
MAGIC = f32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer in the mantissa's low bits

# Rows of a tile's state; the symmetric searches use some of them for other things.
N_STATE = 17
LOW, HIGH, FLOOR, SUM_W, SUM_X, ERROR, SCALE, INVERSE, ORIGIN = range(9)
TRY, SUM_L, SUM_L2, SUM_XL, NEW_SCALE, NEW_LOW, NEW_ERROR, DET = range(9, 17)
PEAK, AMAX, BEST = LOW, HIGH, ERROR


@kernel
def nearest(v: Any) -> Any:
    """Round half to even; beyond 2^22 wrong in the way ggml is."""
    return i32((f32(v + MAGIC).view(np.int32) & i32(0x007FFFFF)) - i32(0x00400000))


@kernel
def level(v: Any, low: Any, high: Any) -> Any:
    """The nearest integer within low..high (int32), as float32."""
    found = nearest(v)
    found = low if found < low else found
    return f32(high if found > high else found)


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
def weigh(x: Any, size: Any, weighting: Any, w: Any) -> None:
    """Weights that follow from the values."""
    for i in range(size):
        for k in range(LANES):
            w[i, k] = abs(x[i, k]) if weighting == MAGNITUDE else x[i, k] * x[i, k]
    if weighting == RMS:
        _weigh_rms(x, size, w)


@kernel
def _weigh_rms(x: Any, size: Any, w: Any) -> None:
    """w: squares, becomes rms + |x|."""
    for i in range(1, size):
        for k in range(LANES):
            w[0, k] += w[i, k]
    for k in range(LANES):
        w[size - 1, k] = np.sqrt(w[0, k] / f32(size))
    for i in range(size):
        for k in range(LANES):
            w[i, k] = w[size - 1, k] + abs(x[i, k])


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
def tile() -> Any:
    """Uninitialised room for a tile."""
    return np.empty((SIZE, LANES), np.float32)


@kernel
def state() -> Any:
    """Uninitialised room for a tile's state."""
    return np.empty((N_STATE, LANES), np.float32)


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
