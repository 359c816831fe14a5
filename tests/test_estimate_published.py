"""The memory formula against 39 published figures (tests/published.py)."""

from __future__ import annotations

from collections import defaultdict

import pytest
from published import POINTS, Point

from ft2ollama.estimate.memory import adapter_weights, total_bytes

# Mean absolute error that was seen when the table was made, rounded up; a change that makes a group
# worse has to say so here.
SEEN = {
    "HF + FA2, 8B, longest context": 0.02,
    "unsloth, 8B, longest context": 0.045,
    "70B, longest context": 0.06,
    "LLaMA-Factory + FA2, 7B": 0.046,
    "LLaMA-Factory + unsloth, 7B": 0.08,
    "torchtune": 0.03,
    "unsloth, minimum table": 0.135,
}


def error(point: Point) -> float:
    """Predicted over published, less one."""
    trained = adapter_weights(point.shape, point.rank)
    return total_bytes(point.shape, point.way, trained, point.tokens) / 2**30 / point.gib - 1


def test_the_mean_error_of_all_points_is_below_six_and_a_half_per_cent() -> None:
    assert len(POINTS) == 39
    assert sum(abs(error(point)) for point in POINTS) / len(POINTS) < 0.064


@pytest.mark.parametrize("group", SEEN)
def test_the_mean_error_of_a_group(group: str) -> None:
    errors = defaultdict(list)
    for point in POINTS:
        errors[point.group].append(abs(error(point)))
    assert set(errors) == set(SEEN)
    assert sum(errors[group]) / len(errors[group]) < SEEN[group]


def test_only_the_minimum_table_is_missed_by_more_than_a_fifth() -> None:
    missed = [(point.group, point.shape.name) for point in POINTS if abs(error(point)) > 0.2]
    # 8.5 GB cannot hold 13.1 B weights in 4.127 bits and 1.6 B embedding weights in 16: 9.2 GiB
    assert missed == [("unsloth, minimum table", "Qwen2.5-14B")]
