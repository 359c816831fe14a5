"""W + scale * B @ A, row range by row range.

In float32 whatever the checkpoint's type: merging in bfloat16 loses a sixth of a typical update
(|dW|/|W| = 1 %), and the sum is rounded once, when it is encoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from converters.lora import LoraPair
from converters.transforms import F32, Rows


@dataclass(frozen=True)
class MergedRows:
    """`source` plus a pair's update. source: [n_out, n_in]; load: reads the pair when needed."""

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
