"""The searches as machine code: the functions of search_numpy, over the kernels in `lanes*`.

Here arrays are made and brought into the one form the kernels are compiled for. ImportError where
numba cannot be imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from converters.quants.fits import GIVEN, SQUARE, AffineFit
from converters.quants.kernels import Kernel, require_compiler
from converters.quants.lanes_width import feedback_tiles, loop_tiles, tiles
from converters.quants.layout import SUPER
from converters.transforms import F32, Index

require_compiler()
Bytes = npt.NDArray[np.uint8]


def affine(x: F32, w: F32 | None, fit: AffineFit) -> F32:
    """See search_numpy."""
    out = np.empty((4, len(x)), np.float32)
    _run("affine", x, x if w is None else w, fit, out, tiles())
    return out


def symmetric(x: F32, w: F32 | None, n_max: int) -> F32:
    """See search_numpy."""
    out = np.empty((2, len(x)), np.float32)
    weighting = SQUARE if w is None else GIVEN
    _run("symmetric", x, x if w is None else w, weighting, n_max, out, tiles())
    return out


def descend(x: F32, n_max: int) -> tuple[F32, Bytes]:
    """See search_numpy."""
    out, levels = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    _run("descend", x, n_max, out, levels, tiles())
    return out, levels


def codebook(x: F32, w: F32 | None) -> F32:
    """See search_numpy."""
    out = np.empty(len(x), np.float32)
    weighting = SQUARE if w is None else GIVEN
    _run("codebook", x, x if w is None else w, weighting, out, loop_tiles())
    return out


def scales(x: F32, w: F32, n_max: int) -> tuple[F32, Bytes]:
    """See search_numpy."""
    out, integers = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    _run("scales_of", x, w, n_max, out, integers, loop_tiles())
    return out, integers


def round_affine(x: F32, scale: F32, shift: F32, found: F32, fit: AffineFit) -> Bytes:
    """See search_numpy."""
    out = np.empty(x.shape, np.uint8)
    _run("round_affine", x, scale, shift, found, fit, out)
    return out


def round_symmetric(x: F32, scale: F32, inverse: F32, n_max: int) -> Bytes:
    """See search_numpy."""
    out = np.empty(x.shape, np.uint8)
    _run("round_symmetric", x, scale, inverse, n_max, out)
    return out


def round_codebook(x: F32, inverse: F32) -> Bytes:
    """See search_numpy."""
    out = np.empty(x.shape, np.uint8)
    _run("round_codebook", x, inverse, out)
    return out


def pack_affine(x: F32, found: F32, fit: AffineFit, blocks: Bytes) -> None:
    """See search_numpy."""
    _run("pack_affine", x, found, fit, blocks, np.empty(SUPER, np.uint8))


def pack_symmetric(x: F32, inverse: F32, n_max: int, blocks: Bytes) -> None:
    """See search_numpy."""
    _run("pack_symmetric", x, inverse, n_max, blocks, np.empty(SUPER, np.uint8))


def by_largest(scales: F32, n_max: int) -> tuple[F32, Bytes]:
    """See search_numpy."""
    out, integers = np.empty(len(scales), np.float32), np.empty(scales.shape, np.uint8)
    _run("by_largest", scales, n_max, out, integers)
    return out, integers


def signed_scales(scales: F32, n_max: int) -> tuple[F32, npt.NDArray[np.int8]]:
    """See search_numpy."""
    out, integers = np.empty(len(scales), np.float32), np.empty(scales.shape, np.int8)
    _run("signed_scales", scales, n_max, out, integers)
    return out, integers


def peaks(x: F32) -> F32:
    """See search_numpy."""
    out = np.empty(len(x), np.float32)
    _run("peaks_of", x, out, tiles())
    return out


def extremes(x: F32) -> tuple[F32, F32]:
    """See search_numpy."""
    low, high = np.empty((2, len(x)), np.float32)
    _run("extremes_of", x, low, high, tiles())
    return low, high


def truncate(x: F32, low: F32, inverse: F32, offset: F32, n_max: int, blocks: Bytes) -> None:
    """See search_numpy."""
    _run("truncate", x, low, inverse, offset, n_max, blocks)


def round_away(x: F32, inverse: F32, blocks: Bytes) -> None:
    """See search_numpy."""
    _run("round_away", x, inverse, blocks)


def sums(x: F32) -> F32:
    """See search_numpy."""
    out = np.empty(len(x), np.float32)
    _run("sums_of", x, out)
    return out


def weights(rows: F32, importance: F32, span: int, factor: int) -> F32:
    """See search_numpy."""
    out = np.empty(rows.shape, np.float32)
    _run("weights_of", rows, importance, span, factor, out)
    return out


def feedback(
    x: F32, order: Index, factor: F32, step: F32, offset: F32, top: int, out: Bytes
) -> None:
    """See search_numpy."""
    room = feedback_tiles(len(order), step.shape[1])
    _run("feedback", x, order, factor, step, offset, np.float32(top), out, room)


def is_ready(name: str) -> bool:
    """Whether the kernel of this name need not be compiled any more, here or ever."""
    return _KERNELS[name].is_ready


def _run(name: str, *arguments: Any) -> None:
    """Calls a kernel; every array contiguous and writable, because others are other types."""
    _KERNELS[name](*(_plain(a) if isinstance(a, np.ndarray) else a for a in arguments))


def _plain(array: Any) -> Any:
    if array.flags.c_contiguous and array.flags.aligned and array.flags.writeable:
        return array  # np.require takes ten times as long to find that out
    return np.require(array, requirements=["C", "A", "W"])


_MODULES = {
    "lanes_affine": ("affine", "round_affine"),
    "lanes_blocks": ("extremes_of", "peaks_of", "round_away", "sums_of", "truncate", "weights_of"),
    "lanes_codebook": ("codebook", "round_codebook"),
    "lanes_feedback": ("feedback",),
    "lanes_pack": ("by_largest", "pack_affine", "pack_symmetric", "signed_scales"),
    "lanes_scales": ("scales_of",),
    "lanes_symmetric": ("descend", "round_symmetric", "symmetric"),
}
_KERNELS = {name: Kernel(module, name) for module, names in _MODULES.items() for name in names}
