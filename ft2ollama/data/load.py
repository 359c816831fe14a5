"""Data sets -> conversations; every problem of every file is reported at once.

In: names of data sets and how to read them.  Out: `Loaded`: conversations in the order of the
files, what was left out, and what people should know. `collect` never stops at a bad row;
`load_dataset` raises the problems it found unless rows may be dropped.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ft2ollama.config.expects import did_you_mean
from ft2ollama.data.catalogue import data_error, line, note, tally
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.dataset_info import Source
from ft2ollama.data.formats import detect_format, fields_read, to_conversation
from ft2ollama.data.placed import Broken, Placed
from ft2ollama.data.problems import BadFile, BadRow, Dropped, Problem
from ft2ollama.data.sources import find_sources, left_out, rows_of
from ft2ollama.data.split import key_of
from ft2ollama.files import sha256_text
from ft2ollama.language import choose_language

_OPTIONAL = ("query", "history", "system", "tools")
_NEAR_OF = ("instruction", "input", "output", "history", "system", "tools")


@dataclass(frozen=True)
class Reading:
    """How to read. max_samples: of each data set.  seed: for the choice of `num_samples`.

    streaming: read no more than max_samples asks for, and of a hub download no more.
    """

    max_samples: int | None = None
    bad_rows: Literal["error", "drop"] = "error"
    hub: str = "huggingface"
    seed: int = 42
    streaming: bool = False


@dataclass(frozen=True)
class Loaded:
    """conversations of all sets, in file order; sets: (name, conversations) of each.

    dropped: rows that could not be used.  faults: problems of whole files.  warnings: rows that
    were used and look wrong.  notes: what was read, for people.  remarks: what they should look at.
    """

    conversations: tuple[Conversation, ...]
    sha256: str
    notes: tuple[str, ...]
    sets: tuple[tuple[str, tuple[Conversation, ...]], ...] = ()
    dropped: tuple[Dropped, ...] = ()
    faults: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every error: of files, then of rows."""
        return (*self.faults, *(one.problem for one in self.dropped))


@dataclass
class _Set:
    """One data set while it is read."""

    source: Source
    found: list[Conversation] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    fields: dict[str, None] = field(default_factory=dict)
    fault: Problem | None = None


def load_dataset(
    names: Sequence[str],
    dataset_dir: Path,
    *,
    max_samples: int | None = None,
    reading: Reading | None = None,
) -> Loaded:
    """Read every named data set. Raises DataError that lists the problems of all files.

    max_samples is short for Reading(max_samples).
    """
    reading = reading or Reading(max_samples)
    loaded = collect(names, dataset_dir, reading)
    if loaded.faults or (loaded.dropped and reading.bad_rows == "error"):
        raise data_error(loaded.problems, droppable=not loaded.faults)
    if not loaded.conversations:
        raise data_error([*loaded.problems, Problem("nothing-left", ", ".join(names))])
    return loaded


def collect(names: Sequence[str], dataset_dir: Path, reading: Reading) -> Loaded:
    """The same without raising: the problems are in the result."""
    sources, faults = find_sources(names, dataset_dir, reading.hub)
    sets = [_read(source, reading) for source in sources]
    conversations = tuple(one for each in sets for one in each.found)
    return Loaded(
        conversations=conversations,
        sha256=_digest(conversations),
        notes=tuple(text for each in sets for text in each.notes),
        remarks=tuple(text for each in sets for text in (*each.remarks, *_told(each.warnings))),
        sets=tuple((each.source.name, tuple(each.found)) for each in sets),
        dropped=tuple(one for each in sets for one in each.dropped),
        faults=(*faults, *(each.fault for each in sets if each.fault)),
        warnings=tuple(one for each in sets for one in each.warnings),
    )


def joined(one: Loaded, other: Loaded | None) -> Loaded:
    """Both as one, for a report: the conversations stay those of the first."""
    if other is None:
        return one
    return replace(
        one,
        sha256=sha256_text(f"{one.sha256} {other.sha256}"),
        notes=(*one.notes, *other.notes),
        remarks=(*one.remarks, *other.remarks),
        dropped=(*one.dropped, *other.dropped),
        warnings=(*one.warnings, *other.warnings),
    )


def _digest(conversations: Iterable[Conversation]) -> str:
    """Hash of everything that training sees of the conversations, in their order."""
    digest = hashlib.sha256()
    for one in conversations:
        digest.update(f"{key_of(one)} {sorted(one.unlearned)}\n".encode())
    return digest.hexdigest()


def _told(warnings: Sequence[Problem]) -> list[str]:
    """The first warning of each kind, with how many there are."""
    language = choose_language()
    kinds: dict[str, list[Problem]] = {}
    for warning in warnings:
        kinds.setdefault(warning.code, []).append(warning)
    return [
        line(found[0], language)
        + (note("more-like-it", count=len(found) - 1) if len(found) > 1 else "")
        for found in kinds.values()
    ]


def _read(source: Source, reading: Reading) -> _Set:
    """Every row of one data set, until `max_samples` conversations are found."""
    done = _Set(source, warnings=list(source.warnings))
    limit = None if source.num_samples else reading.max_samples
    more = False
    try:
        for placed in rows_of(source, streaming=reading.streaming):
            if more := limit is not None and len(done.found) >= limit:
                break
            _take(placed, done)
    except BadFile as error:
        done.fault = error.problem
        return done
    if not (done.found or done.dropped):
        done.fault = Problem("file-empty", str(source.path or source.name))
        return done
    _look_at_fields(done)
    _describe(done, reading, more)
    _resample(done, reading)
    return done


def _take(placed: Placed, done: _Set) -> None:
    """One row: a conversation, or what hinders it; warnings are placed at the row."""
    place, row = placed
    if isinstance(row, Broken):
        done.dropped.append(Dropped(row.problem, row.text))
        return

    def warn(code: str, key: str = "", **values: Any) -> None:
        done.warnings.append(Problem(code, place, key, values, "warning"))

    columns = done.source.columns
    try:
        conversation = to_conversation(row, columns, place, warn)
    except BadRow as error:
        done.dropped.append(Dropped(error.at(place), row))
        return
    done.kinds[detect_format(row, columns)] += 1
    done.found.append(conversation)
    if isinstance(row, Mapping):
        done.fields.update(dict.fromkeys(row))


def _look_at_fields(done: _Set) -> None:
    """Fields that nothing reads, and columns that no row has: a misspelling loses data silently."""
    source = done.source
    if not done.fields:
        return
    read = {name for kind in done.kinds for name in fields_read(kind, source.columns)}
    unused = [name for name in done.fields if name not in read]
    place = str(source.path or source.name)
    missing = [name for name in _NEAR_OF if name not in done.fields]
    for name in list(unused):
        if near := did_you_mean(name, missing):
            done.warnings.append(Problem("field-near", place, name, {"near": near}, "warning"))
            unused.remove(name)
    if unused:
        done.remarks.append(note("fields-unused", name=source.name, fields=", ".join(unused)))
    for column, name in source.columns.columns.items():
        if column in _OPTIONAL and name not in done.fields:
            values = {"field": name, "fields": ", ".join(done.fields)}
            key = f"{source.name}.columns.{column}"
            place = source.column_places.get(column, source.place)
            done.warnings.append(Problem("column-absent", place, key, values, "warning"))


def _describe(done: _Set, reading: Reading, more: bool) -> None:
    source, count = done.source, len(done.found)
    kinds = ", ".join(
        kind if len(done.kinds) == 1 else f"{number} {kind}" for kind, number in done.kinds.items()
    )
    where = source.path or (source.hub.id if source.hub else "")
    if count:
        code = "read" if count > 1 else "read-one"
        done.notes.insert(0, note(code, name=source.name, count=count, kinds=kinds, where=where))
    if others := left_out(source):
        names = ", ".join(file.name for file in others[:5])
        done.notes.append(note("left-out", name=source.name, files=names))
    if more:
        done.notes.append(note("max-samples", name=source.name, count=reading.max_samples))
    if done.dropped and reading.bad_rows == "drop":
        kinds = tally(one.problem for one in done.dropped)
        values = {"count": len(done.dropped), "kinds": kinds}
        done.remarks.append(note("dropped", name=source.name, **values))


def _resample(done: _Set, reading: Reading) -> None:
    """`num_samples` of dataset_info.json: a choice by the seed; beyond the set some come again."""
    wanted, found = done.source.num_samples, done.found
    if wanted is None or not found:
        return
    rng = random.Random(f"{reading.seed} {done.source.name}")
    rounds, rest = divmod(wanted, len(found))
    chosen = sorted([*range(len(found))] * rounds + rng.sample(range(len(found)), rest))
    done.notes.append(note("num-samples", name=done.source.name, count=wanted, found=len(found)))
    done.found = [found[index] for index in chosen][: reading.max_samples]
