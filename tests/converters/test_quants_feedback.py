"""Error feedback: smaller output error than exact, NumPy's bytes, no trace of the chunking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from converters.calibrated import output_error
from converters.quants.feedback import (
    FEEDBACK_TYPES,
    column_blocks,
    encode_with_feedback,
    spreads,
    with_levels,
)
from converters.quants.layout import decode
from converters.quants.quantize import encode
from converters.quants.scales import scales_of
from converters.transforms import F32

KINDS = sorted(FEEDBACK_TYPES, key=lambda kind: kind.name)
SMALL = [kind for kind in KINDS if GGML_QUANT_SIZES[kind][0] == 32]


def moments(n_cols: int, seed: int = 0) -> list[F32]:
    """Second moments of correlated inputs, with one column that is never used."""
    rng = np.random.default_rng(seed)
    blocks = []
    for width in column_blocks(n_cols):
        mix = rng.standard_normal((width, 24)) * rng.uniform(0.1, 2, (width, 1))
        mix[3] = 0
        inputs = rng.standard_normal((600, 24)) @ mix.T + 0.05 * rng.standard_normal((600, width))
        inputs[:, 3] = 0
        blocks.append((inputs.T @ inputs / 600).astype(np.float32))
    return blocks


def weights(n_rows: int, n_cols: int, seed: int = 1) -> F32:
    """Rows with outliers, one of zeros, one sub-block of zeros, one constant row."""
    rng = np.random.default_rng(seed)
    rows = (rng.standard_t(4, (n_rows, n_cols)) * 0.05).astype(np.float32)
    rows[1], rows[2, :32], rows[3] = 0, 0, 0.25
    return rows


def diagonal(blocks: Sequence[F32]) -> F32:
    return np.concatenate([np.diag(block) for block in blocks]).astype(np.float32)


def errors(rows: F32, kind: Kind, blocks: Sequence[F32]) -> tuple[float, float, float]:
    """Output error of exact, imatrix and calibrated."""
    importance = diagonal(blocks)
    made = (
        encode(rows, kind),
        encode(rows, kind, importance=importance),
        encode_with_feedback(rows, kind, importance=importance, spread=spreads(blocks)),
    )
    exact, imatrix, calibrated = (
        output_error(rows - decode(data, kind).reshape(rows.shape), blocks) for data in made
    )
    return exact, imatrix, calibrated


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_error_is_smaller_than_without(kind: Kind) -> None:
    exact, imatrix, calibrated = errors(weights(96, 512), kind, moments(512))
    assert calibrated < 0.7 * min(exact, imatrix)


@pytest.mark.parametrize("kind", SMALL)
def test_a_last_block_may_be_narrow(kind: Kind) -> None:
    exact, imatrix, calibrated = errors(weights(64, 576), kind, moments(576))
    assert calibrated < 0.7 * min(exact, imatrix)


@pytest.mark.parametrize("kind", KINDS)
def test_numba_and_numpy_write_the_same_bytes(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    rows, blocks = weights(70, 512), moments(512)
    made = []
    for name in ("numba", "numpy"):
        monkeypatch.setenv("FT2OLLAMA_QUANT_BACKEND", name)
        made.append(
            encode_with_feedback(rows, kind, importance=diagonal(blocks), spread=spreads(blocks))
        )
    assert np.array_equal(*made)


@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.Q5_0, Kind.IQ4_NL])
def test_rows_may_be_cut_anywhere(kind: Kind) -> None:
    rows, blocks = weights(150, 256), moments(256)
    known = {"importance": diagonal(blocks), "spread": spreads(blocks)}
    whole = encode_with_feedback(rows, kind, **known)
    parts = [
        encode_with_feedback(rows[low:high], kind, **known)
        for low, high in ((0, 1), (1, 64), (64, 150))
    ]
    assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize(
    ("n_cols", "widths"),
    [
        (32, [32]),
        (576, [576]),
        (2048, [2048]),
        (2304, [1792, 512]),
        (4096, [1024] * 4),
        (11008, [256] * 43),
        (28672, [256] * 112),
    ],
)
def test_blocks_are_whole_rows_where_that_is_affordable(n_cols: int, widths: list[int]) -> None:
    assert column_blocks(n_cols) == widths


def test_a_wide_block_beats_narrow_ones() -> None:
    """What two super-blocks share is made good between them."""
    rows, (whole,) = weights(64, 512), moments(512)
    narrow = [whole[:256, :256], whole[256:, 256:]]
    known = {"importance": diagonal([whole])}
    lost = []
    for blocks in (narrow, [whole]):
        data = encode_with_feedback(rows, Kind.Q4_K, spread=spreads(blocks), **known)
        lost.append(output_error(rows - decode(data, Kind.Q4_K).reshape(rows.shape), [whole]))
    assert lost[1] < 0.8 * lost[0]


def test_numba_and_numpy_agree_over_blocks_of_two_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    rows, blocks = weights(4, 2304), moments(2304)
    assert [len(block) for block in blocks] == [1792, 512]
    made = []
    for name in ("numba", "numpy"):
        monkeypatch.setenv("FT2OLLAMA_QUANT_BACKEND", name)
        made.append(
            encode_with_feedback(
                rows, Kind.Q5_K, importance=diagonal(blocks), spread=spreads(blocks)
            )
        )
    assert np.array_equal(*made)


@pytest.mark.parametrize("kind", KINDS)
def test_scales_are_read_as_the_runtime_reads_them(kind: Kind) -> None:
    """value = step * level + offset for every level, against gguf-py's dequantizer."""
    block, size = GGML_QUANT_SIZES[kind]
    data = encode(weights(8, 512), kind, importance=diagonal(moments(512))).reshape(-1, size)
    scales = scales_of(data, kind)
    per = block // scales.step.shape[1]
    step, offset = np.repeat(scales.step, per, axis=1), np.repeat(scales.offset, per, axis=1)
    if kind in (Kind.IQ4_NL, Kind.IQ4_XS):
        meant = {0: -127, 7: -10, 8: 1, 15: 113}
    else:
        top = {Kind.Q2_K: 3, Kind.Q3_K: 7, Kind.Q6_K: 63, Kind.Q5_0: 31}.get(kind, 15)
        meant = {0: 0, 1: 1, top: top}
    for level, value in meant.items():
        written = with_levels(data, kind, np.full((len(data), block), level, np.uint8))
        read = decode(written, kind).reshape(-1, block)
        np.testing.assert_allclose(read, step * np.float32(value) + offset, rtol=2e-6, atol=1e-7)


def test_scales_stay_those_of_the_search() -> None:
    rows, blocks = weights(16, 256), moments(256)
    known = {"importance": diagonal(blocks)}
    with_importance = encode(rows, Kind.Q4_K, **known).reshape(-1, 144)
    data = encode_with_feedback(rows, Kind.Q4_K, spread=spreads(blocks), **known).reshape(-1, 144)
    assert np.array_equal(data[:, :16], with_importance[:, :16])
    assert not np.array_equal(data, with_importance)


def test_without_correlation_nothing_spreads() -> None:
    rows = weights(16, 256)
    flat = np.eye(256, dtype=np.float32)
    spread = spreads([flat])
    np.testing.assert_array_equal(spread[0].factor, flat)
    data = encode_with_feedback(rows, Kind.Q6_K, importance=np.diag(flat), spread=spread)
    nearest = encode(rows, Kind.Q6_K, importance=np.diag(flat).copy())
    assert np.array_equal(data, nearest)


def test_inputs_that_never_came_spread_nothing() -> None:
    (found,) = spreads([np.zeros((64, 64), np.float32)])
    np.testing.assert_array_equal(found.factor, np.eye(64))


def test_the_spread_solves_for_the_columns_to_come() -> None:
    """The best answer of the other columns to a unit error in the first, by least squares."""
    (block,) = moments(64)
    (found,) = spreads([block])
    sorted_ = block[np.ix_(found.order, found.order)].astype(np.float64)
    damped = sorted_ + 0.01 * np.trace(block) / 64 * np.eye(64)
    best = -np.linalg.solve(damped[1:, 1:], damped[1:, 0])
    error = np.zeros(64)
    error[0] = 1
    for column in range(1, 64):  # all others can have the value they are asked for
        error[column] = -error[:column] @ found.factor[:column, column]
    np.testing.assert_allclose(error[1:], best, atol=2e-5)
    assert list(np.diag(sorted_)) == sorted(np.diag(block), reverse=True)
