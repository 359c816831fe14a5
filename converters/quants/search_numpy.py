"""The searches for scales, as ggml does them, in NumPy: the fallback and the second opinion.

In: sub-blocks x: [n, size] float32, and weights of the same shape or None. Out: numbers per
sub-block. Formulas: ggml/src/ggml-quants.c (make_qkx2_quants and make_qkx3_quants are `affine`,
make_qx_quants is `symmetric`, make_q3_quants is `descend`, quantize_row_iq4_nl_impl is `codebook`).
To have ggml's bytes, every sum over a sub-block is a loop over its elements, in order, in float32;
vectors run across sub-blocks, on a transposed copy. That rules out np.sum, einsum and matmul here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType as Kind

from converters.quants import layout, subscales
from converters.quants.fits import CODEBOOK, MAGNITUDE, RMS, TINY, AffineFit, nearest
from converters.quants.scales import scales_of
from converters.transforms import F32, Index

Bytes = npt.NDArray[np.uint8]

_MIDS = np.array([(a + b) / 2 for a, b in pairwise(CODEBOOK)], np.float32)
_VALUES = np.array(CODEBOOK, np.float32)
_LANES = 4096  # sub-blocks at a time: the scratch stays in the caches
_AFFINE = {3: Kind.Q2_K, 15: Kind.Q4_K, 31: Kind.Q5_K}
_SYMMETRIC = {4: Kind.Q3_K, 32: Kind.Q6_K}
_HALF = np.float32(np.nextafter(np.float32(0.5), np.float32(0)))


def affine(x: F32, w: F32 | None, fit: AffineFit) -> F32:
    """x ~ scale * level + low with low <= 0: [4, n] = scale, low, inverse, origin.

    level = round(inverse * (x - origin)) gives the levels that belong to the scale; they are needed
    where the scale rounds to 0 in the file. A better candidate's low serves the later candidates.
    """
    return _in_pieces(lambda a, b: _affine(a, b, fit), x, w)


def _affine(x: F32, given: F32 | None, fit: AffineFit) -> F32:
    w = _weights(x, fit.weighting) if given is None else given
    low, high, sum_w, sum_x = x[0].copy(), x[0].copy(), w[0].copy(), w[0] * x[0]
    for row, weight in zip(x[1:], w[1:], strict=True):
        low = np.where(row < low, row, low)
        high = np.where(row > high, row, high)
        sum_w += weight
        sum_x += weight * row
    low = np.where(low > 0, np.float32(0), low)
    floor, origin = low, low
    top = np.float32(fit.n_max)
    inverse = top / (high - low)
    scale = np.float32(1) / inverse
    levels = np.clip(nearest(inverse * (x - low)), 0, fit.n_max).astype(np.float32)
    error = _error(x, w, levels, scale, low, fit)
    inverse = np.where(np.isinf(inverse), np.float32(0), inverse)
    for c in range(fit.steps + 1):
        above = np.float32(fit.first) + np.float32(fit.step) * np.float32(c) + top
        tried = above / (high - low)
        levels = _affine_levels(tried * (x - low), fit)
        det, new_scale, new_low = _solve(x, w, levels, sum_w, sum_x)
        new_error = _error(x, w, levels, new_scale, new_low, fit)
        better = (det > 0) & (new_error < error)
        error = np.where(better, new_error, error)
        scale = np.where(better, new_scale, scale)
        inverse = np.where(better, tried, inverse)
        origin = np.where(better, low, origin)
        low = np.where(better, new_low, low)
    zero = np.float32(0)
    flat = high == floor
    return np.stack(
        [
            np.where(flat, zero, scale),
            np.where(flat, floor, low),
            np.where(flat, zero, inverse),
            origin,
        ]
    )


def _affine_levels(v: F32, fit: AffineFit) -> F32:
    if fit.clamped:
        v = np.where(v > 0, v, np.float32(0))
        v = np.where(v < fit.n_max, v, np.float32(fit.n_max))
    return np.clip(nearest(v), 0, fit.n_max).astype(np.float32)


def _solve(x: F32, w: F32, levels: F32, sum_w: F32, sum_x: F32) -> tuple[F32, F32, F32]:
    """Weighted least squares: determinant, scale, and low, which must not be above zero."""
    sum_l, sum_l2, sum_xl = np.zeros((3, x.shape[1]), np.float32)
    for row, weight, level in zip(x, w, levels, strict=True):
        wl = weight * level
        sum_l += wl
        sum_l2 += wl * level
        sum_xl += wl * row
    det = sum_w * sum_l2 - sum_l * sum_l
    scale = (sum_w * sum_xl - sum_x * sum_l) / det
    low = (sum_l2 * sum_x - sum_l * sum_xl) / det
    above = low > 0
    return det, np.where(above, sum_xl / sum_l2, scale), np.where(above, np.float32(0), low)


def _error(x: F32, w: F32, levels: F32, scale: F32, low: F32, fit: AffineFit) -> F32:
    total = np.zeros(x.shape[1], np.float32)
    for row, weight, level in zip(x, w, levels, strict=True):
        d = scale * level + low - row
        total += weight * (np.abs(d) if fit.absolute else d * d)
    return total


def _weights(x: F32, weighting: int) -> F32:
    """Weights that follow from the values: |x|, rms + |x|, or x squared."""
    if weighting == MAGNITUDE:
        return np.abs(x)
    squares = x * x
    if weighting != RMS:
        return squares
    total = np.zeros(x.shape[1], np.float32)
    for row in squares:
        total += row
    weights: F32 = np.sqrt(total / np.float32(len(x))) + np.abs(x)
    return weights


def symmetric(x: F32, w: F32 | None, n_max: int) -> F32:
    """x ~ scale * level, level in -n_max..n_max - 1: [2, n] = scale, inverse; both 0 if x is zero.

    Weights that are not given are x squared. level = round(inverse * x).
    """
    return _in_pieces(lambda a, b: _symmetric(a, b, n_max), x, w)


def _symmetric(x: F32, given: F32 | None, n_max: int) -> F32:
    w = x * x if given is None else given
    peak = _peak(x)
    inverse = np.float32(-n_max) / peak
    sum_xl, sum_l2 = _level_sums(x, w, inverse, n_max)
    zero = np.float32(0)
    scale = np.where(sum_l2 != 0, sum_xl / sum_l2, zero)
    best = scale * sum_xl
    for c in (*range(-9, 0), *range(1, 10)):
        tried = -(np.float32(n_max) + np.float32(0.1) * np.float32(c)) / peak
        sum_xl, sum_l2 = _level_sums(x, w, tried, n_max)
        scale, best, better = _keep(sum_xl, sum_l2, scale, best)
        inverse = np.where(better, tried, inverse)
    dead = np.abs(peak) < TINY
    return np.stack([np.where(dead, zero, scale), np.where(dead, zero, inverse)])


def _peak(x: F32) -> F32:
    """The value of largest magnitude with its sign, the first of several: [n]."""
    first = np.abs(x).argmax(axis=0)
    peak: F32 = np.take_along_axis(x, first[None], axis=0)[0]
    return peak


def _level_sums(x: F32, w: F32, inverse: F32, n_max: int) -> tuple[F32, F32]:
    sum_xl, sum_l2 = np.zeros((2, x.shape[1]), np.float32)
    for row, weight in zip(x, w, strict=True):
        level = np.clip(nearest(inverse * row), -n_max, n_max - 1).astype(np.float32)
        sum_xl += weight * row * level
        sum_l2 += weight * level * level
    return sum_xl, sum_l2


def _keep(sum_xl: F32, sum_l2: F32, scale: F32, best: F32) -> tuple[F32, F32, npt.NDArray[np.bool]]:
    """The candidate's scale where it explains more than the best so far."""
    better = (sum_l2 > 0) & (sum_xl * sum_xl > best * sum_l2)
    new = sum_xl / sum_l2
    return np.where(better, new, scale), np.where(better, new * sum_xl, best), better


def descend(x: F32, n_max: int) -> tuple[F32, Bytes]:
    """As `symmetric`, by changing one level after the other: scale [n], levels [n, size] from 0."""
    scales, levels = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    for start in range(0, len(x), _LANES):
        piece = slice(start, start + _LANES)
        scales[piece], found = _descend(np.ascontiguousarray(x[piece].T), n_max)
        levels[piece] = found.T
    return scales, levels


def _descend(x: F32, n_max: int) -> tuple[F32, Bytes]:
    peak = _peak(x)
    inverse = np.float32(-n_max) / peak
    w = x * x
    sum_xl, sum_l2 = _level_sums(x, w, inverse, n_max)
    levels = np.clip(nearest(inverse * x), -n_max, n_max - 1).astype(np.float32)
    for _ in range(5):
        for i, (row, weight) in enumerate(zip(x, w, strict=True)):
            less_xl = sum_xl - weight * row * levels[i]
            less_l2 = sum_l2 - weight * levels[i] * levels[i]
            new = np.clip(nearest(row * less_l2 / less_xl), -n_max, n_max - 1).astype(np.float32)
            new_xl = less_xl + weight * row * new
            new_l2 = less_l2 + weight * new * new
            better = (less_xl > 0) & (new != levels[i]) & (new_l2 > 0)
            better &= new_xl * new_xl * sum_l2 > sum_xl * sum_xl * new_l2
            levels[i] = np.where(better, new, levels[i])
            sum_xl = np.where(better, new_xl, sum_xl)
            sum_l2 = np.where(better, new_l2, sum_l2)
    dead = np.abs(peak) < TINY
    scale = np.where(sum_l2 > 0, sum_xl / sum_l2, np.float32(0))
    shifted = np.where(dead, np.float32(0), levels + np.float32(n_max)).astype(np.uint8)
    return np.where(dead, np.float32(0), scale), shifted


def codebook(x: F32, w: F32 | None) -> F32:
    """x ~ scale * one of CODEBOOK: [n] scales, 0 if x is zero. Weights not given are x squared."""
    scales: F32 = _in_pieces(_codebook, x, w)[0]
    return scales


def _codebook(x: F32, given: F32 | None) -> F32:
    w = x * x if given is None else given
    peak = _peak(x)
    first = _VALUES[0]
    sum_xl, sum_l2 = _code_sums(x, w, np.float32(1) / (-peak / first))
    scale = np.where(sum_l2 > 0, sum_xl / sum_l2, np.float32(0))
    best = scale * sum_xl
    for c in range(-7, 8):
        sum_xl, sum_l2 = _code_sums(x, w, (np.float32(c) + first) / peak)
        scale, best, _ = _keep(sum_xl, sum_l2, scale, best)
    return np.where(np.abs(peak) < TINY, np.float32(0), scale)[None]


def _code_sums(x: F32, w: F32, inverse: F32) -> tuple[F32, F32]:
    sum_xl, sum_l2 = np.zeros((2, x.shape[1]), np.float32)
    for row, weight in zip(x, w, strict=True):
        value = _VALUES[np.searchsorted(_MIDS, inverse * row, side="right")]
        sum_xl += weight * value * row
        sum_l2 += weight * value * value
    return sum_xl, sum_l2


def scales(x: F32, w: F32, n_max: int) -> tuple[F32, Bytes]:
    """Sub-scales [n, k] with weights -> one scale [n] and integers [n, k]."""
    return subscales.by_least_squares(x, w, n_max)


def by_largest(scales: F32, n_max: int) -> tuple[F32, Bytes]:
    """Sub-scales [n, k] -> one scale [n] and integers [n, k]."""
    return subscales.by_largest(scales, n_max)


def signed_scales(scales: F32, n_max: int) -> tuple[F32, npt.NDArray[np.int8]]:
    """Sub-scales of any sign [n, k] -> one scale [n], 0 for zeros, and integers [n, k]."""
    return subscales.signed(scales, n_max)


def round_affine(x: F32, scale: F32, shift: F32, found: F32, fit: AffineFit) -> Bytes:
    """Bytes for the scales as stored: [n, size]; where such a scale is 0, those of the search."""
    stored = np.clip(nearest((x + shift[:, None]) / scale[:, None]), 0, fit.n_max)
    kept = _affine_levels(found[2][:, None] * (x - found[3][:, None]), fit)
    return np.where((scale != 0)[:, None], stored, kept).astype(np.uint8)


def round_symmetric(x: F32, scale: F32, inverse: F32, n_max: int) -> Bytes:
    """Bytes plus n_max for the scales as stored: [n, size]; a sub-block of zeros keeps level 0."""
    stored = np.clip(nearest(x / scale[:, None]), -n_max, n_max - 1) + n_max
    kept = np.clip(nearest(x * inverse[:, None]), -n_max, n_max - 1) + n_max
    kept[inverse == 0] = 0
    return np.where((scale != 0)[:, None], stored, kept).astype(np.uint8)


def pack_affine(x: F32, found: F32, fit: AffineFit, blocks: Bytes) -> None:
    """Write the levels of `round_affine` for the scales in blocks [n, bytes of a block]."""
    scales = scales_of(blocks, _AFFINE[fit.n_max])
    levels = round_affine(x, scales.step.reshape(-1), -scales.offset.reshape(-1), found, fit)
    layout.with_affine(blocks, levels.reshape(-1, layout.SUPER), fit.n_max)


def pack_symmetric(x: F32, inverse: F32, n_max: int, blocks: Bytes) -> None:
    """Write the levels of `round_symmetric` for the scales in blocks [n, bytes of a block]."""
    levels = round_symmetric(
        x, scales_of(blocks, _SYMMETRIC[n_max]).step.reshape(-1), inverse, n_max
    )
    layout.with_symmetric(blocks, levels.reshape(-1, layout.SUPER), n_max)


def round_codebook(x: F32, inverse: F32) -> Bytes:
    """Index of the nearest of CODEBOOK: [n, size]."""
    return np.searchsorted(_MIDS, x * inverse[:, None], side="right").astype(np.uint8)


def peaks(x: F32) -> F32:
    """The value of largest magnitude of each block, the first of several: [n]."""
    return _peak(x.T)


def extremes(x: F32) -> tuple[F32, F32]:
    """Smallest and largest of each block: [n], [n]. A zero has the sign of the block's first."""
    low, high = x.min(axis=1), x.max(axis=1)
    first_zero = np.take_along_axis(x, (x == 0).argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(low == 0, first_zero, low), np.where(high == 0, first_zero, high)


def truncate(x: F32, low: F32, inverse: F32, offset: F32, n_max: int, blocks: Bytes) -> None:
    """Write (x - low) * inverse + offset, none negative, rounded down to at most n_max.

    As bits, into blocks of Q4_0, Q4_1, Q5_0 or Q5_1 [n, bytes] whose scales are in place.
    """
    v = (x - low[:, None]) * inverse[:, None] + offset[:, None]
    layout.with_plain(blocks, np.minimum(v.astype(np.int32), n_max).astype(np.uint8), n_max)


def round_away(x: F32, inverse: F32, blocks: Bytes) -> None:
    """Write x * inverse, halves away from zero, into blocks of Q8_0 [n, 34].

    Adding the largest float below 0.5 and truncating does that exactly (adding 0.5 would turn
    0.49999997 into 1).
    """
    v = x * inverse[:, None]
    v += np.copysign(_HALF, v)
    blocks[:, 2:] = v.astype(np.int8).view(np.uint8)


def sums(x: F32) -> F32:
    """Sums of the rows of x, element after element as C adds them: [n]."""
    total: F32 = np.add.accumulate(x, axis=1)[:, -1]
    return total


def weights(rows: F32, importance: F32, span: int, factor: int) -> F32:
    """importance * sqrt(sigma2 + x^2), sigma2 = factor * mean(x^2) over `span` columns."""
    squares = rows * rows
    totals = sums(squares.reshape(-1, span)).reshape(len(rows), -1, 1)
    sigma2 = np.float32(factor) * totals / np.float32(span)
    spread = np.sqrt(sigma2 + squares.reshape(len(rows), -1, span)).reshape(rows.shape)
    return np.asarray(importance * spread)


def _in_pieces(search: Callable[[F32, Any], F32], x: F32, w: F32 | None) -> F32:
    """Runs a search on transposed pieces of _LANES sub-blocks."""
    found = []
    for start in range(0, max(1, len(x)), _LANES):
        piece = np.ascontiguousarray(x[start : start + _LANES].T)
        given = None if w is None else np.ascontiguousarray(w[start : start + _LANES].T)
        found.append(search(piece, given))
    joined: F32 = np.concatenate(found, axis=1)
    return joined


def feedback(
    x: F32, order: Index, factor: F32, step: F32, offset: F32, top: int, out: Bytes
) -> None:
    """Levels of the columns `order` [w] of x [n, n_cols], into the same columns of `out`.

    factor: [w, w], row c says how the error of the column order[c] is added to those after it.
    step, offset: [n, n_cols / size of a sub-block]. top: the highest level, or 0 for CODEBOOK.
    """
    size = x.shape[1] // step.shape[1]
    given = np.ascontiguousarray(x[:, order].T)
    target = given.copy()
    for i, column in enumerate(order):
        d, low = step[:, column // size], offset[:, column // size]
        with np.errstate(all="ignore"):
            v = np.where(d != 0, (target[i] - low) / d, np.float32(0))
        if top:
            level = np.rint(np.clip(v, np.float32(0), np.float32(top)))
            error = given[i] - (d * level + low)
        else:
            level = np.searchsorted(_MIDS, v, side="right")
            error = given[i] - d * _VALUES[level]
        out[:, column] = level
        target[i + 1 :] += error * factor[i, i + 1 :, None]
