"""Row views: permutation and its inverse, chunk borders, merging."""

from __future__ import annotations

import numpy as np
import pytest

from converters import transforms
from converters.lora import LoraPair
from converters.merge import MergedRows
from converters.transforms import ArrayRows, PermutedRows, inverse_order, rope_row_order

random = np.random.default_rng(1)


def read_all(rows, chunk, monkeypatch):
    width = int(np.prod(rows.shape[1:]))
    monkeypatch.setattr(transforms, "CHUNK_ELEMENTS", chunk * width)
    return np.concatenate(list(transforms.chunks(rows)))


def test_rope_order_pairs_the_halves():
    assert rope_row_order(2, 6).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@pytest.mark.parametrize(("heads", "dim"), [(1, 2), (4, 16), (3, 64)])
def test_inverse_restores(heads, dim):
    order = rope_row_order(heads, dim)
    assert sorted(order) == list(range(heads * dim))
    assert (order[inverse_order(order)] == np.arange(heads * dim)).all()


@pytest.mark.parametrize("chunk", [1, 5, 16, 1000])
def test_permuted_rows_in_any_chunks(chunk, monkeypatch):
    values = random.standard_normal((48, 7)).astype(np.float32)
    order = rope_row_order(3, 16)
    permuted = PermutedRows(ArrayRows(values), order)
    assert np.array_equal(read_all(permuted, chunk, monkeypatch), values[order])
    back = PermutedRows(permuted, inverse_order(order))
    assert np.array_equal(read_all(back, chunk, monkeypatch), values)


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_merged_rows_in_any_chunks(chunk, monkeypatch):
    w, a, b = (random.standard_normal(s).astype(np.float32) for s in ((20, 8), (3, 8), (20, 3)))
    rows = MergedRows(ArrayRows(w), lambda: LoraPair("x", a, b, 0.7))
    expected = w.astype(np.float64) + 0.7 * b.astype(np.float64) @ a
    np.testing.assert_allclose(read_all(rows, chunk, monkeypatch), expected, atol=1e-5)
    assert np.array_equal(w, rows.source.array)  # the base array is not written to


def test_fold_keeps_the_update_and_plain_bytes():
    a, b = (random.standard_normal(s).astype(np.float32) for s in ((3, 8), (20, 3)))
    pair = LoraPair("x", a, b, 0.3)
    assert pair.fold(0.3).b is b
    folded = pair.fold(2.0)
    assert folded.scale == 2.0
    np.testing.assert_allclose(folded.delta(0, 20), pair.delta(0, 20), rtol=1e-5, atol=1e-6)
