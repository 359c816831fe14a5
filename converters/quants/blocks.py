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
from converters.transforms import F32

_BLOCK = 32
_ZERO = np.float32(0)


def q8_0(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """d = max|x| / 127; importance has no effect."""
    x = rows.reshape(-1, _BLOCK)
    largest: F32 = np.abs(search.peaks(x))
    d = largest / np.float32(127)
    blocks = layout.q8_0_frame(d)
    search.round_away(x, _reciprocal(d), blocks)
    return blocks


def q4_0(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * (level - 8)."""
    return _symmetric(search, rows, importance, 8)


def q5_0(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * (level - 16)."""
    return _symmetric(search, rows, importance, 16)


def q4_1(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * level + m, 16 levels."""
    return _affine(search, rows, importance, 15)


def q5_1(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * level + m, 32 levels."""
    return _affine(search, rows, importance, 31)


def iq4_nl(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """x ~ d * one of 16 fixed values."""
    x = rows.reshape(-1, _BLOCK)
    w = None if importance is None else search.weights(rows, importance, _BLOCK, 2)
    d = search.codebook(x, None if w is None else w.reshape(x.shape))
    inverse = np.where(d != 0, np.float32(1) / d, _ZERO)
    levels = search.round_codebook(x, inverse)
    return layout.with_plain(layout.plain_frame(15, d), levels, 15)


def _symmetric(search: Backend, rows: F32, importance: F32 | None, n_max: int) -> Bytes:
    x, top = rows.reshape(-1, _BLOCK), 2 * n_max - 1
    if importance is not None:
        w = search.weights(rows, importance, rows.shape[1], 1)
        d, inverse = search.symmetric(x, w.reshape(x.shape), n_max)
        levels = search.round_symmetric(x, np.zeros_like(d), inverse, n_max)
        return layout.with_plain(layout.plain_frame(top, d), levels, top)
    d = search.peaks(x) / np.float32(-n_max)
    d = np.where(d != 0, d, np.float32(-0.0))  # ggml divides +0 by -n_max
    inverse = _reciprocal(d)
    middle = np.float32(n_max + 0.5)
    offset = np.where((inverse == 0) & (d != 0), _ZERO, middle)
    blocks = layout.plain_frame(top, d)
    search.truncate(x, np.zeros_like(d), inverse, offset, top, blocks)
    return blocks


def _affine(search: Backend, rows: F32, importance: F32 | None, n_max: int) -> Bytes:
    x = rows.reshape(-1, _BLOCK)
    if importance is not None:
        w = search.weights(rows, importance, rows.shape[1], 1)
        fit = fits.with_importance(n_max)
        found = search.affine(x, w.reshape(x.shape), fit)
        zero = np.zeros_like(found[0])
        levels = search.round_affine(x, zero, zero, found, fit)
        return layout.with_plain(layout.plain_frame(n_max, found[0], found[1]), levels, n_max)
    low, high = search.extremes(x)
    d = (high - low) / np.float32(n_max)
    blocks = layout.plain_frame(n_max, d, low)
    search.truncate(x, low, _reciprocal(d), np.full_like(d, 0.5), n_max, blocks)
    return blocks


def _reciprocal(d: F32) -> F32:
    """1 / d, and 0 where d is 0 or so small that 1 / d overflows."""
    inverse = np.float32(1) / d
    inverse[~np.isfinite(inverse)] = 0
    return inverse
