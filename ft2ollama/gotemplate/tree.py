"""Features of places and what was seen there -> the smallest decision tree that explains it.

A tree that asks little is what the writer of the template meant; one that would have to ask more
than three questions is no explanation, and the template is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Row = tuple[Mapping[str, Any], Any]
_DEPTH = 3


@dataclass(frozen=True)
class Leaf:
    """What is printed, or whether."""

    value: Any


@dataclass(frozen=True)
class Split:
    """branches: (value of the feature, tree), the commonest value last: it is the `else`."""

    feature: str
    branches: tuple[tuple[Any, Tree], ...]


Tree: TypeAlias = "Leaf | Split"


def grow(rows: Sequence[Row], names: Sequence[str]) -> Tree | None:
    """The smallest tree over these features, the earlier named preferred; None when none fits."""
    distinct: Counter[tuple[tuple[Any, ...], Any]] = Counter(
        (tuple(features[name] for name in names), value) for features, value in rows
    )
    plain = [
        (dict(zip(names, key, strict=True)), value, count)
        for (key, value), count in distinct.items()
    ]
    for depth in range(_DEPTH + 1):
        if tree := _fit(plain, names, depth):
            return tree
    return None


def asked(tree: Tree) -> set[str]:
    """The features that a tree asks for."""
    if isinstance(tree, Leaf):
        return set()
    return {tree.feature}.union(*(asked(inner) for _, inner in tree.branches))


def _fit(
    rows: list[tuple[dict[str, Any], Any, int]], names: Sequence[str], depth: int
) -> Tree | None:
    values = {value for _, value, _ in rows}
    if len(values) == 1:
        return Leaf(values.pop())
    if not depth:
        return None
    best: Split | None = None
    for name in names:
        counts: Counter[Any] = Counter()
        for features, _, count in rows:
            counts[features[name]] += count
        if len(counts) < 2:
            continue
        branches = []
        for value, _ in reversed(counts.most_common()):
            inner = _fit([row for row in rows if row[0][name] == value], names, depth - 1)
            if inner is None:
                break
            branches.append((value, inner))
        else:
            split = Split(name, tuple(branches))
            if best is None or _size(split) < _size(best):
                best = split
    return best


def _size(tree: Tree) -> int:
    """Leaves; equal branches count once, they are joined when the tree is written."""
    if isinstance(tree, Leaf):
        return 1
    return sum(_size(inner) for inner in {inner for _, inner in tree.branches}) + 1
