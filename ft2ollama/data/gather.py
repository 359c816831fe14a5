"""Names of data sets -> what the doctor examines: each set with its rows and their problems.

In: names, and how to read them.  Out: `DataSet`s; a file that cannot be read is a set without rows
and with a problem, so that the other files are examined all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ft2ollama.data.check import DataSet
from ft2ollama.data.load import Reading, collect
from ft2ollama.data.split import split


def read_sets(names: Sequence[str], dataset_dir: Path, reading: Reading) -> list[DataSet]:
    """One set per name."""
    return [_read(name, dataset_dir, reading) for name in names]


def _read(name: str, dataset_dir: Path, reading: Reading) -> DataSet:
    loaded = collect([name], dataset_dir, reading)
    return DataSet(
        name=name,
        rows=len(loaded.conversations) + len(loaded.dropped),
        conversations=loaded.conversations,
        problems=(*loaded.problems, *loaded.warnings),
    )


def hold_out(sets: Sequence[DataSet], val_size: float) -> list[DataSet]:
    """Part the rows as training would: each set keeps what is trained on, one more holds the rest.

    The problems of rows that could not be read stay with their set.
    """
    if not val_size:
        return list(sets)
    rows = [row for one in sets for row in one.conversations]
    _, held = split(rows, val_size)
    chosen = set(map(id, held))
    parted = []
    for one in sets:
        kept = tuple(row for row in one.conversations if id(row) not in chosen)
        away = len(one.conversations) - len(kept)
        parted.append(replace(one, rows=one.rows - away, conversations=kept))
    name = f"val_size={val_size:g}"
    return [*parted, DataSet(name, len(held), tuple(held), part="validation")]
