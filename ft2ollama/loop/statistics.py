"""Is one model worse than another on the same items, and would we have noticed?

In: paired scores, one per item.  Out: bounds, p-values and powers. Paired, because the same items
are hard for both models; by bootstrap, because scores are not normal; seeded, because the same
answers must give the same verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

_ROUNDS = 10_000
_ALPHA = 0.05
_NORMAL = NormalDist()


def lower_bound(before: Sequence[float], after: Sequence[float], *, alpha: float = _ALPHA) -> float:
    """One-sided (1 - alpha) bootstrap bound below the mean of `after - before`.

    An item that both answer alike says nothing against either: with no differences the bound is 0.
    """
    difference = _paired(before, after)
    if not difference.any():
        return 0.0
    rng = np.random.default_rng(0)
    n = len(difference)
    means = np.empty(_ROUNDS)
    for start in range(0, _ROUNDS, 500):  # 500 x n indices at a time
        picked = rng.integers(0, n, (min(500, _ROUNDS - start), n))
        means[start : start + len(picked)] = difference[picked].mean(axis=1)
    return float(np.quantile(means, alpha))


def p_better(before: Sequence[float], after: Sequence[float]) -> float:
    """p-value of "after is not better": a paired sign-flip test on the sum of the differences.

    Exact for up to 16 items that differ, sampled above.
    """
    difference = _paired(before, after)
    moved = np.abs(difference[difference != 0])
    seen = difference.sum()
    if not len(moved):
        return 1.0
    if len(moved) <= 16:
        signs = 1 - 2 * ((np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1)
        return float(np.mean(signs @ moved >= seen - 1e-12))
    rng = np.random.default_rng(0)
    signs = rng.choice((-1, 1), (_ROUNDS, len(moved)))
    hits = int(np.sum(signs @ moved >= seen - 1e-12))
    return (hits + 1) / (_ROUNDS + 1)


def power_to_pass(spread: float, items: int, margin: float, *, alpha: float = _ALPHA) -> float:
    """How often an equally good model passes "not worse by `margin`" on so many items.

    spread: standard deviation of the paired differences.
    """
    if spread == 0:
        return 1.0
    error = spread / math.sqrt(items)
    return _NORMAL.cdf(margin / error - _NORMAL.inv_cdf(1 - alpha))


def spread(before: Sequence[float], after: Sequence[float]) -> float:
    """Standard deviation of the paired differences."""
    difference = _paired(before, after)
    return float(difference.std(ddof=1)) if len(difference) > 1 else 0.0


def _paired(
    before: Sequence[float], after: Sequence[float]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} and {len(after)} scores are no pairs")
    return np.asarray(after, np.float64) - np.asarray(before, np.float64)
