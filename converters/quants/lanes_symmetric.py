"""Lane kernels of the symmetric searches: see `lanes` for how, search_numpy.symmetric for what."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.fits import GIVEN, SQUARE, TINY
from converters.quants.kernel_cache import kernel
from converters.quants.lanes import (
    AMAX,
    BEST,
    INVERSE,
    LANES,
    MAGIC,
    PEAK,
    SCALE,
    SUM_L2,
    SUM_XL,
    TRY,
    UNROLL,
    ZERO,
    f32,
    i32,
    keep,
    level,
    load,
    peaks,
    state,
    tile,
    weigh,
)


@kernel
def _small_level(v: Any, n_max: Any) -> Any:
    """As `level`, for quotients that cannot leave the range in which adding MAGIC rounds."""
    q = f32(f32(v + MAGIC) - MAGIC)
    q = q if q > f32(-n_max) else f32(-n_max)
    return q if q < f32(n_max - 1) else f32(n_max - 1)


@kernel
def _symmetric_sums(x: Any, w: Any, wx: Any, size: Any, n_max: Any, s: Any) -> None:
    """Sums for the levels that the inverse TRY gives. wx: w * x."""
    for k in range(LANES):
        s[SUM_XL, k] = ZERO
        s[SUM_L2, k] = ZERO
    for i in range(0, size, UNROLL):
        for k in range(LANES):
            inverse, sum_xl, sum_l2 = s[TRY, k], s[SUM_XL, k], s[SUM_L2, k]
            for j in range(i, i + UNROLL):
                q = _small_level(inverse * x[j, k], n_max)
                sum_xl += wx[j, k] * q
                sum_l2 += w[j, k] * q * q
            s[SUM_XL, k], s[SUM_L2, k] = sum_xl, sum_l2


@kernel
def _products(x: Any, w: Any, size: Any, wx: Any) -> None:
    for i in range(size):
        for k in range(LANES):
            wx[i, k] = w[i, k] * x[i, k]


@kernel
def symmetric(source: Any, weights: Any, weighting: Any, n_max: Any, out: Any) -> None:
    """out: [2, n] = scale, inverse; both 0 for a sub-block that counts as zero."""
    count, size = source.shape
    x = tile()
    w = tile()
    wx = tile()
    s = state()
    for start in range(0, count, LANES):
        lanes = load(source, start, x)
        if weighting == GIVEN:
            load(weights, start, w)
        else:
            weigh(x, size, weighting, w)
        _products(x, w, size, wx)
        peaks(x, size, s)
        for k in range(LANES):
            s[TRY, k] = f32(-n_max) / s[PEAK, k]
        _symmetric_sums(x, w, wx, size, n_max, s)
        for k in range(LANES):
            full = s[SUM_L2, k] != ZERO
            s[SCALE, k] = s[SUM_XL, k] / s[SUM_L2, k] if full else ZERO
            s[INVERSE, k] = s[TRY, k]
            s[BEST, k] = s[SCALE, k] * s[SUM_XL, k]
        for c in range(-9, 10):
            if c != 0:
                top = -f32(f32(n_max) + f32(f32(0.1) * f32(c)))
                for k in range(LANES):
                    s[TRY, k] = top / s[PEAK, k]
                _symmetric_sums(x, w, wx, size, n_max, s)
                keep(s)
        for k in range(lanes):
            dead = s[AMAX, k] < TINY
            out[0, start + k] = ZERO if dead else s[SCALE, k]
            out[1, start + k] = ZERO if dead else s[INVERSE, k]


@kernel
def _descend_sweep(x: Any, q: Any, size: Any, n_max: Any, s: Any) -> None:
    for i in range(size):
        for k in range(LANES):
            v, old, xl, l2 = x[i, k], q[i, k], s[SUM_XL, k], s[SUM_L2, k]
            w = v * v
            less_xl = xl - w * v * old
            less_l2 = l2 - w * old * old
            new = level(v * less_l2 / less_xl, i32(-n_max), i32(n_max - 1))
            new_xl = less_xl + w * v * new
            new_l2 = less_l2 + w * new * new
            better = new_l2 > ZERO and new_xl * new_xl * l2 > xl * xl * new_l2
            better = better and less_xl > ZERO and new != old
            q[i, k] = new if better else old
            s[SUM_XL, k] = new_xl if better else xl
            s[SUM_L2, k] = new_l2 if better else l2


@kernel
def descend(source: Any, n_max: Any, out: Any, levels: Any) -> None:
    """out: [n] scales; levels: [n, size], 0..2 n_max - 1."""
    count, size = source.shape
    x = tile()
    w = tile()
    wx = tile()
    q = tile()
    s = state()
    for start in range(0, count, LANES):
        lanes = load(source, start, x)
        weigh(x, size, SQUARE, w)
        _products(x, w, size, wx)
        peaks(x, size, s)
        for k in range(LANES):
            s[TRY, k] = f32(-n_max) / s[PEAK, k]
        _symmetric_sums(x, w, wx, size, n_max, s)
        for i in range(size):
            for k in range(LANES):
                q[i, k] = level(s[TRY, k] * x[i, k], i32(-n_max), i32(n_max - 1))
        for _ in range(5):
            _descend_sweep(x, q, size, n_max, s)
        for k in range(lanes):
            dead = s[AMAX, k] < TINY
            full = s[SUM_L2, k] > ZERO
            scale = s[SUM_XL, k] / s[SUM_L2, k] if full else ZERO
            out[start + k] = ZERO if dead else scale
            for i in range(size):
                levels[start + k, i] = 0 if dead else np.uint8(q[i, k] + f32(n_max))


@kernel
def round_symmetric(x: Any, scale: Any, found: Any, n_max: Any, out: Any) -> None:
    """out: [n, size] levels; found: the inverses that `symmetric` put out."""
    count, size = x.shape
    for n in range(count):
        d, inverse = scale[n], found[n]
        if d != ZERO:
            for i in range(size):
                q = level(x[n, i] / d, i32(-n_max), i32(n_max - 1))
                out[n, i] = np.uint8(q + f32(n_max))
        elif inverse != ZERO:
            for i in range(size):
                q = level(x[n, i] * inverse, i32(-n_max), i32(n_max - 1))
                out[n, i] = np.uint8(q + f32(n_max))
        else:
            for i in range(size):
                out[n, i] = 0
