"""Inputs for quantizers: awkward families of numbers, and many blocks from nothing but a seed."""

from __future__ import annotations

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind

N_COLS = 512
KINDS = (
    *(Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.IQ4_NL),
    *(Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_XS),
)


def families(n_rows: int = 32) -> dict[str, np.ndarray]:
    """Named matrices [n_rows, N_COLS] float32."""
    random = np.random.default_rng(0)
    shape = (n_rows, N_COLS)
    normal = random.standard_normal(shape).astype(np.float32)
    part = np.arange(N_COLS) // 16 % 3 == 0  # every third group of 16
    return {
        "normal": normal,
        "small": normal * np.float32(0.02),
        "large": normal * np.float32(10_000),
        "zero": np.zeros(shape, np.float32),
        "minus zero": np.where(random.random(shape) > 0.5, np.float32(0), np.float32(-0.0)),
        "positive or zero": np.maximum(normal, np.float32(-0.0)),
        "negative or zero": np.minimum(normal, np.float32(0.0)),
        "constant": np.full(shape, 3.7, np.float32),
        "constant negative": np.full(shape, -3.7, np.float32),
        "one constant per row": np.broadcast_to(normal[:, :1], shape).copy(),
        "nearly constant": np.float32(-3.7) + normal * np.float32(3e-7),
        "nearly constant, large": np.float32(-5e4) + normal * np.float32(0.004),
        "nearly constant groups": np.repeat(normal[:, ::16], 16, axis=1)
        * (1 + normal * np.float32(1e-6)),
        "positive": np.abs(normal),
        "negative": -np.abs(normal),
        "dead groups": np.where(part, np.float32(0), normal),
        "tiny groups": np.where(part, normal * np.float32(1e-9), normal),
        "groups below 1e-15": np.where(part, normal * np.float32(1e-17), normal),
        "denormal groups": np.where(part, normal * np.float32(1e-41), normal),
        "below 1e-15": normal * np.float32(1e-17),
        "below 1e-30": normal * np.float32(1e-32),
        "at the edge of denormal": normal * np.float32(1e-38),
        "denormal": normal * np.float32(1e-41),
        "float16 subnormal scales": normal * np.float32(1e-6),
        "outlier": np.where(random.random(shape) > 0.99, normal * 1000, normal).astype("f4"),
        "one weight": np.where(np.arange(N_COLS) % 64 == 7, normal, np.float32(0)),
        "ties": np.round(normal * 8) / np.float32(2),
        "two values": np.where(normal > 0, np.float32(0.5), np.float32(-0.25)),
        "integers": np.round(normal * 3),
        "bfloat16": (normal.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
        "float16": normal.astype(np.float16).astype(np.float32),
        "mixed exponents": np.ldexp(normal, random.integers(-30, 12, shape)).astype(np.float32),
        "heavy tails": (normal / (np.abs(random.standard_normal(shape)) + 0.05)).astype("f4"),
    }


def importances(n_cols: int) -> dict[str, np.ndarray]:
    """Column importances [n_cols] as calibration finds them, and worse."""
    random = np.random.default_rng(1)
    spread = np.exp(2 * random.standard_normal(n_cols)).astype(np.float32)
    return {
        "spread": spread,
        "ones": np.ones(n_cols, np.float32),
        "some zero": np.where(np.arange(n_cols) // 16 % 2 == 0, spread, np.float32(0)),
        "tiny": spread * np.float32(1e-20),
    }


def many(n_blocks: int, width: int) -> np.ndarray:
    """[n_blocks * width / N_COLS, N_COLS] from PCG64's raw bits, which no NumPy version changes.

    A sum of two 16-bit integers, scaled by a power of two per row, with a tail: nothing in it
    depends on a library's logarithm.
    """
    count = n_blocks * width // N_COLS * N_COLS
    raw = np.random.PCG64(7).random_raw(count // 2).view(np.int16).reshape(2, count)
    values = raw[0].astype(np.float32) + raw[1].astype(np.float32)
    values *= np.where(raw[1] % 61 == 0, np.float32(4), np.float32(1))
    rows = values.reshape(-1, N_COLS)
    return rows * np.exp2(np.arange(len(rows)) % 12 - 22).astype(np.float32)[:, None]


def many_importance() -> np.ndarray:
    """[N_COLS], 0.001 to 1, from raw bits too."""
    raw = np.random.PCG64(8).random_raw(N_COLS)
    return ((raw % 1000 + 1) / 1000).astype(np.float32)
