"""float32 -> bytes of a GGML type and back, bit for bit what ggml writes.

Formulas: ggml/src/ggml-quants.c (quantize_row_q8_0_ref), ggml-impl.h (ggml_compute_fp32_to_bf16).
Weights that are not finite, or too large for the type, are an error with the tensor's name: the
runtime would answer nonsense and nothing would say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize as gguf_dequantize

from converters.errors import ConvertError
from converters.transforms import F32, Rows, chunks

Bytes = npt.NDArray[np.uint8]

_BLOCK = 32
_F16_LIMIT = 65520.0  # from here on rounding gives infinity
_HALF = np.float32(np.nextafter(np.float32(0.5), np.float32(0)))


def encode(values: F32, kind: GGMLQuantizationType, name: str = "") -> Bytes:
    """Encode whole rows. values: [..., n], n a multiple of the block; out: flat bytes."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ConvertError(
            "a weight is not a finite number",
            name,
            "the tensor holds NaN or infinity; the training run that made it diverged",
            "train again with a lower learning rate, or export an earlier checkpoint",
        )
    limit = _LIMIT.get(kind)
    if limit is not None and max(-low, high) >= limit:
        raise ConvertError(
            f"a weight does not fit {kind.name}",
            name,
            f"largest magnitude {max(-low, high):g}, {kind.name} holds up to {limit:g}",
            "--outtype BF16 or F32",
        )
    return _ENCODERS[kind](np.ascontiguousarray(values, dtype=np.float32))


def encoded_chunks(rows: Rows, kind: GGMLQuantizationType, name: str) -> Iterator[Bytes]:
    """The whole tensor as encoded bytes, chunk by chunk."""
    for chunk in chunks(rows):
        yield encode(chunk, kind, name)


def decode(data: Bytes, kind: GGMLQuantizationType) -> F32:
    """Bytes of whole blocks -> flat float32. Types we only read go through gguf-py."""
    flat = data.reshape(-1)
    if kind == GGMLQuantizationType.F32:
        return flat.view(np.float32)
    if kind == GGMLQuantizationType.F16:
        return flat.view(np.float16).astype(np.float32)
    # one long row: gguf-py works in groups of rows, and a single group is one vector operation
    values: F32 = gguf_dequantize(flat.reshape(1, -1), kind).reshape(-1)
    return values


def _f32(values: F32) -> Bytes:
    return values.view(np.uint8)


def _f16(values: F32) -> Bytes:
    return values.astype(np.float16).view(np.uint8)


def _bf16(values: F32) -> Bytes:
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    odd += np.uint32(0x7FFF)
    odd += bits  # rounds to nearest, ties to even; cannot overflow for finite values
    return (odd >> np.uint32(16)).astype(np.uint16).view(np.uint8)


def _q8_0(values: F32) -> Bytes:
    """Blocks of 32: float16 scale d = max|x| / 127, then 32 int8 = round(x / d).

    The quotient uses 1/d of the unrounded d and rounds halves away from zero. Adding the largest
    float below 0.5 and truncating does that exactly (adding 0.5 would turn 0.49999997 into 1).
    """
    blocks = values.reshape(-1, _BLOCK)
    d = np.abs(blocks).max(axis=1) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / d
    inverse[~np.isfinite(inverse)] = 0  # a block of zeros, or so small that ggml's 1/d overflows
    scaled = blocks * inverse[:, None]
    scaled += np.copysign(_HALF, scaled)
    out = np.empty((len(blocks), 2 + _BLOCK), np.uint8)
    out[:, :2] = d.astype(np.float16).view(np.uint8).reshape(-1, 2)
    out[:, 2:] = scaled.astype(np.int8).view(np.uint8)
    return out


_ENCODERS: dict[GGMLQuantizationType, Callable[[F32], Bytes]] = {
    GGMLQuantizationType.F32: _f32,
    GGMLQuantizationType.F16: _f16,
    GGMLQuantizationType.BF16: _bf16,
    GGMLQuantizationType.Q8_0: _q8_0,
}
_LIMIT: dict[GGMLQuantizationType, float] = {
    GGMLQuantizationType.F16: _F16_LIMIT,
    GGMLQuantizationType.BF16: 3.3961775292304957e38,  # rounds to infinity from here
    GGMLQuantizationType.Q8_0: _F16_LIMIT * 127,
}
