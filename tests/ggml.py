"""libggml (inside xllamacpp, default x86-64 build) through ctypes: the judge of our bytes."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType


@cache
def library() -> ctypes.CDLL:
    """The shared library; importing xllamacpp would do nothing more for us."""
    import xllamacpp

    folder = Path(xllamacpp.__file__).parent
    return ctypes.CDLL(str(next(folder.glob("xllamacpp*.so"))))


def quantize(
    values: np.ndarray, kind: GGMLQuantizationType, importance: np.ndarray | None = None
) -> np.ndarray:
    """Bytes that ggml_quantize_chunk writes for rows [n_rows, n_cols]: [n_blocks, block size]."""
    values = np.ascontiguousarray(values, np.float32)
    block, size = GGML_QUANT_SIZES[kind]
    out = np.empty((values.size // block, size), np.uint8)
    function = library().ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    written = function(
        ctypes.c_int(kind),
        values.ctypes.data_as(ctypes.c_void_p),
        out.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(values.shape[0]),
        ctypes.c_int64(values.shape[1]),
        None if importance is None else importance.ctypes.data_as(ctypes.c_void_p),
    )
    assert written == out.nbytes
    return out
