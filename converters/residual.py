"""PiSSA and OLoRA: pairs that began as a part of the base weight, turned into plain LoRA.

At its start PEFT takes the pair B0 A0 out of the weight, W -> W - scale * B0 A0, and trains from
there; the adapter file holds only the trained A and B. Both starts are functions of W alone, so the
trained model is W + scale * (B A - B0 A0): a plain update of twice the rank, valid for the
untouched base. With P the projection on the r largest left singular vectors of W (PiSSA) or on its
first r columns (OLoRA), B0 A0 is P W / scale or P W, whatever the signs and order of the factors.
Sources: peft/tuners/lora/layer.py `olora_init` and `pissa_init` (init "pissa"; "pissa_niter_N"
draws random numbers). A run in bfloat16 trained on the residual rounded to bfloat16; here it is not
rounded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from converters.lora import LoraPair
from converters.transforms import F32, Rows, chunks

_F64 = npt.NDArray[np.float64]


def plain_pair(pair: LoraPair, start: str, weight: Rows) -> LoraPair:
    """The pair for the untouched base: a [2r, n_in], b [n_out, 2r], scale as before.

    start: "pissa" or "olora". weight: the base's [n_out, n_in].
    """
    if start == "pissa":  # the singular values were divided by the scale, which undoes it
        left, taken = _leading(weight, pair.rank), 1 / pair.scale
    else:
        left, taken = _first_columns(weight, pair.rank), 1.0
    b0 = (left * -taken).astype(np.float32)
    a0 = _times(left.T, weight)
    return LoraPair(
        pair.name, np.concatenate([pair.a, a0]), np.concatenate([pair.b, b0], 1), pair.scale
    )


def _leading(weight: Rows, rank: int) -> _F64:
    """The `rank` largest left singular vectors: [n_out, rank].

    From the smaller Gram matrix in float64, which fits in memory where the weight's own SVD,
    with its three factors, would not.
    """
    n_out, n_in = weight.shape
    if n_in <= n_out:
        gram = np.zeros((n_in, n_in))
        for chunk in chunks(weight):
            wide = chunk.astype(np.float64)
            gram += wide.T @ wide
        right = np.linalg.eigh(gram)[1][:, -rank:]
        left = np.concatenate([chunk.astype(np.float64) @ right for chunk in chunks(weight)])
        return np.linalg.qr(left)[0]
    whole = weight.read(0, n_out).astype(np.float64)
    return np.linalg.eigh(whole @ whole.T)[1][:, -rank:]


def _first_columns(weight: Rows, rank: int) -> _F64:
    """An orthonormal basis of the first `rank` columns: [n_out, rank]."""
    columns = np.concatenate([chunk[:, :rank] for chunk in chunks(weight)])
    return np.linalg.qr(columns.astype(np.float64))[0]


def _times(left: _F64, weight: Rows) -> F32:
    """left @ weight in float64: [rank, n_in]."""
    total = np.zeros((left.shape[0], weight.shape[1]))
    start = 0
    for chunk in chunks(weight):
        total += left[:, start : start + len(chunk)] @ chunk.astype(np.float64)
        start += len(chunk)
    return total.astype(np.float32)
