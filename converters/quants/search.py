"""Which machine runs the searches: kernels that numba compiles, or NumPy without it; same bytes.

FT2OLLAMA_QUANT_BACKEND=numpy or numba overrides. numba itself is imported only where a kernel has
to be compiled, once per machine.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType as Kind

from converters.errors import ConvertError
from converters.quants.fits import AffineFit
from converters.quants.layout import Bytes
from converters.transforms import F32, Index

VARIABLE = "FT2OLLAMA_QUANT_BACKEND"
_SYMMETRIC = ("symmetric", "round_symmetric")
_AFFINE = ("affine", "round_affine")
_SUPER = ("affine", "by_largest", "pack_affine")
_SUPER_WEIGHED = ("affine", "weights_of", "sums_of", "scales_of", "pack_affine")
_SUPER_SYMMETRIC = ("symmetric", "signed_scales", "pack_symmetric")
_CODEBOOK = ("codebook", "round_codebook")
_KERNELS: dict[Kind, tuple[str, ...]] = {
    Kind.Q8_0: ("peaks_of", "round_away"),
    Kind.Q4_0: ("peaks_of", "truncate"),
    Kind.Q5_0: ("peaks_of", "truncate"),
    Kind.Q4_1: ("extremes_of", "truncate"),
    Kind.Q5_1: ("extremes_of", "truncate"),
    Kind.Q2_K: _SUPER,
    Kind.Q4_K: _SUPER,
    Kind.Q5_K: _SUPER,
    Kind.Q3_K: ("descend", "pack_symmetric"),
    Kind.Q6_K: _SUPER_SYMMETRIC,
    Kind.IQ4_NL: _CODEBOOK,
    Kind.IQ4_XS: _CODEBOOK,
}
_KERNELS_WITH_IMPORTANCE: dict[Kind, tuple[str, ...]] = {
    Kind.Q8_0: _KERNELS[Kind.Q8_0],
    Kind.Q6_K: _SUPER_SYMMETRIC,
    Kind.Q4_0: (*_SYMMETRIC, "weights_of"),
    Kind.Q5_0: (*_SYMMETRIC, "weights_of"),
    Kind.Q3_K: (*_SYMMETRIC, "weights_of", "sums_of", "pack_symmetric"),
    Kind.Q4_1: (*_AFFINE, "weights_of"),
    Kind.Q5_1: (*_AFFINE, "weights_of"),
    Kind.Q2_K: _SUPER_WEIGHED,
    Kind.Q4_K: _SUPER_WEIGHED,
    Kind.Q5_K: _SUPER_WEIGHED,
    Kind.IQ4_NL: (*_CODEBOOK, "weights_of"),
    Kind.IQ4_XS: (*_CODEBOOK, "weights_of"),
}
_SECONDS = {
    "affine": 1.7,
    "symmetric": 0.9,
    "descend": 1.4,
    "codebook": 1.5,
    "scales_of": 1.4,
    "pack_affine": 0.9,
    "pack_symmetric": 0.9,
    "peaks_of": 0.6,
    "feedback": 1.6,
}
_OTHER, _NUMBA = 0.3, 0.4  # seconds: any other kernel, and the import of what compiles


class Backend(Protocol):
    """The functions of search_numpy, which says what each computes."""

    def affine(self, x: F32, w: F32 | None, fit: AffineFit) -> F32:
        """Scale and minimum per sub-block."""

    def symmetric(self, x: F32, w: F32 | None, n_max: int) -> F32:
        """Scale per sub-block, no minimum."""

    def descend(self, x: F32, n_max: int) -> tuple[F32, Bytes]:
        """Scale per sub-block, by coordinate descent."""

    def codebook(self, x: F32, w: F32 | None) -> F32:
        """Scale per sub-block for a fixed codebook."""

    def scales(self, x: F32, w: F32, n_max: int) -> tuple[F32, Bytes]:
        """Sub-scales as integers times one scale."""

    def by_largest(self, scales: F32, n_max: int) -> tuple[F32, Bytes]:
        """Sub-scales as integers times one scale, the largest exact."""

    def signed_scales(self, scales: F32, n_max: int) -> tuple[F32, npt.NDArray[np.int8]]:
        """Sub-scales of any sign as integers times one scale, the largest -n_max."""

    def round_affine(self, x: F32, scale: F32, shift: F32, found: F32, fit: AffineFit) -> Bytes:
        """Levels for scales and shifts as stored."""

    def round_symmetric(self, x: F32, scale: F32, inverse: F32, n_max: int) -> Bytes:
        """Levels for scales as stored."""

    def pack_affine(self, x: F32, found: F32, fit: AffineFit, blocks: Bytes) -> None:
        """Levels, as bits, into blocks whose scales are in place."""

    def pack_symmetric(self, x: F32, inverse: F32, n_max: int, blocks: Bytes) -> None:
        """Levels, as bits, into blocks whose scales are in place."""

    def round_codebook(self, x: F32, inverse: F32) -> Bytes:
        """Indices into the codebook."""

    def peaks(self, x: F32) -> F32:
        """Value of largest magnitude per block."""

    def extremes(self, x: F32) -> tuple[F32, F32]:
        """Smallest and largest value per block."""

    def truncate(
        self, x: F32, low: F32, inverse: F32, offset: F32, n_max: int, blocks: Bytes
    ) -> None:
        """Levels rounded down, as bits, into blocks whose scales are in place."""

    def round_away(self, x: F32, inverse: F32, blocks: Bytes) -> None:
        """Levels with halves rounded away from zero, into blocks whose scales are in place."""

    def sums(self, x: F32) -> F32:
        """Sums of rows in C's order."""

    def weights(self, rows: F32, importance: F32, span: int, factor: int) -> F32:
        """How much each weight counts when its column has an importance."""

    def feedback(
        self, x: F32, order: Index, factor: F32, step: F32, offset: F32, top: int, out: Bytes
    ) -> None:
        """Levels of a block of columns, each column's error made good by the later ones."""


def backend() -> Backend:
    """The machine to use; read from the environment at every call, loaded once."""
    return _load(os.environ.get(VARIABLE, ""))


def seconds_to_compile(
    kinds: Iterable[Kind], *, with_importance: bool = False, with_feedback: bool = False
) -> float:
    """About how many CPU seconds the first use of these types will spend on compiling.

    0 if NumPy does the work or the machine code is in the cache, which is so after the first export
    on a machine. For a line like "compiling kernels once, about 5 s".
    """
    tables = [_KERNELS_WITH_IMPORTANCE if with_importance else _KERNELS]
    if with_feedback:  # all three are tried
        tables = [_KERNELS, _KERNELS_WITH_IMPORTANCE]
    found = set(kinds)
    wanted = {kernel for table in tables for kind in found for kernel in table.get(kind, ())}
    if with_feedback and found & set(_KERNELS):
        wanted.add("feedback")
    is_ready = getattr(backend(), "is_ready", None) if wanted else None
    if is_ready is None:
        return 0.0
    seconds = [_SECONDS.get(kernel, _OTHER) for kernel in wanted if not is_ready(kernel)]
    return sum(seconds) + _NUMBA if seconds else 0.0


@lru_cache
def _load(wanted: str) -> Backend:
    if wanted not in ("", "numpy", "numba"):
        raise ConvertError(
            f"unknown backend {wanted!r}",
            "",
            f"{VARIABLE} can be numpy or numba",
            f"unset {VARIABLE}",
        )
    if wanted != "numpy":
        try:
            return cast(Backend, importlib.import_module("converters.quants.search_numba"))
        except ImportError as error:
            if wanted == "numba":
                raise ConvertError(
                    "the numba backend cannot be loaded", "", str(error), "pip install numba"
                ) from error
    return cast(Backend, importlib.import_module("converters.quants.search_numpy"))
