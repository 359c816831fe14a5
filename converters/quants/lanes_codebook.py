"""Lane kernels of the codebook search: see `lanes` for how, search_numpy.codebook for what."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from converters.quants.fits import CODEBOOK, GIVEN, TINY
from converters.quants.kernel_compiler import kernel
from converters.quants.lanes import (
    AMAX,
    BEST,
    ONE,
    PEAK,
    SCALE,
    SUM_L2,
    SUM_XL,
    TRY,
    ZERO,
    f32,
    keep,
    load,
    peaks,
    square,
)
from converters.quants.lanes_width import LOOP_LANES as LANES
from converters.quants.lanes_width import SIZE

_FIRST = f32(CODEBOOK[0])
# Names and not a tuple: LLVM does not unroll a loop over a tuple early enough to vectorise it.
_M0, _M1, _M2, _M3, _M4, _M5, _M6, _M7, _M8, _M9, _M10, _M11, _M12, _M13, _M14 = (
    f32((a + b) / 2) for a, b in pairwise(CODEBOOK)
)
_R0, _R1, _R2, _R3, _R4, _R5, _R6, _R7, _R8, _R9, _R10, _R11, _R12, _R13, _R14 = (
    f32(b - a) for a, b in pairwise(CODEBOOK)
)


@kernel
def nearest_code(v: Any, as_index: Any) -> Any:
    """The value of the codebook nearest to v, or its index, as float32."""
    q = ZERO if as_index else _FIRST
    q += ZERO if v < _M0 else (ONE if as_index else _R0)
    q += ZERO if v < _M1 else (ONE if as_index else _R1)
    q += ZERO if v < _M2 else (ONE if as_index else _R2)
    q += ZERO if v < _M3 else (ONE if as_index else _R3)
    q += ZERO if v < _M4 else (ONE if as_index else _R4)
    q += ZERO if v < _M5 else (ONE if as_index else _R5)
    q += ZERO if v < _M6 else (ONE if as_index else _R6)
    q += ZERO if v < _M7 else (ONE if as_index else _R7)
    q += ZERO if v < _M8 else (ONE if as_index else _R8)
    q += ZERO if v < _M9 else (ONE if as_index else _R9)
    q += ZERO if v < _M10 else (ONE if as_index else _R10)
    q += ZERO if v < _M11 else (ONE if as_index else _R11)
    q += ZERO if v < _M12 else (ONE if as_index else _R12)
    q += ZERO if v < _M13 else (ONE if as_index else _R13)
    q += ZERO if v < _M14 else (ONE if as_index else _R14)
    return q


@kernel
def _code_sums(x: Any, w: Any, size: Any, s: Any) -> None:
    """Sums for the code values that the inverse TRY gives."""
    for k in range(LANES):
        s[SUM_XL, k] = ZERO
        s[SUM_L2, k] = ZERO
    for i in range(size):
        for k in range(LANES):
            v = s[TRY, k] * x[i, k]
            q = nearest_code(v, False)
            wq = w[i, k] * q
            s[SUM_XL, k] += wq * x[i, k]
            s[SUM_L2, k] += wq * q


@kernel
def codebook(source: Any, weights: Any, weighting: Any, out: Any, room: Any) -> None:
    """out: [n] scales; 0 for a sub-block that counts as zero."""
    count, size = source.shape
    x, w, s = room[:SIZE], room[SIZE : 2 * SIZE], room[3 * SIZE :]
    for start in range(0, count, LANES):
        lanes = load(source, start, x)
        if weighting == GIVEN:
            load(weights, start, w)
        else:
            square(x, size, w)
        peaks(x, size, s)
        for k in range(LANES):
            s[TRY, k] = ONE / (-s[PEAK, k] / _FIRST)
        _code_sums(x, w, size, s)
        for k in range(LANES):
            full = s[SUM_L2, k] > ZERO
            s[SCALE, k] = s[SUM_XL, k] / s[SUM_L2, k] if full else ZERO
            s[BEST, k] = s[SCALE, k] * s[SUM_XL, k]
        for c in range(-7, 8):
            for k in range(LANES):
                s[TRY, k] = f32(f32(c) + _FIRST) / s[PEAK, k]
            _code_sums(x, w, size, s)
            keep(s)
        for k in range(lanes):
            out[start + k] = ZERO if s[AMAX, k] < TINY else s[SCALE, k]


@kernel
def round_codebook(x: Any, inverse: Any, out: Any) -> None:
    """out: [n, size] indices."""
    count, size = x.shape
    for n in range(count):
        for i in range(size):
            out[n, i] = np.uint8(nearest_code(x[n, i] * inverse[n], True))
