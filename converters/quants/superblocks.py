"""Encoders of the types with super-blocks of 256: Q2_K to Q6_K and IQ4_XS.

In: rows [n_rows, n_cols] float32 and, where there is one, an importance per column. Out: bytes,
[n_blocks, block size]. The search finds a scale per sub-block, `subscales` turns those into small
integers times one float16, and the levels are then rounded again for the scales as stored.
Formulas: ggml/src/ggml-quants.c, quantize_row_<type>_ref and, with importance, ..._impl.
"""

from __future__ import annotations

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind

from converters.quants import fits, layout
from converters.quants.fits import AffineFit, nearest
from converters.quants.layout import Bytes
from converters.quants.scales import scales_of
from converters.quants.search import Backend
from converters.transforms import F32

_ZERO = np.float32(0)
_SUPER = 256
_LARGEST = np.uint8(63)


def q2_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """16 sub-blocks of 16, scale and minimum in 4 bits each."""
    w = _weights(search, rows, importance, 1)
    fit = fits.Q2_K if w is None else fits.with_importance(3)
    found = _Affine(search, rows.reshape(-1, 16), w, fit)
    d, d_low, scale, low = found.scales(15)
    packed = scale | low << np.uint8(4)  # a wrapped scale reaches into the minimum, as in ggml
    return found.levels_in(layout.q2_k_frame(d, d_low, packed))


def q4_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """8 sub-blocks of 32, scale and minimum in 6 bits each."""
    w = _weights(search, rows, importance, 2)
    fit = fits.Q4_K if w is None else fits.with_importance(15)
    found = _Affine(search, rows.reshape(-1, 32), w, fit)
    d, d_low, scale, low = found.scales(63)
    if w is None:  # else a wrapped scale reaches into its neighbours, as in ggml
        scale, low = np.minimum(scale, _LARGEST), np.minimum(low, _LARGEST)
    return found.levels_in(layout.k_frame(d, d_low, layout.six_bits(scale, low), 15))


def q5_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """As Q4_K, with a fifth bit."""
    w = _weights(search, rows, importance, 2)
    fit = fits.Q5_K if w is None else fits.with_importance(31)
    found = _Affine(search, rows.reshape(-1, 32), w, fit)
    d, d_low, scale, low = found.scales(63)
    scale, low = np.minimum(scale, _LARGEST), np.minimum(low, _LARGEST)
    return found.levels_in(layout.k_frame(d, d_low, layout.six_bits(scale, low), 31))


class _Affine:
    """Scales and minima of sub-blocks x: [n * k, 256 / k], in two steps."""

    def __init__(self, search: Backend, x: F32, w: F32 | None, fit: AffineFit) -> None:
        self.search = search
        self.x = x
        self.w = None if w is None else w.reshape(x.shape)
        self.fit = fit
        self.k = _SUPER // x.shape[1]
        self.found = search.affine(x, self.w, fit)

    def scales(self, n_max: int) -> tuple[F32, F32, Bytes, Bytes]:
        """d [n], dmin [n], integers for scales and minima [n, k]."""
        scales, lows = self.found[0].reshape(-1, self.k), -self.found[1].reshape(-1, self.k)
        if self.w is None:
            d, scale = self.search.by_largest(scales, n_max)
            d_low, low = self.search.by_largest(lows, n_max)
        else:
            sum_w = self.search.sums(self.w).reshape(-1, self.k)
            d, scale = self.search.scales(scales, sum_w, n_max)
            d_low, low = self.search.scales(lows, sum_w, n_max)
        return d, d_low, scale, low

    def levels_in(self, frame: Bytes) -> Bytes:
        """The blocks, with the levels for the scales as the runtime reads them back."""
        self.search.pack_affine(self.x, self.found, self.fit, frame)
        return frame


def q3_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """16 sub-blocks of 16, signed scales in 6 bits."""
    x = rows.reshape(-1, 16)
    w = _weights(search, rows, importance, 2)
    if w is None:
        scales, kept = search.descend(x, 4)
        scales = scales.reshape(-1, 16)
        inverse = _inverse(scales, 32)
        d = np.where(inverse != 0, np.float32(1) / inverse, _ZERO)
        integers = np.clip(nearest(inverse[:, None] * scales).astype(np.int8), -32, 31) + 32
        packed = np.where((inverse != 0)[:, None], integers, 0).astype(np.uint8)
    else:
        w = w.reshape(x.shape)
        scales, found = search.symmetric(x, w, 4)
        kept = search.round_symmetric(x, np.zeros_like(found), found, 4)
        scales = scales.reshape(-1, 16)
        d, outer = search.symmetric(scales, search.sums(w).reshape(-1, 16), 32)
        packed = search.round_symmetric(scales, np.zeros_like(outer), outer, 32)
    blocks = layout.q3_k_frame(d, packed)
    step = scales_of(blocks, Kind.Q3_K).step.reshape(-1)
    lost = step == 0
    if not lost.any():
        search.pack_symmetric(x, step, 4, blocks)
        return blocks
    levels = np.where(lost[:, None], kept, search.round_symmetric(x, step, step, 4))
    return layout.with_symmetric(blocks, levels.reshape(-1, _SUPER), 4)


def q6_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """16 sub-blocks of 16, signed scales in 8 bits."""
    x = rows.reshape(-1, 16)
    w = None
    if importance is not None:  # ggml takes it as it is here, not times the weights' size
        w = np.broadcast_to(importance, rows.shape).reshape(x.shape)
    scales, found = search.symmetric(x, w, 32)
    d, integers = search.signed_scales(scales.reshape(-1, 16), 128)
    blocks = layout.q6_k_frame(d, integers)
    search.pack_symmetric(x, found, 32, blocks)
    blocks[d == 0] = 0
    return blocks


def iq4_xs(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """8 sub-blocks of 32 in a fixed codebook, signed scales in 6 bits."""
    x = rows.reshape(-1, 32)
    w = _weights(search, rows, importance, 2)
    scales = search.codebook(x, None if w is None else w.reshape(x.shape)).reshape(-1, 8)
    d = -_largest(scales) / np.float32(32)
    inverse = np.where(d != 0, np.float32(1) / d, _ZERO)
    integers = np.clip(nearest(inverse[:, None] * scales), -32, 31)
    step = (d[:, None] * integers.astype(np.float32)).reshape(-1)  # d before it becomes float16
    levels = search.round_codebook(x, np.where(step != 0, np.float32(1) / step, _ZERO))
    blocks = layout.iq4_xs_frame(d, (integers + 32).astype(np.uint8))
    return layout.with_iq4_xs(blocks, levels.reshape(-1, _SUPER))


def _weights(search: Backend, rows: F32, importance: F32 | None, factor: int) -> F32 | None:
    return None if importance is None else search.weights(rows, importance, _SUPER, factor)


def _largest(scales: F32) -> F32:
    """The scale of largest magnitude with its sign, the first of several; 0 if all are."""
    first = np.abs(scales).argmax(axis=1)
    found: F32 = np.take_along_axis(scales, first[:, None], axis=1)[:, 0]
    return np.where(found != 0, found, _ZERO)


def _inverse(scales: F32, n_max: int) -> F32:
    """-n_max / the largest scale; 0 where all scales are 0."""
    largest = _largest(scales)
    return np.where(largest != 0, np.float32(-n_max) / largest, _ZERO)
