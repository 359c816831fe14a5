"""How wide kernels compute on this CPU, and the room they need for it. Imports no numba."""

from __future__ import annotations

import numpy as np
from llvmlite import binding  # type: ignore[import-untyped, unused-ignore]

from converters.transforms import F32

CPU = dict(binding.get_host_cpu_features())
LANES = 32 if CPU.get("avx512f") else 16 if CPU.get("avx2") else 8  # two registers: measured best
ROW = 16  # neighbours within a sub-block; divides every sub-block
SQUARE = 8  # transposed at a time; divides LANES and every sub-block
LINE = 64  # bytes of a cache line: a vector across two of them costs twice
SIZE = 32  # the longest sub-block
TILE = SIZE * LANES  # elements of a tile of vectors

LOOP_LANES = 128  # lanes where LLVM vectorises loops; measured: 64 is 15 % slower, 256 no faster
LOOP_STATE = 10  # rows of numbers per lane
GROUP = 8  # columns whose errors are applied together; divides every block of columns


def tiles() -> F32:
    """Room for five tiles of vectors, wherever a cache line begins."""
    return np.empty(5 * TILE + LINE // 4, np.float32)


def loop_tiles() -> F32:
    """Room for three tiles and the state of a search that loops over lanes."""
    return np.empty((3 * SIZE + LOOP_STATE, LOOP_LANES), np.float32)


def feedback_tiles(width: int, k: int) -> F32:
    """Room for three tiles of `width` columns, two of k sub-blocks, and the errors of a group."""
    return np.empty((3 * width + 2 * k + GROUP) * LANES + LINE // 4, np.float32)
