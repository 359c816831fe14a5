"""What training did to a weight, as rows that are made while they are read.

In float32 whatever the checkpoint's type: merging in bfloat16 loses a sixth of a typical update
(|dW|/|W| = 1 %), and the sum is rounded once, when it is encoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from converters.lora import LoraPair
from converters.transforms import F32, Index, Rows


@dataclass(frozen=True)
class MergedRows:
    """W + scale * B @ A. source: [n_out, n_in]; load: reads the pair when needed."""

    source: Rows
    load: Callable[[], LoraPair]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the base weight."""
        return self.source.shape

    @cached_property
    def _pair(self) -> LoraPair:
        return self.load()

    def read(self, start: int, stop: int) -> F32:
        """Merged rows start..stop."""
        rows = self.source.read(start, stop)
        rows += self._pair.delta(start, stop)
        return rows


@dataclass(frozen=True)
class AddedRows:
    """A bias plus scale * the bias of B. source: [n], or None where the base has no bias."""

    source: Rows | None
    extra: Rows
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the bias."""
        return self.extra.shape

    def read(self, start: int, stop: int) -> F32:
        """Elements start..stop."""
        extra = self.extra.read(start, stop)
        extra *= np.float32(self.scale)
        return extra if self.source is None else self.source.read(start, stop) + extra


@dataclass(frozen=True)
class ReplacedRows:
    """`source` with some of its rows replaced. indices: [n]; values: [n, width]."""

    source: Rows
    indices: Index
    values: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the source."""
        return self.source.shape

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop, the trained ones from `values`."""
        rows = self.source.read(start, stop)
        for place in np.flatnonzero((self.indices >= start) & (self.indices < stop)).tolist():
            rows[self.indices[place] - start] = self.values.read(place, place + 1)[0]
        return rows
