"""DoRA: the merged weight W' = W + scale * B @ A with its norms set to trained magnitudes.

Linear: row i becomes m[i] * W'[i] / |W'[i]|, so each row range stands alone. Embedding: PEFT takes
the norm down the vocabulary, one per column, so all rows are read once before the first is given.
Formulas: peft/tuners/lora/dora.py, `get_weight_norm` and `forward`; the unmerged forward and the
merge are the same function. PEFT takes the norm in float32 too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from converters.transforms import F32, Rows, chunks


@dataclass(frozen=True)
class DoraRows:
    """source: the merged weight [n_out, n_in]; magnitude: [n_out], or [n_in] of an embedding."""

    source: Rows
    magnitude: Rows
    embedding: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the base weight."""
        return self.source.shape

    @cached_property
    def _column_factors(self) -> F32:
        squares = np.zeros(self.shape[1], np.float64)
        for chunk in chunks(self.source):
            squares += np.square(chunk.astype(np.float64)).sum(axis=0)
        norms: F32 = np.sqrt(squares).astype(np.float32)
        factors: F32 = self.magnitude.read(0, self.shape[1]) / norms
        return factors

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop with their trained length."""
        rows = self.source.read(start, stop)
        if self.embedding:
            rows *= self._column_factors
            return rows
        norms = np.sqrt(np.square(rows).sum(axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):  # a row of zeros: refused when encoded
            rows *= (self.magnitude.read(start, stop) / norms)[:, None]
        return rows
