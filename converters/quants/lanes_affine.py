"""Lane kernels of the affine searches: see `lanes_vector` for how, search_numpy.affine for what."""

from __future__ import annotations

from typing import Any

from converters.quants.fits import GIVEN
from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import INFINITE, ONE, ZERO, f32
from converters.quants.lanes_tile import empty_into, fill, weigh
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

_LIMIT = f32(4e6)  # below 2^22, so that adding MAGIC rounds


@kernel
def _range(x: Any, w: Any, size: Any) -> Any:
    """Low (not above zero), high, and the sums of w and w * x."""
    low = high = get(x, 0)
    sum_w = get(w, 0)
    sum_x = sum_w * low
    for i in range(1, size):
        v, weight = get(x, i), get(w, i)
        low = select(v < low, v, low)
        high = select(v > high, v, high)
        sum_w = sum_w + weight
        sum_x = sum_x + weight * v
    return select(low > splat(ZERO), splat(ZERO), low), high, sum_w, sum_x


@kernel
def _wrapped(x: Any, size: Any, by: Any, low: Any, top: Any, q: Any) -> None:
    """q: levels of any quotient, as wrong as ggml's where adding MAGIC does not round."""
    zero = splat(ZERO)
    for i in range(size):
        v = nearest(by * (get(x, i) - low))
        v = select(v < zero, zero, v)
        put(q, i, select(v > top, top, v))


@kernel
def _error(x: Any, w: Any, q: Any, size: Any, scale: Any, low: Any, is_absolute: Any) -> Any:
    total = splat(ZERO)
    if is_absolute:
        for i in range(size):
            total = total + get(w, i) * absolute(scale * get(q, i) + low - get(x, i))
    else:
        for i in range(size):
            d = scale * get(q, i) + low - get(x, i)
            total = total + get(w, i) * (d * d)
    return total


@kernel
def _sums(x: Any, w: Any, q: Any, size: Any) -> Any:
    """Sums of w * q, w * q * q and w * q * x."""
    sum_l = sum_l2 = sum_xl = splat(ZERO)
    for i in range(size):
        level = get(q, i)
        wl = get(w, i) * level
        sum_l = sum_l + wl
        sum_l2 = sum_l2 + wl * level
        sum_xl = sum_xl + wl * get(x, i)
    return sum_l, sum_l2, sum_xl


@kernel
def _limited_sums(x: Any, w: Any, size: Any, by: Any, low: Any, top: Any, q: Any) -> Any:
    """As `_sums`, of levels found here: quotients are limited, then rounded."""
    zero = splat(ZERO)
    sum_l = sum_l2 = sum_xl = zero
    for i in range(size):
        v = get(x, i)
        level = by * (v - low)
        level = select(level > zero, level, zero)
        level = rounded(select(level < top, level, top))
        put(q, i, level)
        wl = get(w, i) * level
        sum_l = sum_l + wl
        sum_l2 = sum_l2 + wl * level
        sum_xl = sum_xl + wl * v
    return sum_l, sum_l2, sum_xl


@kernel
def _solve(sum_w: Any, sum_x: Any, sums: Any) -> Any:
    """Weighted least squares: determinant, scale, and low, which must not be above zero."""
    sum_l, sum_l2, sum_xl = sums
    det = sum_w * sum_l2 - sum_l * sum_l
    scale = (sum_w * sum_xl - sum_x * sum_l) / det
    low = (sum_l2 * sum_x - sum_l * sum_xl) / det
    above = low > splat(ZERO)
    return det, select(above, sum_xl / sum_l2, scale), select(above, splat(ZERO), low)


@kernel
def _search(x: Any, w: Any, q: Any, size: Any, fit: Any, found: Any) -> None:
    """found: rows scale, low, inverse, origin."""
    zero, top, limit = splat(ZERO), splat(f32(fit.n_max)), splat(_LIMIT)
    low, high, sum_w, sum_x = _range(x, w, size)
    floor = origin = low
    inverse = top / (high - low)
    scale = splat(ONE) / inverse
    _wrapped(x, size, inverse, low, top, q)
    error = _error(x, w, q, size, scale, low, fit.absolute)
    inverse = select(inverse == splat(INFINITE), zero, inverse)  # it made every level 0
    for c in range(fit.steps + 1):
        above = f32(f32(fit.first) + f32(f32(fit.step) * f32(c))) + f32(fit.n_max)
        by = splat(above) / (high - low)
        small = absolute(by * (high - low)) < limit
        if fit.clamped or everywhere(small & (absolute(by * (floor - low)) < limit)):
            sums = _limited_sums(x, w, size, by, low, top, q)
        else:
            _wrapped(x, size, by, low, top, q)
            sums = _sums(x, w, q, size)
        det, new_scale, new_low = _solve(sum_w, sum_x, sums)
        new_error = _error(x, w, q, size, new_scale, new_low, fit.absolute)
        better = (det > zero) & (new_error < error)
        error = select(better, new_error, error)
        scale = select(better, new_scale, scale)
        inverse = select(better, by, inverse)
        origin = select(better, low, origin)
        low = select(better, new_low, low)
    flat = high == floor
    put(found, 0, select(flat, zero, scale))
    put(found, 1, select(flat, floor, low))
    put(found, 2, select(flat, zero, inverse))
    put(found, 3, origin)


@kernel
def affine(source: Any, weights: Any, fit: Any, out: Any, room: Any) -> None:
    """out: [4, n] = scale, low, and inverse, origin, from which the levels can be had again."""
    count, size = source.shape
    x = aligned(room)
    w, q, found = offset(x, TILE), offset(x, 2 * TILE), offset(x, 3 * TILE)
    for start in range(0, count, LANES):
        fill(source, start, x)
        if fit.weighting == GIVEN:
            fill(weights, start, w)
        else:
            weigh(x, size, fit.weighting, w)
        _search(x, w, q, size, fit, found)
        for j in range(4):
            empty_into(found, j, out[j], start)


@kernel
def stored_affine(x: Any, size: Any, scale: Any, shift: Any, n_max: Any, out: Any) -> None:
    """out: the levels of a sub-block for its scale and shift as stored; the scale is not 0."""
    zero, top = splat_row(ZERO), splat_row(f32(n_max))
    by, shifted = splat_row(scale), splat_row(shift)
    for i in range(0, size, ROW):
        q = nearest((get_row(x, i) + shifted) / by)
        q = select(q < zero, zero, q)
        put_bytes(out, i, select(q > top, top, q))


@kernel
def kept_affine(x: Any, size: Any, inverse: Any, origin: Any, fit: Any, out: Any) -> None:
    """out: the levels that the search found."""
    zero, top = splat_row(ZERO), splat_row(f32(fit.n_max))
    by, low = splat_row(inverse), splat_row(origin)
    for i in range(0, size, ROW):
        v = by * (get_row(x, i) - low)
        if fit.clamped:
            v = select(v > zero, v, zero)
            v = select(v < top, v, top)
        q = nearest(v)
        q = select(q < zero, zero, q)
        put_bytes(out, i, select(q > top, top, q))


@kernel
def round_affine(x: Any, scale: Any, shift: Any, found: Any, fit: Any, out: Any) -> None:
    """out: [n, size] levels; found: what `affine` put out."""
    count, size = x.shape
    rows, levels = address(x), address(out)
    for n in range(count):
        at = n * size
        if scale[n] != ZERO:
            stored_affine(offset(rows, at), size, scale[n], shift[n], fit.n_max, offset(levels, at))
        else:
            kept_affine(offset(rows, at), size, found[2, n], found[3, n], fit, offset(levels, at))
