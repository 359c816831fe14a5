"""Samples -> the batches a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ft2ollama.data.render import IGNORED, Sample


class Collator:
    """Samples -> right-padded tensors; padding is masked by length, never by token id."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask, labels: [batch, longest]."""
        longest = max(len(row["input_ids"]) for row in rows)

        def padded(key: str, fill: int) -> torch.Tensor:
            return torch.tensor([[*row[key], *[fill] * (longest - len(row[key]))] for row in rows])

        mask = [
            [1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows
        ]
        return {
            "input_ids": padded("input_ids", self._pad_id),
            "attention_mask": torch.tensor(mask),
            "labels": padded("labels", IGNORED),
        }


def rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """input_ids and labels of each sample, as lists."""
    # The first label is never predicted: the trainer must not count it as learned.
    return [
        {"input_ids": list(sample.ids), "labels": [IGNORED, *sample.labels[1:]]}
        for sample in samples
    ]
