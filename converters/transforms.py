"""Lazy row views of a weight, and the pure functions on them.

A tensor of a 70B model does not fit beside its merged copy in memory, so a weight travels through
the package as `Rows`: a shape and a `read(start, stop)` that yields float32 rows. Each step
(merge, permute, later split and stack) wraps another `Rows`; bytes move only when the writer pulls
a chunk.

A row is one vector along the last axis: a linear weight [n_out, n_in] has n_out rows, stacked
experts [E, n_out, n_in] have E * n_out, so that a chunk of experts is no larger than any other. A
1-D tensor has one element per row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
        """Shape in numpy order."""

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop as float32 the caller may overwrite: [stop - start, width] or 1-D."""


def n_rows(shape: tuple[int, ...]) -> int:
    """Number of rows: all axes but the last; the elements of a 1-D tensor, 1 for a scalar."""
    return math.prod(shape[:-1]) if len(shape) > 1 else math.prod(shape)


def row_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one row: (width,), or () where a row is one element."""
    return shape[-1:] if len(shape) > 1 else ()


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
        rows = self.array.reshape(-1, *row_shape(self.shape))
        return rows[start:stop].astype(np.float32)


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
        """Rows start..stop of the permuted tensor.

        Reads the span of source rows they come from where that is short (within a head), else run
        after run of neighbouring rows, so that memory stays bounded by the range.
        """
        wanted = self.order[start:stop]
        low, high = int(wanted.min()), int(wanted.max()) + 1
        if high - low <= 4 * len(wanted):
            return self.source.read(low, high)[wanted - low]
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
        return np.concatenate([self.source.read(int(r[0]), int(r[-1]) + 1) for r in runs])


@dataclass(frozen=True)
class PermutedColumns:
    """`source` with the elements of each row reordered. source: [rows, n]; order: [n]."""

    source: Rows
    order: Index

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the source."""
        return self.source.shape

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop."""
        return self.source.read(start, stop)[:, self.order]


@dataclass(frozen=True)
class MappedRows:
    """`source` with a function on every element, for example norm weight + 1."""

    source: Rows
    function: Callable[[F32], F32]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the source."""
        return self.source.shape

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop."""
        return self.function(self.source.read(start, stop))


@dataclass(frozen=True)
class RowRange:
    """`count` rows of `source` from `first` on, as a matrix [count, width]."""

    source: Rows
    first: int
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """[count, width]."""
        return (self.count, *row_shape(self.source.shape))

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop of the range."""
        return self.source.read(self.first + start, self.first + stop)


@dataclass(frozen=True)
class StackedRows:
    """E matrices [n_out, n_in] as one tensor [E, n_out, n_in]."""

    parts: tuple[Rows, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """[E, n_out, n_in]."""
        return (len(self.parts), *self.parts[0].shape)

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop, from as many parts as they touch."""
        each = self.parts[0].shape[0]
        pieces = [
            part.read(max(start - at, 0), min(stop - at, each))
            for at, part in zip(range(0, each * len(self.parts), each), self.parts, strict=True)
            if at < stop and at + each > start
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@dataclass(frozen=True)
class ReshapedRows:
    """`source` under another shape with the same rows, for example [n, 1, k] as [n, k]."""

    source: Rows
    shape: tuple[int, ...]

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop of the source, each of the new width."""
        return self.source.read(start, stop).reshape(-1, *row_shape(self.shape))


def chunks(rows: Rows) -> Iterator[F32]:
    """The whole tensor, in order, in pieces of about CHUNK_ELEMENTS elements."""
    total = n_rows(rows.shape)
    step = max(1, CHUNK_ELEMENTS // max(1, math.prod(row_shape(rows.shape))))
    for start in range(0, total, step):
        yield rows.read(start, min(total, start + step))


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
