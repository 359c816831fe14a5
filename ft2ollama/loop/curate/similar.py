"""Texts that are alike, found exactly: every pair above a Jaccard similarity, and groups of them.

In: texts.  Out: pairs, or a group number for each text. MinHash misses a few pairs, which is fine
for duplicates and not for leaks of an evaluation set. Prefix filtering misses none: two sets with
similarity t share one of their rarest (1 - t) * size + 1 members (S. Chaudhuri et al., "A primitive
operator for similarity joins", 2006), and rare 3-grams have few texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from ft2ollama.data.duplicates import grams, jaccard, normal

Sets = Sequence[frozenset[str]]


def question_grams(text: str) -> frozenset[str]:
    """The 3-grams of a question as it is compared."""
    return grams(normal(text))


def nearest(
    texts: Sequence[str], others: Sequence[str], smallest: float
) -> list[tuple[int, float]]:
    """For each text the most similar of `others` and how similar; (-1, 0.0) below `smallest`."""
    sets, known = [question_grams(text) for text in texts], [question_grams(o) for o in others]
    ranks = _ranks([*sets, *known])
    index: dict[str, list[int]] = {}
    for number, one in enumerate(known):
        for gram in _prefix(one, ranks, smallest):
            index.setdefault(gram, []).append(number)
    found = []
    for one in sets:
        candidates = {n for gram in _prefix(one, ranks, smallest) for n in index.get(gram, ())}
        best = max(((jaccard(one, known[n]), -n) for n in candidates), default=(0.0, 1))
        found.append((-best[1], best[0]) if best[0] >= smallest else (-1, 0.0))
    return found


def groups(texts: Sequence[str], smallest: float) -> list[int]:
    """For each text the number of the first text of its group; alike texts are in one group.

    A group is closed: no text of another one reaches `smallest` with any of its own.
    """
    first: dict[frozenset[str], int] = {}
    same = [first.setdefault(question_grams(text), n) for n, text in enumerate(texts)]
    sets = {number: one for one, number in first.items()}
    ranks = _ranks(list(sets.values()))
    roots = {number: number for number in sets}
    members = {number: [number] for number in sets}
    index: dict[str, list[int]] = {}
    for number in sorted(sets, key=lambda n: (len(sets[n]), n)):
        one = sets[number]
        seen: set[int] = set()
        for gram in _prefix(one, ranks, smallest):
            for other in index.setdefault(gram, []):
                if roots[other] == roots[number] or other in seen:
                    continue
                seen.add(other)
                fits = len(sets[other]) >= smallest * len(one)
                if fits and jaccard(one, sets[other]) >= smallest:
                    _join(roots, members, roots[number], roots[other])
            index[gram].append(number)
    return [min(members[roots[number]]) for number in same]


def _join(roots: dict[int, int], members: dict[int, list[int]], one: int, other: int) -> None:
    """The smaller group is renamed, so that nobody is renamed often."""
    small, large = sorted((one, other), key=lambda root: (len(members[root]), root))
    for number in members[small]:
        roots[number] = large
    members[large] += members.pop(small)


def _ranks(sets: Sets) -> dict[str, tuple[int, str]]:
    """Rare grams first; equally rare ones by themselves, so that the order is always the same."""
    counts = Counter(gram for one in sets for gram in one)
    return {gram: (count, gram) for gram, count in counts.items()}


def _prefix(one: frozenset[str], ranks: dict[str, tuple[int, str]], smallest: float) -> list[str]:
    """The rarest grams, so many that a similar set must share one of them."""
    needed = -(-len(one) * Fraction(str(smallest)) // 1)  # rounded up, without a float's error
    return sorted(one, key=ranks.__getitem__)[: len(one) - int(needed) + 1]
