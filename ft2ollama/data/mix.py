"""Several data sets -> the rows to train on and the rows to measure on.

In: the sets as they were read, and `mix_strategy`.  Out: `Parts`. The held-out rows are taken from
the sets before they are mixed: a set that is repeated to fill up another does not repeat them, and
no copy of them is trained on. Interleaving is done by Hugging Face `datasets`, so that the same
seed gives the same order as in LLaMA-Factory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.load import Loaded
from ft2ollama.data.split import held_out, key_of

# LLaMA-Factory's mix_strategy -> what `datasets` calls it (data/data_utils.py, merge_dataset).
STRATEGIES = {
    "interleave_under": "first_exhausted",
    "interleave_over": "all_exhausted",
    "interleave_once": "all_exhausted_without_replacement",
}


@dataclass(frozen=True)
class Mixing:
    """strategy: concat or a key of STRATEGIES.  weights: a share for each set, () for equal."""

    strategy: str = "concat"
    weights: tuple[float, ...] = ()
    seed: int = 42


@dataclass(frozen=True)
class Parts:
    """What to train on, and what to measure on under a name; "" names all of it."""

    train: tuple[Conversation, ...]
    validation: Mapping[str, tuple[Conversation, ...]]


def divide(
    loaded: Loaded,
    mixing: Mixing,
    *,
    val_size: float = 0.0,
    held: Loaded | None = None,
    each: bool = False,
) -> Parts:
    """Hold rows out of the sets (val_size), or take those of `held`; then mix the rest.

    each: measure on each set by itself.
    """
    sets = dict(_numbered(loaded.sets))
    if held is not None:
        aside = dict(_numbered(held.sets))
    else:
        sets, aside = _set_aside(sets, val_size)
    validation = {name: rows for name, rows in aside.items() if rows}
    if not each:
        together = tuple(row for rows in validation.values() for row in rows)
        validation = {"": together} if together else {}
    return Parts(tuple(mix(list(sets.values()), mixing)), validation)


def _numbered(
    sets: Sequence[tuple[str, tuple[Conversation, ...]]],
) -> list[tuple[str, tuple[Conversation, ...]]]:
    """Sets that are named twice get a number."""
    names = [name for name, _ in sets]
    return [
        (f"{name} ({number})" if name in names[:number] else name, rows)
        for number, (name, rows) in enumerate(sets)
    ]


_Sets = dict[str, tuple[Conversation, ...]]


def _set_aside(sets: _Sets, val_size: float) -> tuple[_Sets, _Sets]:
    """(what stays, what is held out, each conversation once)."""
    if not val_size:
        return sets, {}
    keys = {id(row): key_of(row) for rows in sets.values() for row in rows}
    chosen = held_out(set(keys.values()), val_size)
    stay, aside = {}, {}
    seen: set[str] = set()
    for name, rows in sets.items():
        stay[name] = tuple(row for row in rows if keys[id(row)] not in chosen)
        out = {keys[id(row)]: row for row in rows if keys[id(row)] in chosen - seen}
        seen |= out.keys()
        aside[name] = tuple(out.values())
    return stay, aside


def mix(sets: Sequence[Sequence[Conversation]], mixing: Mixing) -> list[Conversation]:
    """One after the other, or in turn; sets without a row take no part."""
    pairs = [
        (rows, mixing.weights[index] if mixing.weights else 1.0)
        for index, rows in enumerate(sets)
        if rows
    ]
    if mixing.strategy == "concat" or len(pairs) < 2:
        return [row for rows, _ in pairs for row in rows]
    from ft2ollama.data.hub import quiet_datasets

    datasets = quiet_datasets()
    numbers = [
        datasets.Dataset.from_dict({"set": [index] * len(rows), "row": list(range(len(rows)))})
        for index, (rows, _) in enumerate(pairs)
    ]
    total = sum(weight for _, weight in pairs)
    order = datasets.interleave_datasets(
        numbers,
        probabilities=[weight / total for _, weight in pairs] if mixing.weights else None,
        seed=mixing.seed,
        stopping_strategy=STRATEGIES[mixing.strategy],
    )
    return [pairs[one["set"]][0][one["row"]] for one in order]
