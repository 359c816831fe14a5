"""The searches as machine code: the functions of search_numpy, over the kernels in `lanes*`.

Here arrays are made and brought into the one form the kernels are compiled for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from converters.quants import kernel_cache as cache
from converters.quants import (
    lanes_affine,
    lanes_blocks,
    lanes_codebook,
    lanes_feedback,
    lanes_pack,
    lanes_scales,
    lanes_symmetric,
)
from converters.quants.fits import GIVEN, SQUARE, AffineFit
from converters.quants.lanes_tile import room
from converters.quants.layout import AFFINE_BYTES, SUPER, SYMMETRIC_BYTES
from converters.transforms import F32, Index

Bytes = npt.NDArray[np.uint8]


def affine(x: F32, w: F32 | None, fit: AffineFit) -> F32:
    """See search_numpy."""
    out = np.empty((4, len(x)), np.float32)
    _run(lanes_affine.affine, x, x if w is None else w, fit, out, room())
    return out


def symmetric(x: F32, w: F32 | None, n_max: int) -> F32:
    """See search_numpy."""
    out = np.empty((2, len(x)), np.float32)
    weighting = SQUARE if w is None else GIVEN
    _run(lanes_symmetric.symmetric, x, x if w is None else w, weighting, n_max, out, room())
    return out


def descend(x: F32, n_max: int) -> tuple[F32, Bytes]:
    """See search_numpy."""
    out, levels = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    _run(lanes_symmetric.descend, x, n_max, out, levels, room())
    return out, levels


def codebook(x: F32, w: F32 | None) -> F32:
    """See search_numpy."""
    out = np.empty(len(x), np.float32)
    weighting = SQUARE if w is None else GIVEN
    _run(lanes_codebook.codebook, x, x if w is None else w, weighting, out)
    return out


def scales(x: F32, w: F32, n_max: int) -> tuple[F32, Bytes]:
    """See search_numpy."""
    out, integers = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    _run(lanes_scales.scales_of, x, w, n_max, out, integers)
    return out, integers


def round_affine(x: F32, scale: F32, shift: F32, found: F32, fit: AffineFit) -> Bytes:
    """See search_numpy."""
    out = np.empty(x.shape, np.uint8)
    _run(lanes_affine.round_affine, x, scale, shift, found, fit, out)
    return out


def round_symmetric(x: F32, scale: F32, inverse: F32, n_max: int) -> Bytes:
    """See search_numpy."""
    out = np.empty(x.shape, np.uint8)
    _run(lanes_symmetric.round_symmetric, x, scale, inverse, n_max, out)
    return out


def round_codebook(x: F32, inverse: F32) -> Bytes:
    """See search_numpy."""
    out = np.empty(x.shape, np.uint8)
    _run(lanes_codebook.round_codebook, x, inverse, out)
    return out


def pack_affine(x: F32, scale: F32, shift: F32, found: F32, fit: AffineFit) -> Bytes:
    """See search_numpy."""
    out = np.empty((x.size // SUPER, AFFINE_BYTES[fit.n_max]), np.uint8)
    _run(lanes_pack.pack_affine, x, scale, shift, found, fit, out, np.empty(SUPER, np.uint8))
    return out


def pack_symmetric(x: F32, scale: F32, inverse: F32, n_max: int) -> Bytes:
    """See search_numpy."""
    out = np.empty((x.size // SUPER, SYMMETRIC_BYTES[n_max]), np.uint8)
    _run(lanes_pack.pack_symmetric, x, scale, inverse, n_max, out, np.empty(SUPER, np.uint8))
    return out


def by_largest(scales: F32, n_max: int) -> tuple[F32, Bytes]:
    """See search_numpy."""
    out, integers = np.empty(len(scales), np.float32), np.empty(scales.shape, np.uint8)
    _run(lanes_pack.by_largest, scales, n_max, out, integers)
    return out, integers


def signed_scales(scales: F32, n_max: int) -> tuple[F32, npt.NDArray[np.int8]]:
    """See search_numpy."""
    out, integers = np.empty(len(scales), np.float32), np.empty(scales.shape, np.int8)
    _run(lanes_pack.signed_scales, scales, n_max, out, integers)
    return out, integers


def multiples(d: F32, integers: npt.NDArray[Any]) -> F32:
    """See search_numpy."""
    out = np.empty(integers.size, np.float32)
    _run(lanes_pack.multiples, d, integers, out)
    return out


def peaks(x: F32) -> F32:
    """See search_numpy."""
    out = np.empty(len(x), np.float32)
    _run(lanes_blocks.peaks_of, x, out)
    return out


def extremes(x: F32) -> tuple[F32, F32]:
    """See search_numpy."""
    low, high = np.empty((2, len(x)), np.float32)
    _run(lanes_blocks.extremes_of, x, low, high)
    return low, high


def truncate(x: F32, low: F32, inverse: F32, offset: float, n_max: int) -> Bytes:
    """See search_numpy."""
    out = np.empty(x.shape, np.uint8)
    _run(lanes_blocks.truncate, x, low, inverse, np.float32(offset), n_max, out)
    return out


def round_away(x: F32, inverse: F32) -> npt.NDArray[np.int8]:
    """See search_numpy."""
    out = np.empty(x.shape, np.int8)
    _run(lanes_blocks.round_away, x, inverse, out)
    return out


def sums(x: F32) -> F32:
    """See search_numpy."""
    out = np.empty(len(x), np.float32)
    _run(lanes_blocks.sums_of, x, out)
    return out


def weights(rows: F32, importance: F32, span: int, factor: int) -> F32:
    """See search_numpy."""
    out = np.empty(rows.shape, np.float32)
    _run(lanes_blocks.weights_of, rows, importance, span, factor, out)
    return out


def feedback(
    x: F32, order: Index, factor: F32, step: F32, offset: F32, top: int, out: Bytes
) -> None:
    """See search_numpy."""
    _run(lanes_feedback.feedback, x, order, factor, step, offset, np.float32(top), out)


def is_ready(name: str) -> bool:
    """Whether the kernel of this name need not be compiled any more, here or ever."""
    return name in _USED or cache.is_compiled(name)


def _run(compiled: Any, *arguments: Any) -> None:
    """Calls a kernel; every array contiguous and writable, because others are other types."""
    compiled(*(_plain(a) if isinstance(a, np.ndarray) else a for a in arguments))
    name = compiled.__name__
    if name not in _USED:
        _USED.add(name)
        cache.mark_compiled(name)


def _plain(array: Any) -> Any:
    if array.flags.c_contiguous and array.flags.aligned and array.flags.writeable:
        return array  # np.require takes ten times as long to find that out
    return np.require(array, requirements=["C", "A", "W"])


_USED: set[str] = set()
