"""Which machine runs the searches: numba where it can be imported, else NumPy; same bytes.

FT2OLLAMA_QUANT_BACKEND=numpy or numba overrides. numba is imported at the first use and not before:
most commands of this package never quantize.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol, cast

from gguf.constants import GGMLQuantizationType as Kind

from converters.errors import ConvertError
from converters.quants.fits import AffineFit
from converters.quants.layout import Bytes
from converters.transforms import F32

VARIABLE = "FT2OLLAMA_QUANT_BACKEND"
_AFFINE = ("_affine", "_round_affine")
_SYMMETRIC = ("_symmetric", "_round_symmetric")
_CODEBOOK = ("_codebook", "_round_codebook")
_KERNELS = {
    Kind.Q2_K: _AFFINE,
    Kind.Q4_K: _AFFINE,
    Kind.Q5_K: _AFFINE,
    Kind.Q3_K: ("_descend", "_round_symmetric"),
    Kind.Q6_K: _SYMMETRIC,
    Kind.IQ4_NL: _CODEBOOK,
    Kind.IQ4_XS: _CODEBOOK,
}
_KERNELS_WITH_IMPORTANCE = _KERNELS | {
    Kind.Q3_K: _SYMMETRIC,
    Kind.Q4_0: _SYMMETRIC,
    Kind.Q5_0: _SYMMETRIC,
    Kind.Q4_1: _AFFINE,
    Kind.Q5_1: _AFFINE,
}
_SECONDS = {  # CPU seconds of compiling, measured
    "_affine": 4.0,
    "_symmetric": 2.5,
    "_descend": 2.5,
    "_codebook": 2.0,
    "_round_affine": 0.7,
    "_round_symmetric": 0.7,
    "_round_codebook": 0.7,
}


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

    def round_affine(self, x: F32, scale: F32, shift: F32, found: F32, fit: AffineFit) -> Bytes:
        """Levels for scales and shifts as stored."""

    def round_symmetric(self, x: F32, scale: F32, inverse: F32, n_max: int) -> Bytes:
        """Levels for scales as stored."""

    def round_codebook(self, x: F32, inverse: F32) -> Bytes:
        """Indices into the codebook."""


def backend() -> Backend:
    """The machine to use; read from the environment at every call, loaded once."""
    return _load(os.environ.get(VARIABLE, ""))


def seconds_to_compile(kinds: Iterable[Kind], *, with_importance: bool = False) -> float:
    """About how many CPU seconds the first use of these types will spend on compiling.

    0 if NumPy does the work or the machine code is in the cache, which is so after the first export
    on a machine. For a line like "compiling kernels once, about 5 s".
    """
    is_ready = getattr(backend(), "is_ready", None)
    if is_ready is None:
        return 0.0
    table = _KERNELS_WITH_IMPORTANCE if with_importance else _KERNELS
    wanted = {kernel for kind in kinds for kernel in table.get(kind, ())}
    return sum(_SECONDS[kernel] for kernel in wanted if not is_ready(kernel))


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
