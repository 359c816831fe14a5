"""Lane kernel of subscales.by_least_squares; here a lane is a super-block."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.fits import TINY
from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import (
    AMAX,
    ERROR,
    INVERSE,
    NEW_ERROR,
    ONE,
    SUM_L2,
    SUM_XL,
    TRY,
    ZERO,
    f32,
    i32,
    load,
    nearest,
)
from converters.quants.lanes_width import LOOP_LANES as LANES
from converters.quants.lanes_width import SIZE


@kernel
def _below(v: Any, n_max: Any) -> Any:
    """The nearest integer, at most n_max."""
    found = nearest(v)
    return i32(n_max) if found > n_max else found


@kernel
def _errors(x: Any, w: Any, size: Any, n_max: Any, s: Any) -> None:
    """NEW_ERROR of the inverse TRY."""
    for k in range(LANES):
        s[NEW_ERROR, k] = ZERO
    for i in range(size):
        for k in range(LANES):
            d = x[i, k] - ONE / s[TRY, k] * f32(_below(s[TRY, k] * x[i, k], n_max))
            s[NEW_ERROR, k] += w[i, k] * d * d


@kernel
def _start(x: Any, w: Any, size: Any, n_max: Any, s: Any) -> None:
    """The largest scale, and the error if it becomes n_max."""
    for k in range(LANES):
        s[AMAX, k] = ZERO
        s[ERROR, k] = ZERO
    for i in range(size):
        for k in range(LANES):
            s[AMAX, k] = x[i, k] if x[i, k] > s[AMAX, k] else s[AMAX, k]
    for k in range(LANES):
        s[INVERSE, k] = f32(n_max) / s[AMAX, k]
    for i in range(size):
        for k in range(LANES):
            level = f32(i32(nearest(s[INVERSE, k] * x[i, k]) & i32(255)))  # a byte in ggml
            d = x[i, k] - ONE / s[INVERSE, k] * level
            s[ERROR, k] += w[i, k] * d * d


@kernel
def _search(x: Any, w: Any, size: Any, n_max: Any, s: Any) -> None:
    """Keep the best of eight more inverses."""
    for c in range(-4, 5):
        if c != 0:
            for k in range(LANES):
                s[TRY, k] = (f32(f32(0.1) * f32(c)) + f32(n_max)) / s[AMAX, k]
            _errors(x, w, size, n_max, s)
            for k in range(LANES):
                better = s[NEW_ERROR, k] < s[ERROR, k]
                s[ERROR, k] = s[NEW_ERROR, k] if better else s[ERROR, k]
                s[INVERSE, k] = s[TRY, k] if better else s[INVERSE, k]


@kernel
def _levels(x: Any, w: Any, size: Any, n_max: Any, s: Any, q: Any) -> None:
    for k in range(LANES):
        s[SUM_XL, k] = ZERO
        s[SUM_L2, k] = ZERO
    for i in range(size):
        for k in range(LANES):
            found = _below(s[INVERSE, k] * x[i, k], n_max)
            level = f32(found)
            s[SUM_XL, k] += w[i, k] * x[i, k] * level
            s[SUM_L2, k] += w[i, k] * level * level
            q[i, k] = f32(i32(found & i32(255)))


@kernel
def _sweep(x: Any, w: Any, size: Any, n_max: Any, s: Any, q: Any) -> None:
    for i in range(size):
        for k in range(LANES):
            v, wk, old, xl, l2 = x[i, k], w[i, k], q[i, k], s[SUM_XL, k], s[SUM_L2, k]
            new_xl = xl - wk * v * old
            new_l2 = l2 - wk * old * old
            better = new_xl > ZERO and new_l2 > ZERO
            found = _below(v * new_l2 / new_xl, n_max)
            level = f32(found)
            new_xl += wk * v * level
            new_l2 += wk * level * level
            better = better and level != old and new_xl * new_xl * l2 > xl * xl * new_l2
            q[i, k] = f32(i32(found & i32(255))) if better else old
            s[SUM_XL, k] = new_xl if better else xl
            s[SUM_L2, k] = new_l2 if better else l2


@kernel
def scales_of(source: Any, weights: Any, n_max: Any, out: Any, integers: Any, room: Any) -> None:
    """out: [n]; integers: [n, k] uint8."""
    count, size = source.shape
    x, w = room[:SIZE], room[SIZE : 2 * SIZE]
    q, s = room[2 * SIZE : 3 * SIZE], room[3 * SIZE :]
    for start in range(0, count, LANES):
        lanes = load(source, start, x)
        load(weights, start, w)
        _start(x, w, size, n_max, s)
        _search(x, w, size, n_max, s)
        _levels(x, w, size, n_max, s, q)
        for _ in range(5):
            _sweep(x, w, size, n_max, s, q)
        for k in range(lanes):
            dead = s[AMAX, k] < TINY
            full = s[SUM_L2, k] > ZERO
            out[start + k] = s[SUM_XL, k] / s[SUM_L2, k] if full and not dead else ZERO
            for i in range(size):
                integers[start + k, i] = 0 if dead else np.uint8(q[i, k])
