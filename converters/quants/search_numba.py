"""The searches as machine code: numba, one sub-block per SIMD lane.

In: sub-blocks as [n, size] float32. Out: what the search found, numbers per sub-block. ggml adds
the products of a sub-block one after the other, so a compiler may not vectorise along it without
changing the result. Here LANES sub-blocks are transposed into a [size, LANES] scratch that stays in
the near caches, every lane adds in ggml's order, and the loop over lanes is what LLVM vectorises:
branches are selects, and a tile's numbers are rows of one array so that LLVM sees they are apart.
A bare literal would widen the arithmetic to 64 bits, hence the many casts.

`search_numpy` has the same functions, says what they compute, and serves where numba has no wheel.
All kernels are in this one file: numba notices that a source file changed, but not its imports.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.quants.fits import CODEBOOK, GIVEN, MAGNITUDE, RMS, SQUARE, TINY, AffineFit
from converters.quants.kernel_cache import is_compiled, kernel, mark_compiled
from converters.transforms import F32

Levels = npt.NDArray[np.uint8]

f32, i32 = np.float32, np.int32
LANES = 128
UNROLL = 4
SIZE = 32  # the longest sub-block

_MAGIC = f32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer in the mantissa's low bits
_ZERO, _ONE, _TINY, _INFINITE = f32(0), f32(1), f32(TINY), f32(np.inf)
_FIRST = f32(CODEBOOK[0])
_MIDS = tuple(f32((a + b) / 2) for a, b in pairwise(CODEBOOK))
_RISES = tuple(f32(b - a) for a, b in pairwise(CODEBOOK))

# Rows of a tile's state.
LOW, HIGH, FLOOR, SUM_W, SUM_X, ERROR, SCALE, INVERSE, ORIGIN = range(9)
TRY, SUM_L, SUM_L2, SUM_XL, NEW_SCALE, NEW_LOW, NEW_ERROR, DET = range(9, 17)
PEAK, AMAX, BEST = LOW, HIGH, ERROR  # of a symmetric search
N_STATE = 17


@kernel
def _nearest(v: Any) -> Any:
    """Round half to even; beyond 2^22 wrong in the way ggml is."""
    return i32((f32(v + _MAGIC).view(np.int32) & i32(0x007FFFFF)) - i32(0x00400000))


@kernel
def _level(v: Any, low: Any, high: Any) -> Any:
    """The nearest integer within low..high (int32), as float32."""
    found = _nearest(v)
    found = low if found < low else found
    return f32(high if found > high else found)


@kernel
def _load(source: Any, start: Any, tile: Any) -> Any:
    """Transpose sub-blocks from `start` on into the tile; returns how many there are."""
    count, size = source.shape
    lanes = min(LANES, count - start)
    for k in range(lanes):
        for i in range(size):
            tile[i, k] = source[start + k, i]
    for k in range(lanes, LANES):
        for i in range(size):
            tile[i, k] = _ZERO
    return lanes


@kernel
def _weigh(x: Any, size: Any, weighting: Any, w: Any) -> None:
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
def _affine_start(x: Any, w: Any, size: Any, fit: Any, s: Any) -> None:
    """Range, sums and the error of the first guess."""
    top = f32(fit.n_max)
    for k in range(LANES):
        s[LOW, k] = x[0, k]
        s[HIGH, k] = x[0, k]
        s[SUM_W, k] = w[0, k]
        s[SUM_X, k] = w[0, k] * x[0, k]
        s[ERROR, k] = _ZERO
    for i in range(1, size):
        for k in range(LANES):
            v = x[i, k]
            s[LOW, k] = v if v < s[LOW, k] else s[LOW, k]
            s[HIGH, k] = v if v > s[HIGH, k] else s[HIGH, k]
            s[SUM_W, k] += w[i, k]
            s[SUM_X, k] += w[i, k] * v
    for k in range(LANES):
        s[LOW, k] = _ZERO if s[LOW, k] > _ZERO else s[LOW, k]
        s[FLOOR, k] = s[LOW, k]
        s[ORIGIN, k] = s[LOW, k]
        s[INVERSE, k] = top / (s[HIGH, k] - s[LOW, k])
        s[SCALE, k] = _ONE / s[INVERSE, k]
    for i in range(size):
        for k in range(LANES):
            q = _level(s[INVERSE, k] * (x[i, k] - s[LOW, k]), i32(0), i32(fit.n_max))
            d = s[SCALE, k] * q + s[LOW, k] - x[i, k]
            s[ERROR, k] += w[i, k] * (abs(d) if fit.absolute else d * d)
    for k in range(LANES):  # an infinite inverse made every level 0
        s[INVERSE, k] = _ZERO if s[INVERSE, k] == _INFINITE else s[INVERSE, k]


@kernel
def _affine_levels(x: Any, size: Any, fit: Any, s: Any, q: Any) -> None:
    """Levels of the candidate TRY."""
    top = f32(fit.n_max)
    if fit.clamped:
        for i in range(size):
            for k in range(LANES):
                v = s[TRY, k] * (x[i, k] - s[LOW, k])
                v = v if v > _ZERO else _ZERO
                v = v if v < top else top
                q[i, k] = f32(_nearest(v))
    else:
        for i in range(size):
            for k in range(LANES):
                v = s[TRY, k] * (x[i, k] - s[LOW, k])
                q[i, k] = _level(v, i32(0), i32(fit.n_max))


@kernel
def _affine_solve(x: Any, w: Any, q: Any, size: Any, s: Any) -> None:
    """Weighted least squares for the levels q; the minimum must not be above zero."""
    for k in range(LANES):
        s[SUM_L, k] = _ZERO
        s[SUM_L2, k] = _ZERO
        s[SUM_XL, k] = _ZERO
        s[NEW_ERROR, k] = _ZERO
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
        s[NEW_SCALE, k] = s[SUM_XL, k] / s[SUM_L2, k] if low > _ZERO else scale
        s[NEW_LOW, k] = _ZERO if low > _ZERO else low
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
        better = s[DET, k] > _ZERO and s[NEW_ERROR, k] < s[ERROR, k]
        s[ERROR, k] = s[NEW_ERROR, k] if better else s[ERROR, k]
        s[SCALE, k] = s[NEW_SCALE, k] if better else s[SCALE, k]
        s[INVERSE, k] = s[TRY, k] if better else s[INVERSE, k]
        s[ORIGIN, k] = s[LOW, k] if better else s[ORIGIN, k]
        s[LOW, k] = s[NEW_LOW, k] if better else s[LOW, k]


@kernel
def _affine(source: Any, weights: Any, fit: Any, out: Any) -> None:
    """out: [4, n] = scale, low, and inverse, origin, from which the levels can be had again."""
    count, size = source.shape
    x = np.empty((SIZE, LANES), np.float32)
    w = np.empty((SIZE, LANES), np.float32)
    q = np.empty((SIZE, LANES), np.float32)
    s = np.empty((N_STATE, LANES), np.float32)
    for start in range(0, count, LANES):
        lanes = _load(source, start, x)
        if fit.weighting == GIVEN:
            _load(weights, start, w)
        else:
            _weigh(x, size, fit.weighting, w)
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
            out[0, start + k] = _ZERO if flat else s[SCALE, k]
            out[1, start + k] = s[FLOOR, k] if flat else s[LOW, k]
            out[2, start + k] = _ZERO if flat else s[INVERSE, k]
            out[3, start + k] = s[ORIGIN, k]


@kernel
def _round_affine(x: Any, scale: Any, shift: Any, found: Any, fit: Any, out: Any) -> None:
    count, size = x.shape
    top = f32(fit.n_max)
    for n in range(count):
        d, m = scale[n], shift[n]
        if d != _ZERO:
            for i in range(size):
                out[n, i] = np.uint8(_level((x[n, i] + m) / d, i32(0), i32(fit.n_max)))
        else:
            for i in range(size):
                v = found[2, n] * (x[n, i] - found[3, n])
                if fit.clamped:
                    v = v if v > _ZERO else _ZERO
                    v = v if v < top else top
                out[n, i] = np.uint8(_level(v, i32(0), i32(fit.n_max)))


@kernel
def _peaks(x: Any, size: Any, s: Any) -> None:
    """The value of largest magnitude, with its sign; the first of several."""
    for k in range(LANES):
        s[AMAX, k] = _ZERO
        s[PEAK, k] = _ZERO
    for i in range(size):
        for k in range(LANES):
            bigger = abs(x[i, k]) > s[AMAX, k]
            s[PEAK, k] = x[i, k] if bigger else s[PEAK, k]
            s[AMAX, k] = abs(x[i, k]) if bigger else s[AMAX, k]


@kernel
def _symmetric_sums(x: Any, w: Any, size: Any, n_max: Any, s: Any) -> None:
    """Sums for the levels that the inverse TRY gives."""
    for k in range(LANES):
        s[SUM_XL, k] = _ZERO
        s[SUM_L2, k] = _ZERO
    for i in range(0, size, UNROLL):
        for k in range(LANES):
            inverse, sum_xl, sum_l2 = s[TRY, k], s[SUM_XL, k], s[SUM_L2, k]
            for j in range(i, i + UNROLL):
                q = _level(inverse * x[j, k], i32(-n_max), i32(n_max - 1))
                sum_xl += w[j, k] * x[j, k] * q
                sum_l2 += w[j, k] * q * q
            s[SUM_XL, k], s[SUM_L2, k] = sum_xl, sum_l2


@kernel
def _symmetric_keep(s: Any) -> None:
    for k in range(LANES):
        xl, l2 = s[SUM_XL, k], s[SUM_L2, k]
        better = l2 > _ZERO and xl * xl > s[BEST, k] * l2
        scale = xl / l2
        s[SCALE, k] = scale if better else s[SCALE, k]
        s[INVERSE, k] = s[TRY, k] if better else s[INVERSE, k]
        s[BEST, k] = scale * xl if better else s[BEST, k]


@kernel
def _symmetric(source: Any, weights: Any, weighting: Any, n_max: Any, out: Any) -> None:
    """out: [2, n] = scale, inverse; both 0 for a sub-block that counts as zero."""
    count, size = source.shape
    x = np.empty((SIZE, LANES), np.float32)
    w = np.empty((SIZE, LANES), np.float32)
    s = np.empty((N_STATE, LANES), np.float32)
    for start in range(0, count, LANES):
        lanes = _load(source, start, x)
        if weighting == GIVEN:
            _load(weights, start, w)
        else:
            _weigh(x, size, weighting, w)
        _peaks(x, size, s)
        for k in range(LANES):
            s[TRY, k] = f32(-n_max) / s[PEAK, k]
        _symmetric_sums(x, w, size, n_max, s)
        for k in range(LANES):
            full = s[SUM_L2, k] != _ZERO
            s[SCALE, k] = s[SUM_XL, k] / s[SUM_L2, k] if full else _ZERO
            s[INVERSE, k] = s[TRY, k]
            s[BEST, k] = s[SCALE, k] * s[SUM_XL, k]
        for c in range(-9, 10):
            if c != 0:
                top = -f32(f32(n_max) + f32(f32(0.1) * f32(c)))
                for k in range(LANES):
                    s[TRY, k] = top / s[PEAK, k]
                _symmetric_sums(x, w, size, n_max, s)
                _symmetric_keep(s)
        for k in range(lanes):
            dead = s[AMAX, k] < _TINY
            out[0, start + k] = _ZERO if dead else s[SCALE, k]
            out[1, start + k] = _ZERO if dead else s[INVERSE, k]


@kernel
def _descend_sweep(x: Any, q: Any, size: Any, n_max: Any, s: Any) -> None:
    for i in range(size):
        for k in range(LANES):
            v, old, xl, l2 = x[i, k], q[i, k], s[SUM_XL, k], s[SUM_L2, k]
            w = v * v
            less_xl = xl - w * v * old
            less_l2 = l2 - w * old * old
            new = _level(v * less_l2 / less_xl, i32(-n_max), i32(n_max - 1))
            new_xl = less_xl + w * v * new
            new_l2 = less_l2 + w * new * new
            better = new_l2 > _ZERO and new_xl * new_xl * l2 > xl * xl * new_l2
            better = better and less_xl > _ZERO and new != old
            q[i, k] = new if better else old
            s[SUM_XL, k] = new_xl if better else xl
            s[SUM_L2, k] = new_l2 if better else l2


@kernel
def _descend(source: Any, n_max: Any, out: Any, levels: Any) -> None:
    """out: [n] scales; levels: [n, size], 0..2 n_max - 1."""
    count, size = source.shape
    x = np.empty((SIZE, LANES), np.float32)
    w = np.empty((SIZE, LANES), np.float32)
    q = np.empty((SIZE, LANES), np.float32)
    s = np.empty((N_STATE, LANES), np.float32)
    for start in range(0, count, LANES):
        lanes = _load(source, start, x)
        _weigh(x, size, SQUARE, w)
        _peaks(x, size, s)
        for k in range(LANES):
            s[TRY, k] = f32(-n_max) / s[PEAK, k]
        _symmetric_sums(x, w, size, n_max, s)
        for i in range(size):
            for k in range(LANES):
                q[i, k] = _level(s[TRY, k] * x[i, k], i32(-n_max), i32(n_max - 1))
        for _ in range(5):
            _descend_sweep(x, q, size, n_max, s)
        for k in range(lanes):
            dead = s[AMAX, k] < _TINY
            full = s[SUM_L2, k] > _ZERO
            scale = s[SUM_XL, k] / s[SUM_L2, k] if full else _ZERO
            out[start + k] = _ZERO if dead else scale
            for i in range(size):
                levels[start + k, i] = 0 if dead else np.uint8(q[i, k] + f32(n_max))


@kernel
def _code_sums(x: Any, w: Any, size: Any, s: Any) -> None:
    """Sums for the code values that the inverse TRY gives."""
    for k in range(LANES):
        s[SUM_XL, k] = _ZERO
        s[SUM_L2, k] = _ZERO
    for i in range(size):
        for k in range(LANES):
            v = s[TRY, k] * x[i, k]
            q = _FIRST
            for t in range(15):
                q += _ZERO if v < _MIDS[t] else _RISES[t]
            wq = w[i, k] * q
            s[SUM_XL, k] += wq * x[i, k]
            s[SUM_L2, k] += wq * q


@kernel
def _codebook(source: Any, weights: Any, weighting: Any, out: Any) -> None:
    """out: [n] scales; 0 for a sub-block that counts as zero."""
    count, size = source.shape
    x = np.empty((SIZE, LANES), np.float32)
    w = np.empty((SIZE, LANES), np.float32)
    s = np.empty((N_STATE, LANES), np.float32)
    for start in range(0, count, LANES):
        lanes = _load(source, start, x)
        if weighting == GIVEN:
            _load(weights, start, w)
        else:
            _weigh(x, size, weighting, w)
        _peaks(x, size, s)
        for k in range(LANES):
            s[TRY, k] = _ONE / (-s[PEAK, k] / _FIRST)
        _code_sums(x, w, size, s)
        for k in range(LANES):
            full = s[SUM_L2, k] > _ZERO
            s[SCALE, k] = s[SUM_XL, k] / s[SUM_L2, k] if full else _ZERO
            s[BEST, k] = s[SCALE, k] * s[SUM_XL, k]
        for c in range(-7, 8):
            for k in range(LANES):
                s[TRY, k] = f32(f32(c) + _FIRST) / s[PEAK, k]
            _code_sums(x, w, size, s)
            _symmetric_keep(s)
        for k in range(lanes):
            out[start + k] = _ZERO if s[AMAX, k] < _TINY else s[SCALE, k]


@kernel
def _round_symmetric(x: Any, scale: Any, found: Any, n_max: Any, out: Any) -> None:
    count, size = x.shape
    for n in range(count):
        d, inverse = scale[n], found[n]
        if d != _ZERO:
            for i in range(size):
                q = _level(x[n, i] / d, i32(-n_max), i32(n_max - 1))
                out[n, i] = np.uint8(q + f32(n_max))
        elif inverse != _ZERO:
            for i in range(size):
                q = _level(x[n, i] * inverse, i32(-n_max), i32(n_max - 1))
                out[n, i] = np.uint8(q + f32(n_max))
        else:
            for i in range(size):
                out[n, i] = 0


@kernel
def _round_codebook(x: Any, inverse: Any, out: Any) -> None:
    count, size = x.shape
    for n in range(count):
        for i in range(size):
            v = x[n, i] * inverse[n]
            q = 0
            for t in range(15):
                q += 0 if v < _MIDS[t] else 1
            out[n, i] = np.uint8(q)


def affine(x: F32, w: F32 | None, fit: AffineFit) -> F32:
    """See search_numpy.affine."""
    out = np.empty((4, len(x)), np.float32)
    _run(_affine, x, x if w is None else w, fit, out)
    return out


def symmetric(x: F32, w: F32 | None, n_max: int) -> F32:
    """See search_numpy.symmetric."""
    out = np.empty((2, len(x)), np.float32)
    _run(_symmetric, x, x if w is None else w, SQUARE if w is None else GIVEN, n_max, out)
    return out


def descend(x: F32, n_max: int) -> tuple[F32, Levels]:
    """See search_numpy.descend."""
    out, levels = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    _run(_descend, x, n_max, out, levels)
    return out, levels


def codebook(x: F32, w: F32 | None) -> F32:
    """See search_numpy.codebook."""
    out = np.empty(len(x), np.float32)
    _run(_codebook, x, x if w is None else w, SQUARE if w is None else GIVEN, out)
    return out


def round_affine(x: F32, scale: F32, shift: F32, found: F32, fit: AffineFit) -> Levels:
    """See search_numpy.round_affine."""
    out = np.empty(x.shape, np.uint8)
    _run(_round_affine, x, scale, shift, found, fit, out)
    return out


def round_symmetric(x: F32, scale: F32, inverse: F32, n_max: int) -> Levels:
    """See search_numpy.round_symmetric."""
    out = np.empty(x.shape, np.uint8)
    _run(_round_symmetric, x, scale, inverse, n_max, out)
    return out


def round_codebook(x: F32, inverse: F32) -> Levels:
    """See search_numpy.round_codebook."""
    out = np.empty(x.shape, np.uint8)
    _run(_round_codebook, x, inverse, out)
    return out


def is_ready(name: str) -> bool:
    """Whether the kernel of this name need not be compiled any more, here or ever."""
    return name in _USED or is_compiled(name, __file__)


def _run(compiled: Any, *arguments: Any) -> None:
    """Calls a kernel; every array contiguous and writable, because others are other types."""
    compiled(*(_plain(a) if isinstance(a, np.ndarray) else a for a in arguments))
    name = compiled.__name__
    if name not in _USED:
        _USED.add(name)
        mark_compiled(name, __file__)


def _plain(array: Any) -> Any:
    return np.require(array, requirements=["C", "A", "W"])


_USED: set[str] = set()
