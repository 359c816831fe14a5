"""Encoders of the types with blocks of 32 and nothing above them: Q8_0, Q4_0 to Q5_1, IQ4_NL.

In: rows [n_rows, n_cols] float32 and, where there is one, an importance per column. Out: bytes,
[n_blocks, block size]. Formulas: ggml/src/ggml-quants.c, quantize_row_<type>_ref and, with
importance, ..._impl. Where 1 / d overflows, C's conversion to an integer is undefined and gives 0
on every x86: we say 0.
"""

from __future__ import annotations

import numpy as np

from converters.quants import fits, layout
from converters.quants.layout import Bytes
from converters.quants.search import Backend
from converters.quants.weights import weights_of
from converters.transforms import F32

_BLOCK = 32
_HALF = np.float32(np.nextafter(np.float32(0.5), np.float32(0)))


def q8_0(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """d = max|x| / 127; levels are rounded with halves away from zero. Importance has no effect.

    Adding the largest float below 0.5 and truncating does that exactly (adding 0.5 would turn
    0.49999997 into 1).
    """
    x = rows.reshape(-1, _BLOCK)
    d = np.abs(x).max(axis=1) / np.float32(127)
    scaled = x * _reciprocal(d)[:, None]
    scaled += np.copysign(_HALF, scaled)
    return layout.q8_0(d, scaled.astype(np.int8))


def q4_0(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * (level - 8)."""
    return layout.q4_0(*_symmetric(search, rows, importance, 8))


def q5_0(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * (level - 16)."""
    return layout.q5_0(*_symmetric(search, rows, importance, 16))


def q4_1(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * level + m."""
    return layout.q4_1(*_affine(search, rows, importance, 15))


def q5_1(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * level + m."""
    return layout.q5_1(*_affine(search, rows, importance, 31))


def _symmetric(search: Backend, rows: F32, importance: F32 | None, n_max: int) -> tuple[F32, Bytes]:
    x = rows.reshape(-1, _BLOCK)
    w = weights_of(rows, importance, rows.shape[1], 1)
    if w is not None:
        d, inverse = search.symmetric(x, w.reshape(x.shape), n_max)
        return d, search.round_symmetric(x, np.zeros_like(d), inverse, n_max)
    first = np.abs(x).argmax(axis=1)
    d = np.take_along_axis(x, first[:, None], axis=1)[:, 0] / np.float32(-n_max)
    d = np.where(d != 0, d, np.float32(-0.0))
    levels = _truncated(x, d, np.float32(n_max) + np.float32(0.5), 2 * n_max - 1)
    return d, levels


def _affine(
    search: Backend, rows: F32, importance: F32 | None, n_max: int
) -> tuple[F32, F32, Bytes]:
    x = rows.reshape(-1, _BLOCK)
    w = weights_of(rows, importance, rows.shape[1], 1)
    if w is not None:
        fit = fits.with_importance(n_max)
        found = search.affine(x, w.reshape(x.shape), fit)
        zero = np.zeros(len(x), np.float32)
        return found[0], found[1], search.round_affine(x, zero, zero, found, fit)
    low = x.min(axis=1)
    d = (x.max(axis=1) - low) / np.float32(n_max)
    levels = _truncated(x - low[:, None], d, np.float32(0.5), n_max)
    return d, low, levels


def iq4_nl(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * one of 16 fixed values."""
    x = rows.reshape(-1, _BLOCK)
    w = weights_of(rows, importance, _BLOCK, 2)
    d = search.codebook(x, None if w is None else w.reshape(x.shape))
    inverse = np.where(d != 0, np.float32(1) / d, np.float32(0))
    return layout.q4_0(d, search.round_codebook(x, inverse))


def _truncated(x: F32, d: F32, offset: np.float32, n_max: int) -> Bytes:
    """floor(x / d + offset), at most n_max, for quotients that are not negative."""
    inverse = _reciprocal(d)
    levels = np.minimum((x * inverse[:, None] + offset).astype(np.int8), n_max).astype(np.uint8)
    levels[(inverse == 0) & (d != 0)] = 0
    return levels


def _reciprocal(d: F32) -> F32:
    """1 / d, and 0 where d is 0 or so small that 1 / d overflows."""
    inverse = np.float32(1) / d
    inverse[~np.isfinite(inverse)] = 0
    return inverse
