"""Lane kernel of error feedback, a row per lane; search_numpy.feedback says what it computes.

Each lane adds in the order of the columns, so the result does not depend on how rows are cut
into calls. Errors of GROUP columns are applied to the later columns in one pass: a value is loaded
and stored once for all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.quants.kernel_compiler import kernel
from converters.quants.lanes_codebook import nearest_code
from converters.quants.lanes_width import FEEDBACK_GROUP as GROUP
from converters.quants.lanes_width import FEEDBACK_LANES as LANES

_ZERO = np.float32(0)


@kernel
def _round_uniform(
    x: Any, given: Any, step: Any, offset: Any, top: Any, error: Any, level: Any
) -> None:
    """All but top: [LANES]. x: what to round, given: what the error is against."""
    for k in range(LANES):
        d = step[k]
        v = (x[k] - offset[k]) / d if d != _ZERO else _ZERO
        v = v if v > _ZERO else _ZERO
        v = v if v < top else top
        q = np.rint(v)
        level[k] = q
        error[k] = given[k] - (d * q + offset[k])


@kernel
def _round_code(x: Any, given: Any, step: Any, error: Any, level: Any) -> None:
    """As above for the codebook."""
    for k in range(LANES):
        d = step[k]
        v = x[k] / d if d != _ZERO else _ZERO
        level[k] = nearest_code(v, True)
        error[k] = given[k] - d * nearest_code(v, False)


@kernel
def _load(source: Any, row: Any, order: Any, per: Any, tile: Any) -> Any:
    """Transpose columns order[i] / per of the rows from `row` on; returns how many rows."""
    lanes = min(LANES, source.shape[0] - row)
    width = len(order)
    for k in range(lanes):
        for i in range(width):
            tile[i, k] = source[row + k, order[i] // per]
    for k in range(lanes, LANES):
        for i in range(width):
            tile[i, k] = _ZERO
    return lanes


@kernel
def _spread(x: Any, error: Any, factor: Any, first: Any, width: Any) -> None:
    """Add the errors of the columns first..first + GROUP to all columns after them."""
    for j in range(first + GROUP, width):
        f0, f1, f2, f3 = (
            factor[first, j],
            factor[first + 1, j],
            factor[first + 2, j],
            factor[first + 3, j],
        )
        f4, f5, f6, f7 = (
            factor[first + 4, j],
            factor[first + 5, j],
            factor[first + 6, j],
            factor[first + 7, j],
        )
        for k in range(LANES):
            v = x[j, k]
            v += error[0, k] * f0
            v += error[1, k] * f1
            v += error[2, k] * f2
            v += error[3, k] * f3
            v += error[4, k] * f4
            v += error[5, k] * f5
            v += error[6, k] * f6
            v += error[7, k] * f7
            x[j, k] = v


@kernel
def feedback(  # noqa: PLR0913 - arrays and room
    source: Any, order: Any, factor: Any, step: Any, offset: Any, top: Any, out: Any, room: Any
) -> None:
    """See search_numpy; top is a float32."""
    width = len(order)
    size = source.shape[1] // step.shape[1]
    x, given, d = room[:width], room[width : 2 * width], room[2 * width : 3 * width]
    m, levels = room[3 * width : 4 * width], room[4 * width : 5 * width]
    error = room[5 * width :]
    for row in range(0, source.shape[0], LANES):
        lanes = _load(source, row, order, 1, x)
        _load(source, row, order, 1, given)
        _load(step, row, order, size, d)
        _load(offset, row, order, size, m)
        for first in range(0, width, GROUP):
            for c in range(GROUP):
                i = first + c
                if top > _ZERO:
                    _round_uniform(x[i], given[i], d[i], m[i], top, error[c], levels[i])
                else:
                    _round_code(x[i], given[i], d[i], error[c], levels[i])
                for j in range(i + 1, first + GROUP):
                    f = factor[i, j]
                    for k in range(LANES):
                        x[j, k] += error[c, k] * f
            _spread(x, error, factor, first, width)
        for k in range(lanes):
            for i in range(width):
                out[row + k, order[i]] = np.uint8(levels[i, k])
