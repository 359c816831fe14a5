"""The rows of a file as an importer wants them: also of one object with a list inside.

In: a file that `data.readers` reads, or a JSON object.  Out: `Placed` rows. What hinders reading on
comes as the last row, `Broken`, so that it is counted. A quote that an export put before =, +, - or
@ in a CSV cell, so that no spreadsheet runs it as a formula, is taken away.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ft2ollama.data.encodings import encoding_of, not_readable
from ft2ollama.data.placed import Broken, Placed
from ft2ollama.data.problems import BadFile
from ft2ollama.data.readers import COLUMNAR, SUFFIXES, TABLES, read_rows
from ft2ollama.loop.importers.base import Head

# Keys under which exports keep their list of rows.
WRAPPERS = ("data", "feedback_data", "examples", "samples", "items", "observations", "scores")
_SQLITE = b"SQLite format 3\x00"
_HEAD_ROWS = 20
_CHUNK = 1 << 20
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def rows_of(path: Path) -> Iterator[Placed]:
    """Every row. Raises BadFile only before the first one."""
    given = False
    table = path.suffix.lower() in TABLES
    try:
        for place, row in read_rows(path):
            given = True
            yield Placed(place, _unquoted(row) if table and isinstance(row, Mapping) else row)
    except BadFile as error:
        if error.problem.code == "json-not-list":
            yield from _wrapped(path)
        elif given:
            yield Placed(error.problem.place, Broken(error.problem, ""))
        else:
            raise


def check_encoding(path: Path) -> None:
    """Raises BadFile with the command that converts, before anything of the file is imported."""
    if path.suffix.lower() in COLUMNAR or is_sqlite(path):
        return
    decoder = codecs.getincrementaldecoder(encoding_of(path))()
    with path.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise not_readable(path) from None


def head_of(path: Path) -> Head:
    """The first rows, for the importers to know their own. Raises BadFile."""
    if is_sqlite(path):
        return Head(path, path.suffix.lower(), sqlite=True)
    check_encoding(path)
    wrapper: frozenset[str] = frozenset()
    rows: Iterable[Placed]
    try:
        rows = list(islice(read_rows(path), _HEAD_ROWS))
    except BadFile as error:
        if error.problem.code != "json-not-list":
            raise
        wrapper = frozenset(_object(path))
        rows = islice(_wrapped(path), _HEAD_ROWS)
    whole = tuple(row for _, row in rows if not isinstance(row, Broken))
    return Head(path, path.suffix.lower(), whole, wrapper)


def is_sqlite(path: Path) -> bool:
    """Whether it is a database of SQLite."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def can_be_read(path: Path) -> bool:
    """Files of a folder that are looked at."""
    return path.suffix.lower() in SUFFIXES or is_sqlite(path)


def _object(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding=encoding_of(path)))
    return found if isinstance(found, dict) else {}


def _wrapped(path: Path) -> Iterator[Placed]:
    """The list inside one object, or the object as the only row."""
    found = _object(path)
    key = next((name for name in WRAPPERS if isinstance(found.get(name), list)), "")
    if not key:
        yield Placed(f"{path}: row 1", found)
    for number, row in enumerate(found.get(key, ()), 1):
        yield Placed(f"{path}: {key}[{number}]", row)


def _unquoted(row: Mapping[str, str]) -> dict[str, str]:
    return {
        name: cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell
        for name, cell in row.items()
    }
