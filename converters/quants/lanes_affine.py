"""Lane kernels of the affine searches: see `lanes` for how, search_numpy.affine for what."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.fits import GIVEN
from converters.quants.kernel_cache import kernel
from converters.quants.lanes import (
    DET,
    ERROR,
    FLOOR,
    HIGH,
    INFINITE,
    INVERSE,
    LANES,
    LOW,
    NEW_ERROR,
    NEW_LOW,
    NEW_SCALE,
    ONE,
    ORIGIN,
    SCALE,
    SUM_L,
    SUM_L2,
    SUM_W,
    SUM_X,
    SUM_XL,
    TRY,
    UNROLL,
    ZERO,
    f32,
    i32,
    level,
    load,
    nearest,
    state,
    tile,
    weigh,
)


@kernel
def _affine_start(x: Any, w: Any, size: Any, fit: Any, s: Any) -> None:
    """Range, sums and the error of the first guess."""
    top = f32(fit.n_max)
    for k in range(LANES):
        s[LOW, k] = x[0, k]
        s[HIGH, k] = x[0, k]
        s[SUM_W, k] = w[0, k]
        s[SUM_X, k] = w[0, k] * x[0, k]
        s[ERROR, k] = ZERO
    for i in range(1, size):
        for k in range(LANES):
            v = x[i, k]
            s[LOW, k] = v if v < s[LOW, k] else s[LOW, k]
            s[HIGH, k] = v if v > s[HIGH, k] else s[HIGH, k]
            s[SUM_W, k] += w[i, k]
            s[SUM_X, k] += w[i, k] * v
    for k in range(LANES):
        s[LOW, k] = ZERO if s[LOW, k] > ZERO else s[LOW, k]
        s[FLOOR, k] = s[LOW, k]
        s[ORIGIN, k] = s[LOW, k]
        s[INVERSE, k] = top / (s[HIGH, k] - s[LOW, k])
        s[SCALE, k] = ONE / s[INVERSE, k]
    for i in range(size):
        for k in range(LANES):
            q = level(s[INVERSE, k] * (x[i, k] - s[LOW, k]), i32(0), i32(fit.n_max))
            d = s[SCALE, k] * q + s[LOW, k] - x[i, k]
            s[ERROR, k] += w[i, k] * (abs(d) if fit.absolute else d * d)
    for k in range(LANES):  # an infinite inverse made every level 0
        s[INVERSE, k] = ZERO if s[INVERSE, k] == INFINITE else s[INVERSE, k]


@kernel
def _affine_levels(x: Any, size: Any, fit: Any, s: Any, q: Any) -> None:
    """Levels of the candidate TRY."""
    top = f32(fit.n_max)
    if fit.clamped:
        for i in range(size):
            for k in range(LANES):
                v = s[TRY, k] * (x[i, k] - s[LOW, k])
                v = v if v > ZERO else ZERO
                v = v if v < top else top
                q[i, k] = f32(nearest(v))
    else:
        for i in range(size):
            for k in range(LANES):
                v = s[TRY, k] * (x[i, k] - s[LOW, k])
                q[i, k] = level(v, i32(0), i32(fit.n_max))


@kernel
def _affine_solve(x: Any, w: Any, q: Any, size: Any, s: Any) -> None:
    """Weighted least squares for the levels q; the minimum must not be above zero."""
    for k in range(LANES):
        s[SUM_L, k] = ZERO
        s[SUM_L2, k] = ZERO
        s[SUM_XL, k] = ZERO
        s[NEW_ERROR, k] = ZERO
    for i in range(0, size, UNROLL):
        for k in range(LANES):
            sum_l, sum_l2, sum_xl = s[SUM_L, k], s[SUM_L2, k], s[SUM_XL, k]
            for j in range(i, i + UNROLL):
                wl = w[j, k] * q[j, k]
                sum_l += wl
                sum_l2 += wl * q[j, k]
                sum_xl += wl * x[j, k]
            s[SUM_L, k], s[SUM_L2, k], s[SUM_XL, k] = sum_l, sum_l2, sum_xl
    for k in range(LANES):
        det = s[SUM_W, k] * s[SUM_L2, k] - s[SUM_L, k] * s[SUM_L, k]
        scale = (s[SUM_W, k] * s[SUM_XL, k] - s[SUM_X, k] * s[SUM_L, k]) / det
        low = (s[SUM_L2, k] * s[SUM_X, k] - s[SUM_L, k] * s[SUM_XL, k]) / det
        s[NEW_SCALE, k] = s[SUM_XL, k] / s[SUM_L2, k] if low > ZERO else scale
        s[NEW_LOW, k] = ZERO if low > ZERO else low
        s[DET, k] = det


@kernel
def _affine_keep(x: Any, w: Any, q: Any, size: Any, fit: Any, s: Any) -> None:
    """Keep the candidate where its error is smaller; its minimum then serves the next ones."""
    for i in range(0, size, UNROLL):
        for k in range(LANES):
            scale, low, error = s[NEW_SCALE, k], s[NEW_LOW, k], s[NEW_ERROR, k]
            for j in range(i, i + UNROLL):
                d = scale * q[j, k] + low - x[j, k]
                error += w[j, k] * (abs(d) if fit.absolute else d * d)
            s[NEW_ERROR, k] = error
    for k in range(LANES):
        better = s[DET, k] > ZERO and s[NEW_ERROR, k] < s[ERROR, k]
        s[ERROR, k] = s[NEW_ERROR, k] if better else s[ERROR, k]
        s[SCALE, k] = s[NEW_SCALE, k] if better else s[SCALE, k]
        s[INVERSE, k] = s[TRY, k] if better else s[INVERSE, k]
        s[ORIGIN, k] = s[LOW, k] if better else s[ORIGIN, k]
        s[LOW, k] = s[NEW_LOW, k] if better else s[LOW, k]


@kernel
def affine(source: Any, weights: Any, fit: Any, out: Any) -> None:
    """out: [4, n] = scale, low, and inverse, origin, from which the levels can be had again."""
    count, size = source.shape
    x = tile()
    w = tile()
    q = tile()
    s = state()
    for start in range(0, count, LANES):
        lanes = load(source, start, x)
        if fit.weighting == GIVEN:
            load(weights, start, w)
        else:
            weigh(x, size, fit.weighting, w)
        _affine_start(x, w, size, fit, s)
        for c in range(fit.steps + 1):
            top = f32(f32(fit.first) + f32(f32(fit.step) * f32(c))) + f32(fit.n_max)
            for k in range(LANES):
                s[TRY, k] = top / (s[HIGH, k] - s[LOW, k])
            _affine_levels(x, size, fit, s, q)
            _affine_solve(x, w, q, size, s)
            _affine_keep(x, w, q, size, fit, s)
        for k in range(lanes):
            flat = s[HIGH, k] == s[FLOOR, k]
            out[0, start + k] = ZERO if flat else s[SCALE, k]
            out[1, start + k] = s[FLOOR, k] if flat else s[LOW, k]
            out[2, start + k] = ZERO if flat else s[INVERSE, k]
            out[3, start + k] = s[ORIGIN, k]


@kernel
def round_affine(x: Any, scale: Any, shift: Any, found: Any, fit: Any, out: Any) -> None:
    """out: [n, size] levels; found: what `affine` put out."""
    count, size = x.shape
    top = f32(fit.n_max)
    for n in range(count):
        d, m = scale[n], shift[n]
        if d != ZERO:
            for i in range(size):
                out[n, i] = np.uint8(level((x[n, i] + m) / d, i32(0), i32(fit.n_max)))
        else:
            for i in range(size):
                v = found[2, n] * (x[n, i] - found[3, n])
                if fit.clamped:
                    v = v if v > ZERO else ZERO
                    v = v if v < top else top
                out[n, i] = np.uint8(level(v, i32(0), i32(fit.n_max)))
