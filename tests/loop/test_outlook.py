"""What the gate will be able to tell, against the gate itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from cycle_rig import write_questions

from ft2ollama.loop.gate import Bars
from ft2ollama.loop.outlook import outlook, set_sizes, wins_needed
from ft2ollama.loop.settings import Sets
from ft2ollama.loop.statistics import p_better


@pytest.mark.parametrize("items", range(1, 26))
def test_the_number_of_wins_is_what_the_gate_asks_for(items: int) -> None:
    wins = wins_needed(items)

    def passes(better: int) -> bool:
        after = [1.0] * better + [0.0] * (items - better)
        before = [1.0 - value for value in after]
        return p_better(before, after) < 0.05

    if items > 16:  # drawn, not counted: the border itself may fall to either side
        assert wins is not None
        assert passes(wins + 1)
        assert not passes(wins - 2)
    elif wins is None:
        assert not passes(items)
    else:
        assert passes(wins)
        assert not passes(wins - 1)


def test_the_fewest_that_can_show_anything() -> None:
    assert [wins_needed(n) for n in (0, 4, 5, 6, 20)] == [None, None, 5, 6, 15]


@pytest.mark.parametrize(
    ("golden", "fresh", "thin", "alone", "said"),
    [
        (0, 6, False, False, ["golden-none", "fresh-wins"]),
        (0, 6, True, True, ["golden-none-alone", "fresh-wins"]),
        (0, 0, True, False, ["golden-none-alone", "fresh-none"]),
        (1, 3, False, False, ["golden-few", "fresh-few"]),  # four in all
        (50, 3, False, False, ["golden-few", "fresh-with-golden"]),
        (200, 0, False, True, ["fresh-with-golden"]),
        (200, 30, False, True, ["fresh-wins"]),
    ],
)
def test_what_will_be_missing(
    golden: int, fresh: int, thin: bool, alone: bool, said: list[str]
) -> None:
    found = outlook({"golden": golden}, fresh, Bars(thin_evidence=thin))
    assert found.alone is alone
    assert [one.name for one in found.missing] == said


def test_rows_that_the_sets_keep_from_training() -> None:
    many = outlook({"golden": 200}, 30, Bars(), leaks=(26, 31))
    assert [one.name for one in many.missing] == ["leaks-many", "fresh-wins"]
    few = outlook({"golden": 200}, 30, Bars(), leaks=(2, 100))
    assert [one.name for one in few.missing] == ["fresh-wins"]


def test_sizes_of_the_files(tmp_path: Path) -> None:
    golden = write_questions(tmp_path / "golden.jsonl", [("a?", "x"), ("b?", "y")])
    assert set_sizes(Sets(golden=golden), 10) == {"golden": 2}
