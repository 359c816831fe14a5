"""How much each weight counts when its column has an importance (llama.cpp's imatrix).

Formula: ggml/src/ggml-quants.c, the `_impl` functions: importance * sqrt(sigma2 + x^2).
"""

from __future__ import annotations

import numpy as np

from converters.transforms import F32


def weights_of(rows: F32, importance: F32 | None, span: int, factor: int) -> F32 | None:
    """Weights of the shape of `rows`, or None. sigma2 = factor * mean(x^2) over `span` columns."""
    if importance is None:
        return None
    squares = rows * rows
    totals = sums(squares.reshape(-1, span)).reshape(len(rows), -1, 1)
    sigma2 = np.float32(factor) * totals / np.float32(span)
    spread = np.sqrt(sigma2 + squares.reshape(len(rows), -1, span)).reshape(rows.shape)
    weights: F32 = importance * spread
    return weights


def sums(values: F32) -> F32:
    """Sums along the last axis, element after element as C adds them: [n, size] -> [n]."""
    total: F32 = np.add.accumulate(values, axis=1)[:, -1]
    return total
