"""The sub-scales of a super-block as small integers times one scale.

In: [n, k] scales of the k sub-blocks, none negative. Out: the super-block's scale [n] and integers
[n, k]. Formulas: ggml/src/ggml-quants.c, quantize_row_q4_K_ref (`by_largest`) and make_qp_quants
(`by_least_squares`, used when columns have an importance).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from converters.quants.fits import TINY, nearest
from converters.transforms import F32

Bytes = npt.NDArray[np.uint8]


def by_largest(scales: F32, n_max: int) -> tuple[F32, Bytes]:
    """The largest scale becomes n_max. A negative scale, which is noise, wraps as in ggml."""
    largest = np.maximum(scales.max(axis=1), np.float32(0)) + np.float32(0)  # never -0
    top = np.float32(n_max)
    inverse = np.where(largest > 0, top / largest, np.float32(0))
    return largest / top, nearest(inverse[:, None] * scales).astype(np.uint8)


def signed(scales: F32, n_max: int) -> tuple[F32, npt.NDArray[np.int8]]:
    """The scale of largest magnitude becomes -n_max; 0 where all count as zero."""
    first = np.abs(scales).argmax(axis=1)
    largest: F32 = np.take_along_axis(scales, first[:, None], axis=1)[:, 0]
    inverse = np.where(largest != 0, np.float32(-n_max) / largest, np.float32(0))
    integers = np.minimum(nearest(inverse[:, None] * scales), n_max - 1).astype(np.int8)
    return np.where(np.abs(largest) < TINY, np.float32(0), np.float32(1) / inverse), integers


def by_least_squares(scales: F32, weights: F32, n_max: int) -> tuple[F32, Bytes]:
    """Nine candidates for the scale, then up to five sweeps over the integers. weights: [n, k]."""
    x, w = np.ascontiguousarray(scales.T), np.ascontiguousarray(weights.T)
    largest = x.max(axis=0, initial=np.float32(0))
    inverse = _best_inverse(x, w, largest, n_max)
    sum_xl, sum_l2 = np.zeros((2, x.shape[1]), np.float32)
    levels = np.empty(x.shape, np.int32)
    for i, (row, weight) in enumerate(zip(x, w, strict=True)):
        found = np.minimum(nearest(inverse * row), n_max)
        level = found.astype(np.float32)
        sum_xl += weight * row * level
        sum_l2 += weight * level * level
        levels[i] = found & 255
    for _ in range(5):
        _sweep(x, w, levels, (sum_xl, sum_l2), n_max)
    scale = np.where(sum_l2 > 0, sum_xl / sum_l2, np.float32(0))
    dead = largest < TINY
    levels[:, dead] = 0
    return np.where(dead, np.float32(0), scale), np.ascontiguousarray(levels.T.astype(np.uint8))


def _best_inverse(x: F32, w: F32, largest: F32, n_max: int) -> F32:
    inverse = np.float32(n_max) / largest
    error = np.zeros(x.shape[1], np.float32)
    for row, weight in zip(x, w, strict=True):
        level = (nearest(inverse * row) & 255).astype(np.float32)
        d = row - np.float32(1) / inverse * level
        error += weight * d * d
    for c in (*range(-4, 0), *range(1, 5)):
        tried = (np.float32(0.1) * np.float32(c) + np.float32(n_max)) / largest
        new_error = np.zeros(x.shape[1], np.float32)
        for row, weight in zip(x, w, strict=True):
            level = np.minimum(nearest(tried * row), n_max).astype(np.float32)
            d = row - np.float32(1) / tried * level
            new_error += weight * d * d
        better = new_error < error
        error = np.where(better, new_error, error)
        inverse = np.where(better, tried, inverse)
    return inverse


def _sweep(
    x: F32, w: F32, levels: npt.NDArray[np.int32], sums: tuple[F32, F32], n_max: int
) -> None:
    """One pass over the k integers; each changes where that explains more."""
    sum_xl, sum_l2 = sums
    for i, (row, weight) in enumerate(zip(x, w, strict=True)):
        level = levels[i].astype(np.float32)
        new_xl = sum_xl - weight * row * level
        new_l2 = sum_l2 - weight * level * level
        found = np.minimum(nearest(row * new_l2 / new_xl), n_max)
        better = (new_xl > 0) & (new_l2 > 0) & (found != levels[i])
        level = found.astype(np.float32)
        new_xl += weight * row * level
        new_l2 += weight * level * level
        better &= new_xl * new_xl * sum_l2 > sum_xl * sum_xl * new_l2
        levels[i] = np.where(better, found & 255, levels[i])
        np.copyto(sum_xl, new_xl, where=better)
        np.copyto(sum_l2, new_l2, where=better)
