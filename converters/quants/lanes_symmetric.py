"""Lane kernels of the symmetric searches: how in `lanes_vector`, what in search_numpy.symmetric."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.fits import GIVEN, SQUARE, TINY
from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import ZERO, f32
from converters.quants.lanes_tile import empty_into, fill, peaks, weigh
from converters.quants.lanes_vector import (
    absolute,
    address,
    aligned,
    everywhere,
    get,
    get_row,
    nearest,
    offset,
    put,
    put_bytes,
    rounded,
    select,
    splat,
    splat_row,
)
from converters.quants.lanes_width import LANES, ROW, TILE


@kernel
def _sums(x: Any, w: Any, wx: Any, size: Any, by: Any, n_max: Any) -> Any:
    """Sums of w * x * level and w * level^2. wx: w * x.

    A quotient cannot leave the range in which `rounded` is `nearest`.
    """
    low, high = splat(f32(-n_max)), splat(f32(n_max - 1))
    sum_xl = sum_l2 = splat(ZERO)
    for i in range(size):
        q = rounded(by * get(x, i))
        q = select(q > low, q, low)
        q = select(q < high, q, high)
        sum_xl = sum_xl + get(wx, i) * q
        sum_l2 = sum_l2 + get(w, i) * q * q
    return sum_xl, sum_l2


@kernel
def _level(v: Any, n_max: Any) -> Any:
    """The nearest of the levels, of any quotient."""
    low, high = splat(f32(-n_max)), splat(f32(n_max - 1))
    q = nearest(v)
    q = select(q < low, low, q)
    return select(q > high, high, q)


@kernel
def _products(x: Any, w: Any, size: Any, wx: Any) -> None:
    for i in range(size):
        put(wx, i, get(w, i) * get(x, i))


@kernel
def _search(x: Any, w: Any, wx: Any, size: Any, n_max: Any, found: Any) -> None:
    """found: rows scale, inverse; both 0 for a sub-block that counts as zero."""
    zero = splat(ZERO)
    peak = peaks(x, size)
    inverse = splat(f32(-n_max)) / peak
    sum_xl, sum_l2 = _sums(x, w, wx, size, inverse, n_max)
    scale = select(sum_l2 != zero, sum_xl / sum_l2, zero)
    best = scale * sum_xl
    for c in range(-9, 10):
        if c != 0:
            by = splat(-f32(f32(n_max) + f32(f32(0.1) * f32(c)))) / peak
            sum_xl, sum_l2 = _sums(x, w, wx, size, by, n_max)
            better = (sum_l2 > zero) & (sum_xl * sum_xl > best * sum_l2)
            new = sum_xl / sum_l2
            scale = select(better, new, scale)
            inverse = select(better, by, inverse)
            best = select(better, new * sum_xl, best)
    dead = absolute(peak) < splat(TINY)
    put(found, 0, select(dead, zero, scale))
    put(found, 1, select(dead, zero, inverse))


@kernel
def symmetric(source: Any, weights: Any, weighting: Any, n_max: Any, out: Any, room: Any) -> None:
    """out: [2, n] = scale, inverse; both 0 for a sub-block that counts as zero."""
    count, size = source.shape
    x = aligned(room)
    w, wx, found = offset(x, TILE), offset(x, 2 * TILE), offset(x, 3 * TILE)
    for start in range(0, count, LANES):
        fill(source, start, x)
        if weighting == GIVEN:
            fill(weights, start, w)
        else:
            weigh(x, size, weighting, w)
        _products(x, w, size, wx)
        _search(x, w, wx, size, n_max, found)
        for j in range(2):
            empty_into(found, j, out[j], start)


@kernel
def _sweep(w: Any, x: Any, wx: Any, q: Any, size: Any, n_max: Any, sums: Any) -> Any:
    """One pass over the levels q; each changes where that explains more.

    Returns the sums, and whether no level changed.
    """
    zero = splat(ZERO)
    xl, l2 = sums
    same = zero
    for i in range(size):
        old = get(q, i)
        less_xl = xl - get(wx, i) * old
        less_l2 = l2 - get(w, i) * old * old
        new = _level(get(x, i) * less_l2 / less_xl, n_max)
        new_xl = less_xl + get(wx, i) * new
        new_l2 = less_l2 + get(w, i) * new * new
        better = (less_xl > zero) & (new_l2 > zero) & (new != old)
        better = better & (new_xl * new_xl * l2 > xl * xl * new_l2)
        put(q, i, select(better, new, old))
        same = select(better, old - new, same)
        xl = select(better, new_xl, xl)
        l2 = select(better, new_l2, l2)
    return (xl, l2), everywhere(same == zero)


@kernel
def _descend(x: Any, w: Any, wx: Any, q: Any, size: Any, n_max: Any) -> Any:
    """The scales, 0 for a sub-block that counts as zero; q: levels from 0."""
    zero, middle = splat(ZERO), splat(f32(n_max))
    peak = peaks(x, size)
    inverse = splat(f32(-n_max)) / peak
    sums = _sums(x, w, wx, size, inverse, n_max)
    for i in range(size):
        put(q, i, _level(inverse * get(x, i), n_max))
    for _ in range(5):
        sums, done = _sweep(w, x, wx, q, size, n_max, sums)
        if done:
            break
    dead = absolute(peak) < splat(TINY)
    for i in range(size):
        put(q, i, select(dead, zero, get(q, i) + middle))
    xl, l2 = sums
    return select(dead, zero, select(l2 > zero, xl / l2, zero))


@kernel
def descend(source: Any, n_max: Any, out: Any, levels: Any, room: Any) -> None:
    """out: [n] scales; levels: [n, size], 0..2 n_max - 1."""
    count, size = source.shape
    x = aligned(room)
    w, wx = offset(x, TILE), offset(x, 2 * TILE)
    q, found = offset(x, 3 * TILE), offset(x, 4 * TILE)
    for start in range(0, count, LANES):
        fill(source, start, x)
        weigh(x, size, SQUARE, w)
        _products(x, w, size, wx)
        put(found, 0, _descend(x, w, wx, q, size, n_max))
        empty_into(found, 0, out, start)
        for k in range(min(LANES, count - start)):
            for i in range(size):
                levels[start + k, i] = np.uint8(q[i * LANES + k])


@kernel
def stored_symmetric(x: Any, size: Any, scale: Any, n_max: Any, out: Any) -> None:
    """out: the levels of a sub-block from 0, for its scale as stored, which is not 0."""
    by = splat_row(scale)
    for i in range(0, size, ROW):
        put_bytes(out, i, _from_zero(get_row(x, i) / by, n_max))


@kernel
def kept_symmetric(x: Any, size: Any, inverse: Any, n_max: Any, out: Any) -> None:
    """out: the levels that the search found; 0 for a sub-block that counts as zero."""
    by = splat_row(inverse)
    none = by == splat_row(ZERO)
    for i in range(0, size, ROW):
        q = _from_zero(get_row(x, i) * by, n_max)
        put_bytes(out, i, select(none, splat_row(ZERO), q))


@kernel
def _from_zero(v: Any, n_max: Any) -> Any:
    low, high = splat_row(f32(-n_max)), splat_row(f32(n_max - 1))
    q = nearest(v)
    q = select(q < low, low, q)
    return select(q > high, high, q) - low


@kernel
def round_symmetric(x: Any, scale: Any, found: Any, n_max: Any, out: Any) -> None:
    """out: [n, size] levels; found: the inverses that `symmetric` put out."""
    count, size = x.shape
    rows, levels = address(x), address(out)
    for n in range(count):
        at = n * size
        if scale[n] != ZERO:
            stored_symmetric(offset(rows, at), size, scale[n], n_max, offset(levels, at))
        else:
            kept_symmetric(offset(rows, at), size, found[n], n_max, offset(levels, at))
