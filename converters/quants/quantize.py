"""float32 rows -> bytes of a GGML type, bit for bit what libggml writes on x86-64.

In: whole rows of a tensor and, where there is one, how much each column counts (llama.cpp's
imatrix). Out: flat bytes. Rows are independent of each other, so a caller may cut a tensor into
chunks as it likes and run them in parallel: the searches release the GIL. Weights that are not
finite, or too large for the type, are an error with the tensor's name: the runtime would answer
nonsense and nothing would say why.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from converters.errors import ConvertError
from converters.quants import blocks, superblocks
from converters.quants.layout import F16_LIMIT, Bytes, ScaleOverflow
from converters.quants.search import Backend, backend
from converters.transforms import F32


def encode(values: F32, kind: Kind, name: str = "", *, importance: F32 | None = None) -> Bytes:
    """Encode whole rows; ConvertError with `name` if a value is not finite or does not fit.

    values: [..., n_cols], n_cols a multiple of the block. importance: [n_cols], or [n_expert,
    n_cols] for values [n_expert, n_rows, n_cols]; finite and not negative. Q8_0 and the float types
    ignore it, as llama-quantize does. out: flat bytes.
    """
    if (
        importance is not None
        and (values.ndim, len(importance)) == (3, len(values))
        and importance.ndim == 2
    ):
        experts = zip(values, importance, strict=True)
        return np.concatenate([encode(rows, kind, name, importance=own) for rows, own in experts])
    largest = _largest_finite(values, name)
    rows = np.ascontiguousarray(values, dtype=np.float32)
    rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim > 1 else rows.reshape(1, -1)
    _require_blocks(rows, kind, name)
    if importance is not None:
        importance = _checked(importance, rows.shape[1], name)
    try:
        if largest >= _LIMIT[kind]:  # the searches would overflow, and could find a scale of 0
            raise ScaleOverflow(largest, _LIMIT[kind])
        if kind in _FLOATS:  # needs no search, and loading numba takes as long as a small export
            return _FLOATS[kind](rows).reshape(-1)
        with np.errstate(all="ignore"):
            return _ENCODERS[kind](backend(), rows, importance).reshape(-1)
    except ScaleOverflow as error:
        raise ConvertError(
            f"a weight does not fit {kind.name}",
            name,
            f"largest magnitude {np.abs(rows).max():g}: {error}",
            "--outtype BF16 or F32",
        ) from error


def _largest_finite(values: F32, name: str) -> float:
    """The largest magnitude; ConvertError if a value is not finite."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ConvertError(
            "a weight is not a finite number",
            name,
            "the tensor holds NaN or infinity; the training run that made it diverged",
            "train again with a lower learning rate, or export an earlier checkpoint",
        )
    return max(-low, high)


def _require_blocks(rows: F32, kind: Kind, name: str) -> None:
    block, _ = GGML_QUANT_SIZES[kind]
    if rows.shape[1] % block:
        raise ConvertError(
            f"rows do not divide into blocks of {kind.name}",
            name,
            f"{rows.shape[1]} columns, blocks of {block}",
            "another --outtype",
        )


def _checked(importance: F32, n_cols: int, name: str) -> F32:
    if importance.shape != (n_cols,):
        raise ConvertError(
            "the importance is for another tensor",
            name,
            f"{list(importance.shape)} numbers, the tensor has {n_cols} columns",
            "collect the statistics again on this model",
        )
    if not (np.isfinite(importance).all() and (importance >= 0).all()):
        raise ConvertError(
            "the importance is not usable",
            name,
            "it holds a number that is negative or not finite",
            "collect the statistics again on this model",
        )
    return np.ascontiguousarray(importance, dtype=np.float32)


def _f32(rows: F32) -> Bytes:
    return rows.view(np.uint8)


def _f16(rows: F32) -> Bytes:
    return rows.astype(np.float16).view(np.uint8)


def _bf16(rows: F32) -> Bytes:
    """Nearest, ties to even (ggml-impl.h, ggml_compute_fp32_to_bf16)."""
    bits = rows.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    odd += np.uint32(0x7FFF)
    odd += bits  # cannot overflow for finite values
    return (odd >> np.uint32(16)).astype(np.uint16).view(np.uint8)


_FLOATS: dict[Kind, Callable[[F32], Bytes]] = {
    Kind.F32: _f32,
    Kind.F16: _f16,
    Kind.BF16: _bf16,
}
_ENCODERS: dict[Kind, Callable[[Backend, F32, F32 | None], Bytes]] = {
    Kind.Q8_0: blocks.q8_0,
    Kind.Q4_0: blocks.q4_0,
    Kind.Q4_1: blocks.q4_1,
    Kind.Q5_0: blocks.q5_0,
    Kind.Q5_1: blocks.q5_1,
    Kind.Q2_K: superblocks.q2_k,
    Kind.Q3_K: superblocks.q3_k,
    Kind.Q4_K: superblocks.q4_k,
    Kind.Q5_K: superblocks.q5_k,
    Kind.Q6_K: superblocks.q6_k,
    Kind.IQ4_NL: blocks.iq4_nl,
    Kind.IQ4_XS: superblocks.iq4_xs,
}
_LIMIT: dict[Kind, float] = {  # float16's, times the largest level and the largest sub-scale
    Kind.F32: np.inf,
    Kind.F16: F16_LIMIT,
    Kind.BF16: 3.3961775292304957e38,  # rounds to infinity from here
    Kind.Q8_0: F16_LIMIT * 127,
    Kind.Q4_0: F16_LIMIT * 8,
    Kind.Q4_1: F16_LIMIT * 15,
    Kind.Q5_0: F16_LIMIT * 16,
    Kind.Q5_1: F16_LIMIT * 31,
    Kind.Q2_K: F16_LIMIT * 15 * 3,
    Kind.Q3_K: F16_LIMIT * 32 * 4,
    Kind.Q4_K: F16_LIMIT * 63 * 15,
    Kind.Q5_K: F16_LIMIT * 63 * 31,
    Kind.Q6_K: F16_LIMIT * 128 * 32,
    Kind.IQ4_NL: F16_LIMIT * 127,
    Kind.IQ4_XS: F16_LIMIT * 32 * 127,
}
