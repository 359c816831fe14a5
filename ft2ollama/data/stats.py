"""Lengths of rows -> percentiles, a histogram, and what any cutoff_len would cost.

In: measured rows (`measure.py`).  Out: numbers; all lengths are tokens.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ft2ollama.data.measure import Measured

PERCENTILES = (0, 25, 50, 90, 99, 100)
_USUAL = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


@dataclass(frozen=True)
class Bar:
    """Rows of `low` to `high` tokens, both included."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True)
class Cost:
    """What a cutoff_len does.

    over: rows that are longer.  lost: learned tokens beyond it, which cutting a row loses.
    dropped: learned tokens of the rows that are longer, which leaving them out loses.
    padding: share of a batch that is padding, over the rows that fit.  packing: share of a
    sequence of this length that is filled when rows are packed into it.
    """

    cutoff: int
    over: int
    lost: int
    dropped: int
    padding: float
    packing: float


def percentiles(lengths: Sequence[int]) -> dict[int, int]:
    """Percent -> length; the length of a real row."""
    found = np.percentile(np.array(lengths), PERCENTILES, method="nearest")
    return {percent: int(length) for percent, length in zip(PERCENTILES, found, strict=True)}


def histogram(lengths: Sequence[int], bars: int = 12) -> list[Bar]:
    """Equal ranges with round limits; the last one is open and holds the longest hundredth."""
    low, top = (int(np.percentile(np.array(lengths), p, method="nearest")) for p in (0, 99))
    step = _round_step(max(1, top - low) / bars)
    edges = list(range(low // step * step, top + 1, step))
    counts, _ = np.histogram(lengths, [*(edge - 0.5 for edge in edges), np.inf])
    longest = max(lengths)
    return [
        Bar(low, longest if number == len(edges) - 1 else low + step - 1, int(counts[number]))
        for number, low in enumerate(edges)
    ]


def _round_step(wanted: float) -> int:
    """1, 2, 5, 10, 20, 50, ...: the smallest that is not below `wanted`."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if factor * scale >= wanted:
                return factor * scale
        scale *= 10


def cutoffs(longest: int, chosen: int | None) -> list[int]:
    """Usual values up to the first that holds every row, and the config's own."""
    found = [value for value in _USUAL if value < longest]
    found.append(next((value for value in _USUAL if value >= longest), longest))
    return sorted({*found[-5:], *([chosen] if chosen else [])})


def cost(rows: Sequence[Measured], cutoff: int, batch: int, seed: int = 42) -> Cost:
    """What `cutoff` costs. batch: rows per batch, drawn at random as training draws them."""
    lengths = np.array([row.tokens for row in rows])
    fit = lengths[lengths <= cutoff]
    return Cost(
        cutoff=cutoff,
        over=int((lengths > cutoff).sum()),
        lost=sum(row.lost(cutoff) for row in rows),
        dropped=sum(row.learned for row in rows if row.tokens > cutoff),
        padding=_padding(fit, batch, seed),
        packing=_packing(fit, cutoff),
    )


def _padding(lengths: np.ndarray, batch: int, seed: int) -> float:
    if not len(lengths):
        return 0.0
    shuffled = np.random.default_rng(seed).permutation(lengths)
    padded = sum(
        int(shuffled[start : start + batch].max()) * len(shuffled[start : start + batch])
        for start in range(0, len(shuffled), batch)
    )
    return 1 - float(lengths.sum()) / padded


def _packing(lengths: np.ndarray, cutoff: int) -> float:
    """Filled share of the sequences that best-fit decreasing packing needs."""
    if not len(lengths):
        return 0.0
    room: list[int] = []  # what is left in each open sequence, ascending
    bins = 0
    for length in np.sort(lengths)[::-1].tolist():
        at = bisect_left(room, length)
        if at == len(room):
            bins += 1
            left = cutoff - length
        else:
            left = room.pop(at) - length
        if left:
            insort(room, left)
    return float(lengths.sum()) / (bins * cutoff)
