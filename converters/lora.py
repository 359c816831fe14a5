"""One LoRA pair and its algebra.

A pair stands for the update `scale * b @ a` of a weight `[n_out, n_in]`. An operation that a family
does to the weight's rows is done to `b` alone, because `(P b) a = P (b a)`, and one on its columns
to `a` alone. The pair of stacked experts `[E, n_out, n_in]` has the same form with a leading axis:
a `[E, r, n_in]`, b `[E, n_out, r]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from converters.transforms import F32, Index

_LINE = 16  # float32 of a cache line


@dataclass(frozen=True)
class LoraPair:
    """name: the weight's module; a: [r, n_in], b: [n_out, r]; scale: what multiplies b @ a.

    For stacked experts both have a leading axis E.
    """

    name: str
    a: F32
    b: F32
    scale: float

    @property
    def rank(self) -> int:
        """The inner dimension r."""
        return int(self.a.shape[-2])

    def delta(self, start: int, stop: int) -> F32:
        """Rows start..stop of the update: [stop - start, n_in], float32.

        Of stacked experts the rows are counted through, expert after expert.
        """
        if self.a.ndim == 2:
            scaled: F32 = self.b[start:stop] * np.float32(self.scale)
            return _product(scaled, self.a)
        each = self.b.shape[1]
        pieces = [
            self.expert(e).delta(max(start - e * each, 0), min(stop - e * each, each))
            for e in range(start // each, -(-stop // each))
        ]
        return np.concatenate(pieces) if pieces else np.empty((0, self.a.shape[-1]), np.float32)

    def expert(self, number: int) -> LoraPair:
        """The pair of one expert, two-dimensional."""
        return replace(self, a=self.a[number], b=self.b[number])

    def permute_rows(self, order: Index) -> LoraPair:
        """The pair of the weight whose row i is row order[i] of this one."""
        return replace(self, b=self.b[order])

    def permute_columns(self, order: Index) -> LoraPair:
        """The pair of the weight whose column i is column order[i] of this one."""
        return replace(self, a=self.a[:, order])

    def slice_rows(self, start: int, stop: int) -> LoraPair:
        """The pair of rows start..stop of the weight (of every expert)."""
        return replace(self, b=self.b[..., start:stop, :])

    def fold(self, scale: float) -> LoraPair:
        """The same update with `scale` as its scale: the ratio moves into b.

        A runtime that knows one alpha for all pairs thus applies each pair's own scale.
        """
        if scale == self.scale:
            return self
        return replace(self, b=self.b * np.float32(self.scale / scale), scale=scale)


def _product(b: F32, a: F32) -> F32:
    """b @ a into rows that lie a cache line further apart than they are long.

    Widths are multiples of 1024 as a rule; then all rows of a tile fall into the same cache sets,
    and the product takes up to twice as long.
    """
    rows, columns = len(b), a.shape[1]
    out: F32 = np.empty((rows, columns + _LINE), np.float32)[:, :columns]
    return np.matmul(b, a, out=out)


class PairSource(Protocol):
    """A pair that is read when it is needed."""

    @property
    def name(self) -> str:
        """The weight's module."""

    @property
    def rank(self) -> int:
        """The inner dimension."""

    @property
    def embedding(self) -> bool:
        """Whether the weight is looked up and not multiplied."""

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight the pair belongs to."""

    def load(self) -> LoraPair:
        """Read both factors."""


def stack_pairs(name: str, pairs: Sequence[LoraPair | None]) -> LoraPair:
    """One pair [E, ...] of E experts' pairs; None is an expert without an update.

    The stack has the largest rank: shorter factors are filled up with zeros, which add nothing.
    Scales that differ are folded into b.
    """
    present = [pair for pair in pairs if pair is not None]
    rank, scale = max(pair.rank for pair in present), present[0].scale
    a = np.zeros((len(pairs), rank, present[0].a.shape[1]), np.float32)
    b = np.zeros((len(pairs), present[0].b.shape[0], rank), np.float32)
    for number, pair in enumerate(pairs):
        if pair is not None:
            a[number, : pair.rank] = pair.a
            b[number, :, : pair.rank] = pair.fold(scale).b
    return LoraPair(name, a, b, scale)
