"""What the gate will be able to tell of a cycle that has not begun.

In: the sizes of its sets, the fresh questions that would be held out, the thresholds.  Out: a
sentence for each thing that will be missing, with what to do. A first cycle nearly always lacks
something; that is better known before an hour of training than after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

from ft2ollama.loop.gate import FEWEST, Bars
from ft2ollama.loop.settings import SETS, Sets
from ft2ollama.loop.texts import Sentence

_MANY = 0.1  # of new rows: more than a few copies of an item in the traffic
_ALPHA = 0.05  # of the gate's rule "fresh"


@dataclass(frozen=True)
class Outlook:
    """questions: of each set, by name.  fresh: held out.  wins: see `wins_needed`.

    alone: the gate can decide without a person.  missing: what to know, for people.
    """

    questions: Mapping[str, int]
    fresh: int
    wins: int | None
    alone: bool
    missing: tuple[Sentence, ...]


def outlook(
    questions: Mapping[str, int], fresh: int, bars: Bars, leaks: tuple[int, int] = (0, 0)
) -> Outlook:
    """questions: how many there are in each set.  leaks: rows that ask the same, of all."""
    golden = questions.get("golden", 0)
    enough = golden >= bars.min_items or bars.thin_evidence
    pooled = fresh < FEWEST <= fresh + golden  # then the gate counts both together
    wins = FEWEST if pooled else wins_needed(fresh)
    show = _of_fresh(fresh, wins, pooled=pooled)
    missing = (*_of_leaks(*leaks), *_of_golden(golden, enough, bars), *show)
    return Outlook(questions, fresh, wins, enough and wins is not None, missing)


def _of_golden(golden: int, enough: bool, bars: Bars) -> Iterator[Sentence]:
    if not golden:
        yield Sentence("golden-none-alone" if enough else "golden-none")
    elif not enough:
        yield Sentence("golden-few", count=golden, wanted=bars.min_items)


def _of_leaks(count: int, rows: int) -> Iterator[Sentence]:
    if count > _MANY * rows:
        yield Sentence("leaks-many", count=count, rows=rows)


def _of_fresh(fresh: int, wins: int | None, *, pooled: bool) -> Iterator[Sentence]:
    if pooled:
        yield Sentence("fresh-with-golden", count=fresh, wins=wins)
    elif not fresh:
        yield Sentence("fresh-none")
    elif wins is None:
        yield Sentence("fresh-few", count=fresh, least=_least())
    else:
        yield Sentence("fresh-wins", count=fresh, wins=wins)


def wins_needed(items: int) -> int | None:
    """How many of `items` must come out better, the rest worse, for p < 0.05 (sign test, one side).

    None where even all of them are too few. The gate's own test also sees how much better, so this
    is the number to expect, not the last word.
    """
    tail = 0
    for wins in range(items, -1, -1):
        tail += comb(items, wins)
        if tail >= _ALPHA * 2**items:
            return wins + 1 if wins < items else None
    return None


def _least() -> int:
    return next(n for n in range(1, 99) if wins_needed(n) is not None)


def set_sizes(sets: Sets, tokens: int) -> dict[str, int]:
    """How many questions the files of the sets hold. Raises DataError as the cycle would."""
    from ft2ollama.loop.exam import read_items

    paths: Sequence[tuple[str, Path | None]] = [(name, getattr(sets, name)) for name in SETS]
    return {name: len(read_items(path, tokens).items) for name, path in paths if path is not None}
