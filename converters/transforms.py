"""Lazy row views of a weight, and the pure functions on them.

A tensor of a 70B model does not fit beside its merged copy in memory, so a weight travels through
the package as `Rows`: a shape and a `read(start, stop)` that yields float32 rows. Each step
(merge, permute, later split and stack) wraps another `Rows`; bytes move only when the writer pulls
a chunk. A 1-D tensor has one element per row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

CHUNK_ELEMENTS = 1 << 20  # 4 MiB of float32: large enough for BLAS, small enough for any machine


class Rows(Protocol):
    """A tensor that is read in row ranges."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in numpy order: [rows, ...]."""

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop as a float32 array the caller may overwrite: [stop - start, ...]."""


@dataclass(frozen=True)
class ArrayRows:
    """Rows of an array that is in memory already."""

    array: F32

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    def read(self, start: int, stop: int) -> F32:
        """A copy of the rows start..stop."""
        return self.array[start:stop].astype(np.float32)


@dataclass(frozen=True)
class PermutedRows:
    """`source` with its rows reordered: row i is source row order[i]. order: [rows]."""

    source: Rows
    order: Index

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the source: a permutation keeps it."""
        return self.source.shape

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop of the permuted tensor; reads the span of source rows they come from."""
        wanted = self.order[start:stop]
        low, high = int(wanted.min()), int(wanted.max()) + 1
        return self.source.read(low, high)[wanted - low]


def chunks(rows: Rows) -> Iterator[F32]:
    """The whole tensor, in order, in pieces of about CHUNK_ELEMENTS elements."""
    n_rows = rows.shape[0] if rows.shape else 1
    width = max(1, int(np.prod(rows.shape[1:], dtype=np.int64)))
    step = max(1, CHUNK_ELEMENTS // width)
    for start in range(0, n_rows, step):
        yield rows.read(start, min(n_rows, start + step))


def equal_rows(one: Rows, other: Rows) -> bool:
    """Whether two tensors hold the same numbers; read chunk by chunk."""
    return one.shape == other.shape and all(map(np.array_equal, chunks(one), chunks(other)))


def rope_row_order(n_head: int, head_dim: int) -> Index:
    """Where each row of a llama-family q or k projection comes from: [n_head * head_dim].

    transformers rotates the two halves of a head (row j pairs with j + d/2), llama.cpp's "normal"
    RoPE rotates neighbours (row 2t pairs with 2t + 1): conversion/llama.py, LlamaModel.permute.
    Row s * d/2 + t of the checkpoint therefore moves to row 2t + s.
    """
    rows = np.arange(n_head * head_dim, dtype=np.intp)
    return rows.reshape(n_head, 2, head_dim // 2).swapaxes(1, 2).reshape(-1)


def inverse_order(order: Index) -> Index:
    """The permutation that undoes `order`."""
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order), dtype=order.dtype)
    return inverse
