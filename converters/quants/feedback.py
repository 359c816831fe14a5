"""Calibrated encoding: the rounding error of a column is made good by the other columns.

In: whole rows of a weight and, per block of its columns, the second moments of the inputs that meet
them. Out: the ordinary bytes of the type. Scales are those of the search with importance;
then the levels are chosen column by column, those with the largest inputs first, and what a
column's rounding does to the output is made good by the columns of its block that are still to
come, as GPTQ does over a whole row (Frantar et al. 2023; in the form without an inverse, Chee et
al. 2023). The order is worth a tenth of the error.
A block is a whole row where that is affordable (column_blocks): against blocks of 256 that takes
another 15 % off the KL divergence in domain and 7 to 9 % out of it (benchmarks/quality.py). Rows
and blocks stay independent, so chunks and threads do not change the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from converters.quants import layout
from converters.quants.layout import Bytes
from converters.quants.quantize import encode
from converters.quants.scales import Scales, scales_of
from converters.quants.search import backend
from converters.transforms import F32, Index

NARROWEST, WIDEST = 256, 2048  # columns per block of moments; a super-block is the least
_MOMENTS = 1 << 22  # per input, before symmetry: what a wide layer's statistics may take
DAMPING = 0.01  # of the mean diagonal, added to it: rare inputs must not blow up the inverse


@dataclass(frozen=True)
class Spread:
    """How errors spread within a block of columns.

    order: [w], the columns in the order they are rounded. factor: [w, w] in that order; row c says
    how the error of column c is added to the columns after it.
    """

    order: Index
    factor: F32


class _Form(NamedTuple):
    """The highest level, 0 for the codebook, and what writes levels [n, block] into blocks."""

    top: int
    write: Callable[[Bytes, Bytes], Bytes]


def column_blocks(n_cols: int) -> list[int]:
    """Widths of the blocks of columns: multiples of 256 but for the last one.

    One block up to 2048 columns; beyond, narrower ones, because memory and time grow with the
    width: 1024 of 4096 columns, 256 from 16384 columns on.
    """
    width = min(WIDEST, max(NARROWEST, _MOMENTS // max(1, n_cols) // NARROWEST * NARROWEST))
    return [min(width, n_cols - start) for start in range(0, n_cols, width)]


def spreads(moments: Sequence[F32]) -> list[Spread]:
    """How errors spread, for each block of moments H [w, w]: factor[c, j] = R[c, j] / R[j, j].

    H = R R^T with an upper triangular R. In a block whose inputs were all zero nothing spreads.
    """
    return [_spread(block) for block in moments]


def _spread(moments: F32) -> Spread:
    order = np.argsort(-np.diag(moments), kind="stable")
    h = moments[np.ix_(order, order)].astype(np.float64)
    mean = float(np.trace(h)) / len(h)
    if not mean > 0:
        return Spread(order, np.eye(len(h), dtype=np.float32))
    h[np.diag_indices(len(h))] += DAMPING * mean
    upper = np.linalg.cholesky(h[::-1, ::-1])[::-1, ::-1]
    return Spread(order, (upper / np.diag(upper)).astype(np.float32))


def encode_with_feedback(
    values: F32, kind: Kind, name: str = "", *, importance: F32, spread: Sequence[Spread]
) -> Bytes:
    """Encode whole rows; errors as in `encode`. Types in FEEDBACK_TYPES only.

    values: [n, n_cols]. importance: [n_cols], the diagonal of the moments. spread: one per block of
    columns. out: flat bytes.
    """
    rows = np.ascontiguousarray(values, np.float32).reshape(-1, values.shape[-1])
    _, size = GGML_QUANT_SIZES[kind]
    data = encode(rows, kind, name, importance=importance).reshape(-1, size)
    form = _FORMS[kind]
    scales = scales_of(data, kind)
    shape = len(rows), -1
    levels = _levels(
        rows, Scales(scales.step.reshape(shape), scales.offset.reshape(shape)), spread, form.top
    )
    return with_levels(data, kind, levels).reshape(-1)


def with_levels(data: Bytes, kind: Kind, levels: Bytes) -> Bytes:
    """The blocks `data` [n, bytes of a block] with other levels and the same scales."""
    block, _ = GGML_QUANT_SIZES[kind]
    return _FORMS[kind].write(data.copy(), levels.reshape(-1, block))


def _levels(rows: F32, scales: Scales, spread: Sequence[Spread], top: int) -> Bytes:
    search = backend()
    out = np.empty(rows.shape, np.uint8)
    column = 0
    for block in spread:
        order = (column + block.order).astype(np.int64)
        search.feedback(rows, order, block.factor, scales.step, scales.offset, top, out)
        column += len(order)
    return out


def _plain(top: int, n_max: int) -> _Form:
    return _Form(top, lambda blocks, levels: layout.with_plain(blocks, levels, n_max))


def _affine(n_max: int) -> _Form:
    return _Form(n_max, lambda blocks, levels: layout.with_affine(blocks, levels, n_max))


def _symmetric(n_max: int) -> _Form:
    return _Form(2 * n_max - 1, lambda blocks, levels: layout.with_symmetric(blocks, levels, n_max))


_FORMS: dict[Kind, _Form] = {
    Kind.Q4_0: _plain(15, 15),
    Kind.Q4_1: _plain(15, 15),
    Kind.Q5_0: _plain(31, 31),
    Kind.Q5_1: _plain(31, 31),
    Kind.IQ4_NL: _plain(0, 15),
    Kind.Q2_K: _affine(3),
    Kind.Q4_K: _affine(15),
    Kind.Q5_K: _affine(31),
    Kind.Q3_K: _symmetric(4),
    Kind.Q6_K: _symmetric(32),
    Kind.IQ4_XS: _Form(0, layout.with_iq4_xs),
}
FEEDBACK_TYPES = frozenset(_FORMS)
