"""One LoRA pair and its algebra.

A pair stands for the update `scale * b @ a` of a weight `[n_out, n_in]`. An operation that a family
does to the weight's rows is done to `b` alone, because `(P b) a = P (b a)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from converters.transforms import F32, Index


@dataclass(frozen=True)
class LoraPair:
    """name: the weight's module; a: [r, n_in], b: [n_out, r]; scale: what multiplies b @ a."""

    name: str
    a: F32
    b: F32
    scale: float

    @property
    def rank(self) -> int:
        """The inner dimension r."""
        return int(self.a.shape[0])

    def delta(self, start: int, stop: int) -> F32:
        """Rows start..stop of the update: [stop - start, n_in], float32."""
        scaled: F32 = self.b[start:stop] * np.float32(self.scale)
        product: F32 = np.matmul(scaled, self.a, dtype=np.float32)
        return product

    def permute_rows(self, order: Index) -> LoraPair:
        """The pair of the weight whose row i is row order[i] of this one."""
        return replace(self, b=self.b[order])

    def fold(self, scale: float) -> LoraPair:
        """The same update with `scale` as its scale: the ratio moves into b.

        A runtime that knows one alpha for all pairs thus applies each pair's own scale.
        """
        if scale == self.scale:
            return self
        return replace(self, b=self.b * np.float32(self.scale / scale), scale=scale)
