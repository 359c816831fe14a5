"""Questions of a decision tree as conditions of a Go template.

In: trees over the features of `slots.place_features`. Out: the texts of `if` conditions. `$m` is
the message, `$i` its index, `$n` the number of a tool or call among its equals; `$last`, `$query`
(index of the last user message), `$asked` (a user message was printed), `$system` (the first
message is one) and `$prev` (what was printed last) are variables that `emit` declares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ft2ollama.gotemplate.tree import Leaf, Split, Tree

# What a tree may ask, the plainest question first.
QUESTIONS: tuple[str, ...] = (
    "again",
    "first",
    "last",
    "think",
    "prev",
    "after",
    "query",
    "opening",
)
QUESTIONS += ("system", "tools", "thoughts", "content", "calls")
_TESTS: Mapping[str, str] = {
    "again": "$n",
    "first": "eq $i 0",
    "last": "$last",
    "query": "eq $i $query",
    "after": "gt $i $query",
    "opening": "not $asked",
    "system": "$system",
    "tools": "$.Tools",
    "thoughts": "$m.Thinking",
    "content": "$m.Content",
    "calls": "$m.ToolCalls",
}
_THINK = {"on": "$.Think", "off": "and $.IsThinkSet (not $.Think)", "unset": "not $.IsThinkSet"}


def joined(tree: Split, longest: bool = False) -> list[tuple[list[object], Tree]]:
    """Branches with equal outcome as one; the commonest last, or the longest first."""
    groups: list[tuple[list[object], Tree]] = []
    for value, inner in reversed(tree.branches):
        same = next((values for values, other in groups if other == inner), None)
        if same is None:
            groups.append(([value], inner))
        else:
            same.append(value)
    if longest:  # what stands in front of the first call of a message, and of that the longest
        again = (
            {True} if tree.feature == "again" else {"after callargs", "after argvalue", "callname"}
        )
        return sorted(groups, key=lambda group: (bool(again & set(group[0])), -_longest(group[1])))
    return groups[::-1]


def test(feature: str, values: Sequence[object]) -> str:
    """The condition that a feature has one of these values."""
    if feature == "prev":
        return "eq $prev " + " ".join(f'"{value}"' for value in values)
    if feature == "think":
        tests = [_THINK[str(value)] for value in values]
        return tests[0] if len(tests) == 1 else "or " + " ".join(map(wrapped, tests))
    test = _TESTS[feature]
    if values == [True]:
        return test
    return test.removeprefix("not ") if test.startswith("not ") else f"not {wrapped(test)}"


def previous(tree: Tree, longest: bool) -> set[str]:
    """The kinds that a tree's questions for `prev` name, but for the `else`."""
    if isinstance(tree, Leaf):
        return set()
    inner = set[str]().union(*(previous(branch, longest) for _, branch in tree.branches))
    if tree.feature != "prev":
        return inner
    return inner.union(str(one) for values, _ in joined(tree, longest)[:-1] for one in values)


def _longest(tree: Tree) -> int:
    if isinstance(tree, Leaf):
        return len(tree.value)
    return max(_longest(inner) for _, inner in tree.branches)


def expression(tree: Tree) -> str:
    """A tree of True and False as one condition."""
    if isinstance(tree, Leaf):
        return "true" if tree.value else "false"
    ways = []
    for values, inner in joined(tree):
        asked, rest = test(tree.feature, values), expression(inner)
        if rest == "true":
            ways.append(asked)
        elif rest != "false":
            ways.append(f"and {wrapped(asked)} {wrapped(rest)}")
    return ways[0] if len(ways) == 1 else f"or {' '.join(map(wrapped, ways))}"


def wrapped(test: str) -> str:
    """As an operand."""
    return f"({test})" if " " in test else test
