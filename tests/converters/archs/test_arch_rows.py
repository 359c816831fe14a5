"""Views of stacked, sliced and reordered weights: right in any chunks, bounded in memory."""

from __future__ import annotations

import numpy as np
import pytest

import converters
from converters import jobs, safetensors_file
from converters.archs.qwen35 import QWEN35
from converters.lora import LoraPair, stack_pairs
from converters.transforms import (
    ArrayRows,
    MappedRows,
    PermutedColumns,
    PermutedRows,
    ReshapedRows,
    RowRange,
    StackedRows,
    chunks,
    n_rows,
)

random = np.random.default_rng(1)
EXPERTS = random.standard_normal((5, 6, 7)).astype(np.float32)
COLUMNS = random.permutation(7)
VIEWS = {
    "stacked": (StackedRows(tuple(ArrayRows(e) for e in EXPERTS)), EXPERTS),
    "stored as a stack": (ArrayRows(EXPERTS), EXPERTS),
    "half of every expert": (
        StackedRows(tuple(RowRange(ArrayRows(EXPERTS), 6 * e + 3, 3) for e in range(5))),
        EXPERTS[:, 3:],
    ),
    "columns": (PermutedColumns(ArrayRows(EXPERTS[0]), COLUMNS), EXPERTS[0][:, COLUMNS]),
    "function": (MappedRows(ArrayRows(EXPERTS[0, 0]), lambda v: v + 1), EXPERTS[0, 0] + 1),
    "reshaped": (ReshapedRows(ArrayRows(EXPERTS[:, :1]), (5, 7)), EXPERTS[:, 0]),
}


@pytest.mark.parametrize("step", [1, 4, 6, 1000])
@pytest.mark.parametrize("kind", VIEWS)
def test_views_in_any_chunks(kind, step, monkeypatch):
    rows, expected = VIEWS[kind]
    monkeypatch.setattr(transforms, "CHUNK_ELEMENTS", 7 * step)
    assert rows.shape == expected.shape
    got = np.concatenate(list(chunks(rows))).reshape(expected.shape)
    assert np.array_equal(got, expected)


class Counting:
    """Rows that remember the longest range read."""

    def __init__(self, array):
        self.rows, self.shape, self.longest = ArrayRows(array), array.shape, 0

    def read(self, start, stop):
        self.longest = max(self.longest, stop - start)
        return self.rows.read(start, stop)


def test_reordered_heads_are_read_in_bounded_pieces():
    config = {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 64,
    }
    order = QWEN35.row_order(config, "model.layers.0.linear_attn.in_proj_z")
    values = random.standard_normal((512, 3)).astype(np.float32)
    source = Counting(values)
    rows = PermutedRows(source, order)
    pieces = [rows.read(start, start + 20) for start in range(0, 500, 20)]
    assert np.array_equal(np.concatenate(pieces), values[order][:500])
    assert source.longest <= 80  # four times what was asked for; the whole span would be 500


def test_experts_are_written_row_by_row(make_tiny, tmp_path, monkeypatch):
    base = make_tiny("MixtralForCausalLM", num_local_experts=4, sliding_window=None)
    whole = converters.write_model(base, tmp_path / "1.gguf", outtype="F32")
    read = safetensors_file.StoredRows.read
    longest = []

    def counted(self, start, stop):
        longest.append((stop - start) * (self.shape[-1] if len(self.shape) > 1 else 1))
        return read(self, start, stop)

    monkeypatch.setattr(safetensors_file.StoredRows, "read", counted)
    monkeypatch.setattr(jobs, "CHUNK_ELEMENTS", 1024)
    pieces = converters.write_model(base, tmp_path / "2.gguf", outtype="F32")
    assert pieces.sha256 == whole.sha256
    assert max(longest) <= 4 * 1024  # q and k reach over a head


def test_stacked_pairs_of_other_ranks_and_scales():
    def pair(rank, scale):
        a, b = (random.standard_normal(s).astype(np.float32) for s in ((rank, 7), (6, rank)))
        return LoraPair("one", a, b, scale)

    pairs = [pair(2, 0.5), None, pair(4, 2.0), pair(1, 3.0)]
    stack = stack_pairs("all", pairs)
    assert (stack.a.shape, stack.b.shape) == ((4, 4, 7), (4, 6, 4))
    expected = [p.delta(0, 6) if p else np.zeros((6, 7)) for p in pairs]
    np.testing.assert_allclose(stack.delta(0, 24), np.concatenate(expected), atol=1e-5)
    np.testing.assert_allclose(stack.delta(3, 15), np.concatenate(expected)[3:15], atol=1e-5)


def test_rows_are_counted_over_all_axes_but_the_last():
    assert [n_rows(s) for s in ((), (5,), (4, 3), (2, 4, 3))] == [1, 5, 4, 8]
