"""Percentiles, bars and the cost of a cutoff_len, on numbers that can be counted by hand."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from ft2ollama.data.measure import Measured, learned_spans
from ft2ollama.data.plot import plot_lengths
from ft2ollama.data.render import IGNORED
from ft2ollama.data.stats import cost, cutoffs, histogram, percentiles
from ft2ollama.errors import UsageError


def row(tokens: int, *answers: tuple[int, int]) -> Measured:
    return Measured(f"x:{tokens}", tokens, answers, Counter())


def test_percentiles_are_lengths_of_real_rows() -> None:
    found = percentiles([5, 1, 4, 2, 3, 100])
    assert (found[0], found[50], found[100]) == (1, 3, 100)
    assert set(found.values()) <= {5, 1, 4, 2, 3, 100}


def test_every_row_is_in_one_bar() -> None:
    rng = random.Random(0)
    for size in (1, 2, 50, 1000):
        lengths = [rng.randint(1, 500) for _ in range(size)] + [9000] * (size == 1000)
        bars = histogram(lengths)
        assert sum(bar.rows for bar in bars) == len(lengths)
        for bar, after in pairwise(bars):
            assert bar.high + 1 == after.low
            assert bar.rows == sum(bar.low <= length <= bar.high for length in lengths)
        assert bars[-1].high == max(lengths)
        assert len(bars) < 30


def test_cutoffs_offered() -> None:
    assert cutoffs(97, 60) == [60, 128]
    assert cutoffs(3000, 2048) == [256, 512, 1024, 2048, 4096]
    assert cutoffs(10**6, None)[-1] == 10**6


def test_the_cost_of_a_cutoff() -> None:
    rows = [row(10, (4, 10)), row(20, (5, 8), (15, 20)), row(30, (25, 30))]
    found = cost(rows, 16, batch=2)
    assert (found.over, found.lost, found.dropped) == (2, 4 + 5, 8 + 5)
    assert cost(rows, 30, batch=2).lost == cost(rows, 30, batch=2).over == 0
    assert cost(rows, 30, batch=1).padding == 0.0
    assert cost(rows, 30, batch=3).padding == pytest.approx(1 - 60 / 90)
    assert cost(rows, 30, batch=3).packing == 1.0, "10 + 20 and 30 fill two sequences of 30"
    assert cost(rows, 32, batch=3).packing == pytest.approx(60 / 64)
    assert cost(rows, 5, batch=3).packing == cost(rows, 5, batch=3).padding == 0.0


def test_packing_never_needs_more_sequences_than_first_fit() -> None:
    rng = random.Random(3)
    for _ in range(20):
        lengths = [rng.randint(1, 100) for _ in range(60)]
        room: list[int] = []
        for length in sorted(lengths, reverse=True):
            place = next((i for i, left in enumerate(room) if left >= length), None)
            if place is None:
                room.append(100 - length)
            else:
                room[place] -= length
        filled = cost([row(n) for n in lengths], 100, batch=8).packing
        assert filled >= sum(lengths) / (100 * (len(room) + 1))
        assert filled <= 1


def test_learned_spans() -> None:
    labels = [IGNORED, 1, 2, IGNORED, 3]
    assert learned_spans(labels) == [(1, 3), (4, 5)]
    assert learned_spans([IGNORED]) == learned_spans([]) == []
    assert learned_spans([0, 0]) == [(0, 2)], "token 0 is a token"


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_picture_is_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"lengths.{kind}"
    plot_lengths(path, {"faq": [1, 2, 3, 500], "数据": [4, 5]}, "tokens", 100)
    head = path.read_bytes()[:300]
    assert head.startswith(b"\x89PNG") if kind == "png" else b"<svg" in path.read_bytes()
    assert not [other for other in tmp_path.iterdir() if other != path]


def test_another_kind_of_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no picture"):
        plot_lengths(tmp_path / "a.pdf", {"a": [1]}, "tokens", None)
