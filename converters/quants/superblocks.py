"""Encoders of the types with super-blocks of 256: Q2_K to Q6_K and IQ4_XS.

In: rows [n_rows, n_cols] float32 and, where there is one, an importance per column. Out: bytes,
[n_blocks, block size]. The search finds a scale per sub-block, `subscales` turns those into small
integers times one float16, and the levels are then rounded again for the scales as stored.
Formulas: ggml/src/ggml-quants.c, quantize_row_<type>_ref and, with importance, ..._impl.
"""

from __future__ import annotations

import numpy as np

from converters.quants import fits, layout
from converters.quants.fits import AffineFit, nearest
from converters.quants.layout import Bytes
from converters.quants.search import Backend
from converters.transforms import F32

_ZERO = np.float32(0)
_SUPER = 256


def q2_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """16 sub-blocks of 16, scale and minimum in 4 bits each."""
    w = _weights(search, rows, importance, 1)
    fit = fits.Q2_K if w is None else fits.with_importance(3)
    found = _Affine(search, rows.reshape(-1, 16), w, fit)
    d, d_low, scale, low = found.scales(15)
    packed = scale | low << np.uint8(4)  # a wrapped scale reaches into the minimum, as in ggml
    bits = found.bits(d, d_low, packed & np.uint8(15), packed >> np.uint8(4))
    return layout.q2_k_of_bits(d, d_low, packed, bits)


def q4_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """8 sub-blocks of 32, scale and minimum in 6 bits each."""
    w = _weights(search, rows, importance, 2)
    found = _Affine(
        search, rows.reshape(-1, 32), w, fits.Q4_K if w is None else fits.with_importance(15)
    )
    d, d_low, scale, low = found.scales(63)
    if w is None:
        scale, low = np.minimum(scale, np.uint8(63)), np.minimum(low, np.uint8(63))
    packed = layout.six_bits(scale, low)
    if w is not None:
        scale, low = layout.from_six_bits(packed)
    return layout.k_of_bits(d, d_low, packed, found.bits(d, d_low, scale, low))


def q5_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """As Q4_K, with a fifth bit."""
    w = _weights(search, rows, importance, 2)
    found = _Affine(
        search, rows.reshape(-1, 32), w, fits.Q5_K if w is None else fits.with_importance(31)
    )
    d, d_low, scale, low = found.scales(63)
    scale, low = np.minimum(scale, np.uint8(63)), np.minimum(low, np.uint8(63))
    bits = found.bits(d, d_low, scale, low)
    return layout.k_of_bits(d, d_low, layout.six_bits(scale, low), bits)


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

    def bits(self, d: F32, d_low: F32, scale: Bytes, low: Bytes) -> Bytes:
        """Bits [n, bytes] of the levels for the scales as the runtime reads them back."""
        step = self.search.multiples(layout.stored(d), scale)
        shift = self.search.multiples(layout.stored(d_low), low)
        return self.search.pack_affine(self.x, step, shift, self.found, self.fit)


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
    step = search.multiples(layout.stored(d), packed.view(np.int8) - np.int8(32))
    lost = step == 0
    if not lost.any():
        return layout.q3_k_of_bits(d, packed, search.pack_symmetric(x, step, step, 4))
    levels = search.round_symmetric(x, step, step, 4)
    levels = np.where(lost[:, None], kept, levels)
    return layout.q3_k(d, packed, levels.reshape(-1, _SUPER))


def q6_k(search: Backend, rows: F32, importance: F32 | None) -> Bytes:
    """16 sub-blocks of 16, signed scales in 8 bits."""
    x = rows.reshape(-1, 16)
    w = None
    if importance is not None:  # ggml takes it as it is here, not times the weights' size
        w = np.broadcast_to(importance, rows.shape).reshape(x.shape)
    scales, found = search.symmetric(x, w, 32)
    d, integers = search.signed_scales(scales.reshape(-1, 16), 128)
    step = search.multiples(layout.stored(d), integers)
    data = layout.q6_k_of_bits(d, integers, search.pack_symmetric(x, step, found, 32))
    data[d == 0] = 0
    return data


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
    return layout.iq4_xs(d, (integers + 32).astype(np.uint8), levels.reshape(-1, _SUPER))


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
