"""Which rows the gate asks, which measure the loss, which are trained on: by groups of questions.

In: kept rows.  Out: three sets of rids. A group is never torn apart, so no question that is trained
on is like one that is held out. Only groups without history are held out: what was trained on in an
earlier cycle proves nothing. The groups are drawn by a hash of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ft2ollama.loop.curate.rows import Row
from ft2ollama.loop.curate.samples import draw
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.similar import groups
from ft2ollama.loop.texts import Sentence


@dataclass(frozen=True)
class Split:
    """rids held out for the gate and for the loss.  notes: what people should know."""

    fresh: frozenset[str]
    val: frozenset[str]
    notes: tuple[str, ...] = ()


def fresh_target(rows: int, config: CurateConfig) -> int:
    """How many of `rows` new rows the gate should ask.

    A few rows are not halved for a test that proves little: below fresh_from only the share; above,
    at least fresh_min, and never more than a third.
    """
    share = round(rows * config.fresh_share)
    if not config.fresh_share or rows < config.fresh_from:
        return share
    return max(share, min(config.fresh_min, rows // 3))


def split(new: Sequence[Row], old: Sequence[Row], config: CurateConfig, seed: int) -> Split:
    """Hold rows out of `new`; nothing of `old` is held out, nor what is like it."""
    ordered = sorted([*new, *old], key=lambda row: (row.question, row.rid))
    numbers = groups([row.question for row in ordered], config.contamination)
    closed = {n for row, n in zip(ordered, numbers, strict=True) if row.rid in _rids(old)}
    members: dict[int, list[str]] = {}
    for row, number in zip(ordered, numbers, strict=True):
        if number not in closed:
            members.setdefault(number, []).append(row.rid)
    # A group's key is its first question, which stays when other rows come or go.
    keys = {number: draw(seed, "group", ordered[number].question) for number in members}
    drawn = sorted(members, key=lambda number: (keys[number], number))
    wanted = fresh_target(len(new), config)
    fresh = _take(drawn, members.__getitem__, wanted)
    left = [number for number in drawn if not fresh.issuperset(members[number])]
    few = len(new) < config.fresh_from
    val = _take(left, members.__getitem__, 0 if few else round(len(new) * config.val_share))
    return Split(frozenset(fresh), frozenset(val), tuple(_notes(len(new), wanted, fresh, config)))


def _rids(rows: Iterable[Row]) -> frozenset[str]:
    return frozenset(row.rid for row in rows)


def _take(drawn: Sequence[int], members: Callable[[int], list[str]], wanted: int) -> set[str]:
    """Whole groups, as long as they do not exceed what is wanted."""
    taken: set[str] = set()
    for number in drawn:
        group = members(number)
        if len(taken) + len(group) <= wanted:
            taken.update(group)
    return taken


def _notes(rows: int, wanted: int, fresh: set[str], config: CurateConfig) -> Iterable[str]:
    if 0 < rows < config.fresh_from:
        then = min(config.fresh_min, config.fresh_from // 3)
        yield Sentence("few-rows", rows=rows, fresh=len(fresh), enough=config.fresh_from, then=then)
    elif len(fresh) < wanted // 2:
        yield Sentence("few-fresh", fresh=len(fresh), wanted=wanted)
