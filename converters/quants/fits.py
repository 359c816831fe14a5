"""What a search looks for: the constants of ggml's fits, and its rounding; both backends use them.

Source of every number: ggml/src/ggml-quants.c (make_qkx2_quants, make_qkx3_quants, make_qx_quants,
quantize_row_iq4_nl_impl) and the calls of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from converters.transforms import F32

GIVEN, MAGNITUDE, RMS, SQUARE = range(4)
"""Weights of the elements of a sub-block: given, |x|, rms + |x|, x squared."""

TINY = np.float32(1e-15)  # below this a symmetric sub-block counts as zero (GROUP_MAX_EPS)


class AffineFit(NamedTuple):
    """x ~ scale * level - minimum, levels 0..n_max: the first guess, then `steps` + 1 candidates.

    Candidate c divides (first + step * c + n_max) by the range. absolute: weighted absolute error
    instead of squared. clamped: ggml's newer variant limits the quotient before it rounds.
    """

    n_max: int
    first: float
    step: float
    steps: int
    weighting: int
    absolute: bool = False
    clamped: bool = False


Q2_K = AffineFit(3, -0.5, 0.1, 15, MAGNITUDE, absolute=True)
Q4_K = AffineFit(15, -1.0, 0.1, 20, RMS)
Q5_K = AffineFit(31, -0.5, 0.1, 15, RMS)


def with_importance(n_max: int) -> AffineFit:
    """The fit of an affine type when the columns have an importance."""
    return AffineFit(n_max, -0.9, 0.05, 36, GIVEN, clamped=True)


CODEBOOK = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""Values of IQ4_NL and IQ4_XS (kvalues_iq4nl, ggml-common.h)."""


_MAGIC = np.float32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer in the low bits


def nearest(v: F32) -> npt.NDArray[np.int32]:
    """Round half to even; beyond 2^22, infinity and NaN wrong in the way ggml's nearest_int is."""
    mantissa = (v + _MAGIC).view(np.int32) & np.int32(0x007FFFFF)
    return mantissa - np.int32(0x00400000)
