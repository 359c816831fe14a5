"""In which order the rows are seen: a function of seed and epoch alone.

transformers draws its orders from the global random state and groups by the batch of one process.
Then a resumed run, or the same batch over more processes, would see other rows. Here the order
depends on the seed, the epoch and the rows of a whole optimizer step only, so that one process and
several see the same rows in the same step. At the end of an epoch a row without a learned token
fills up what the processes lack, where accelerate would repeat rows of the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class TrainingOrder(Sampler[int]):  # type: ignore[misc]
    """Indices of the rows of one epoch, then that of the filling row as often as needed."""

    def __init__(
        self, strategy: str, lengths: Sequence[int], *, step_rows: int, fill_to: int, seed: int
    ) -> None:
        """lengths: tokens of each row; their number is the index of the filling row.

        step_rows: rows of an optimizer step, of all processes.
        fill_to: the number of rows seen is a multiple of this.
        """
        self._strategy, self._lengths, self._step_rows = strategy, list(lengths), step_rows
        self._filled = -len(self._lengths) % fill_to
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Another epoch, another order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths) + self._filled

    def __iter__(self) -> Iterator[int]:
        yield from self._rows()
        yield from [len(self._lengths)] * self._filled

    def _rows(self) -> list[int]:
        if self._strategy == "sequential":
            return list(range(len(self._lengths)))
        generator = torch.Generator()
        generator.manual_seed(self._seed * 1_000_003 + self.epoch)
        if self._strategy == "random":
            return list(map(int, torch.randperm(len(self._lengths), generator=generator)))
        return list(get_length_grouped_indices(self._lengths, self._step_rows, generator=generator))
