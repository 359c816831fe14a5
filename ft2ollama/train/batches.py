"""Samples -> the batches a model sees.

`Collator` pads to the longest row. `PaddingFree` lays the same rows end to end: no token is spent
on padding, none behind the last one that teaches something, and, if asked, none twice of what all
of them begin with. Both take rows of one conversation or packs of several (`packing.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

import torch

from ft2ollama.data.render import IGNORED, Sample


class Collator:
    """Samples -> right-padded tensors; padding is masked by length, never by token id."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask, labels: [batch, longest]."""
        rows = list(documents(rows))
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


_WORTH = 8  # tokens that sharing must save; below, one more piece in every layer costs as much


class PaddingFree:
    """Samples -> one row in which they lie end to end, each with positions from 0.

    A document ends before its last learned token: that token is predicted, and nothing that is
    learned looks at it or at what follows.
    """

    def __init__(self, *, share: bool = False) -> None:
        """share: tokens that all documents begin with stand once, as the first document of the
        row. `cu_seq_lens_k` then counts them among the keys of each that follows."""
        self._share = share

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """input_ids, position_ids: [1, tokens]; cu_seq_lens_*: [documents + 1]; labels: see below.

        labels: [1, tokens + 1]; the label of the token after place i is labels[0, i + 1], as in a
        padded batch. tokens: of the rows, before their ends were left out.
        """
        pieces = [_piece(row) for row in documents(rows)]
        shared = _shared(pieces) if self._share else 0
        ids = pieces[0].ids[:shared]
        labels = [IGNORED] * (1 + shared)
        for piece in pieces:
            ids += piece.ids[shared:]
            labels += piece.labels[shared:]
        first = [shared] if shared else []
        own = [*first, *(len(piece.ids) - shared for piece in pieces)]
        seen = [*first, *(len(piece.ids) for piece in pieces)]
        places = [torch.arange(end - count, end) for count, end in zip(own, seen, strict=True)]
        return {
            "input_ids": torch.tensor([ids]),
            "position_ids": torch.cat(places)[None],
            "labels": torch.tensor([labels]),
            "cu_seq_lens_q": torch.tensor([0, *accumulate(own)], dtype=torch.int32),
            "cu_seq_lens_k": torch.tensor([0, *accumulate(seen)], dtype=torch.int32),
            "max_length_q": max(own),
            "max_length_k": max(seen),
            "tokens": sum(piece.whole for piece in pieces),
        }


@dataclass(frozen=True)
class _Piece:
    """What of a document is computed. labels: of the token after each; whole: all its tokens."""

    ids: list[int]
    labels: list[int]
    whole: int


def _piece(row: dict[str, Any]) -> _Piece:
    learned = [i for i, label in enumerate(row["labels"]) if label != IGNORED]
    end = max(1, learned[-1] if learned else 0)
    labels = row["labels"][1 : end + 1] or [IGNORED]
    return _Piece(row["input_ids"][:end], labels, len(row["input_ids"]))


def _shared(pieces: Sequence[_Piece]) -> int:
    """How many tokens all begin with, before any that predicts a learned one; 0 if too few."""
    places = zip(*(piece.ids for piece in pieces), strict=False)
    found = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, places))
    for piece in pieces:
        firsts = (i for i, label in enumerate(piece.labels) if label != IGNORED)
        found = min(found, len(piece.ids) - 1, next(firsts, found))
    return found if found * (len(pieces) - 1) >= _WORTH else 0


def count_tokens(batch: Mapping[str, Any]) -> torch.Tensor | int:
    """Tokens of the conversations in a batch of either kind, padding not counted.

    A sum over a mask stays where the batch is: a GPU is not waited for.
    """
    whole: int | None = batch.get("tokens")
    return batch["attention_mask"].sum() if whole is None else whole


def documents(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The conversations of rows and packs, one by one."""
    for row in rows:
        start = 0
        for length in row.get("documents", (len(row["input_ids"]),)):
            end = start + length
            yield {key: row[key][start:end] for key in ("input_ids", "labels")}
            start = end


def rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """input_ids and labels of each sample, as lists."""
    # The first label is never predicted: the trainer must not count it as learned.
    return [
        {"input_ids": list(sample.ids), "labels": [IGNORED, *sample.labels[1:]]}
        for sample in samples
    ]
