"""One data file -> its rows, each with its place; a broken row does not hide the ones after it.

| ending | read by | place |
|---|---|---|
| .json (a list), .jsonl, .ndjson (a row a line) | json | `file:line: row n`, `file:line` |
| .csv, .tsv (the first line names the fields) | csv | `file:line` |
| .parquet, .arrow | Hugging Face datasets, as a stream | `file: row n` |

JSON and CSV are read here and not by `datasets`, because that library names no line, and guesses
types of CSV cells (007 becomes 7). One row is in memory at a time; of a .json list also its text.
"""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ft2ollama.data.encodings import encoding_of, not_readable
from ft2ollama.data.hub import quiet_datasets, without_nulls
from ft2ollama.data.placed import Broken, Placed
from ft2ollama.data.problems import BadFile, BadRow, Problem

LINES = frozenset({".jsonl", ".ndjson", ".jsonlines"})
TABLES = {".csv": ",", ".tsv": "\t"}
COLUMNAR = {".parquet": "parquet", ".arrow": "arrow"}
SUFFIXES = frozenset({".json", *LINES, *TABLES, *COLUMNAR})

_SPACE = re.compile(r"[ \t\r\n]*")
_MOST_CELL = 1 << 30


def read_rows(path: Path) -> Iterator[Placed]:
    """Every row of a file; `row` is `Broken` for one that is not JSON or not whole.

    Raises BadFile when nothing after the fault can be read: the encoding, a .json list.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadFile("file-kind", str(path), suffix=suffix or path.name, known=_known())
    try:
        if suffix in COLUMNAR:
            yield from _columnar(path, COLUMNAR[suffix])
        elif suffix in TABLES:
            yield from _table(path, TABLES[suffix])
        else:
            yield from _json(path, suffix)
    except UnicodeDecodeError:
        raise not_readable(path) from None
    except OSError as error:
        raise BadFile("file-unreadable", str(path), reason=error.strerror or error) from None


def _known() -> str:
    return ", ".join(sorted(SUFFIXES))


def _json(path: Path, suffix: str) -> Iterator[Placed]:
    with path.open(encoding=encoding_of(path), newline="\n") as file:
        first, second = _first_two(file)
        file.seek(0)
        if _is_lines(suffix, first, second):
            yield from _lines(path, file)
        else:
            yield from _document(path, file.read())


def _first_two(lines: Iterator[str]) -> tuple[str, str]:
    """The first two lines that are not blank."""
    found = [*islice((line.strip() for line in lines if line.strip()), 2), "", ""]
    return found[0], found[1]


def _is_lines(suffix: str, first: str, second: str) -> bool:
    """A row a line, or one document? The lines say it; a .jsonl may hold a list by mistake."""
    whole = first[:1] + first[-1:] in ("{}", "[]")
    if suffix in LINES:
        return whole or (first[:1] != "[" and first != "{")
    return whole and first[0] == second[:1] and len(first) > 1


def _lines(path: Path, lines: Iterator[str]) -> Iterator[Placed]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            yield Placed(place, json.loads(line, object_pairs_hook=_object))
        except (ValueError, RecursionError, BadRow) as error:
            yield Placed(place, Broken(_problem(error, path, place, number), line.rstrip("\n")))


def _document(path: Path, text: str) -> Iterator[Placed]:
    """The rows of one JSON list, or objects that stand one after the other over several lines."""
    position = _after_space(text, 0)
    if text[position : position + 1] == "[":
        yield from _values(path, text, position + 1, inside=True)
        return
    rows = list(islice(_values(path, text, position, inside=False), 2))
    if len(rows) == 1:
        keys = ", ".join(rows[0].row) if isinstance(rows[0].row, dict) else "-"
        raise BadFile("json-not-list", str(path), keys=keys)
    yield from _values(path, text, position, inside=False)


def _values(path: Path, text: str, position: int, *, inside: bool) -> Iterator[Placed]:
    """JSON values from `position` on; inside a list commas stand between them and ] after them."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    line, counted, number = 1, 0, 0
    while not _ends(path, text, position := _after_space(text, position), inside=inside):
        number += 1
        line, counted = line + text.count("\n", counted, position), position
        place = f"{path}:{line}: row {number}"
        try:
            row, position = decoder.raw_decode(text, position)
        except BadRow as error:  # the rest can be read: decode once more without the check
            broken, end = json.JSONDecoder().raw_decode(text, position)
            yield Placed(place, Broken(error.at(place), json.dumps(broken, ensure_ascii=False)))
            position = end
        except (ValueError, RecursionError) as error:
            raise BadFile.of(_problem(error, path, place)) from None
        else:
            yield Placed(place, row)
        position = _after_space(text, position)
        if inside:
            position = _after_comma(path, text, position)


def _ends(path: Path, text: str, position: int, *, inside: bool) -> bool:
    """Whether no value comes any more; raises BadFile for text after the list."""
    if not inside or text[position : position + 1] != "]":
        return not inside and position == len(text)
    rest = _after_space(text, position + 1)
    if rest != len(text):
        raise _broken(path, "Extra data", text, rest)
    return True


def _after_comma(path: Path, text: str, position: int) -> int:
    """Where the next value begins, or the closing bracket stands."""
    if text[position : position + 1] == "]":
        return position
    if text[position : position + 1] != ",":
        raise _broken(path, "Expecting ',' delimiter", text, position)
    after = _after_space(text, position + 1)
    if text[after : after + 1] == "]":
        raise _broken(path, "Illegal trailing comma before end of array", text, position)
    return after


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a key given twice json would silently keep the last value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise BadRow("key-twice", next(name for name in names if names.count(name) > 1))
    return found


def _broken(path: Path, reason: str, text: str, position: int) -> BadFile:
    return BadFile.of(_problem(json.JSONDecodeError(reason, text, position), path, str(path)))


def _problem(error: Exception, path: Path, place: str, line: int | None = None) -> Problem:
    """What json says, at file:line:column. line: of the file, where `error` saw one line only."""
    if isinstance(error, BadRow):
        return error.at(place)
    if isinstance(error, RecursionError):
        return Problem("json-deep", place)
    if not isinstance(error, json.JSONDecodeError):
        return Problem("json-number", place, "", {"reason": str(error)})
    near = error.doc[max(0, error.pos - 20) : error.pos + 20].replace("\n", " ").strip()
    exact = f"{path}:{line or error.lineno}:{error.colno}"
    return Problem("json-broken", exact, "", {"reason": error.msg, "near": near or "end of file"})


def _table(path: Path, delimiter: str) -> Iterator[Placed]:
    """CSV cells stay text; an empty cell counts as no value. A row may go over several lines."""
    csv.field_size_limit(_MOST_CELL)
    with path.open(encoding=encoding_of(path), newline="") as file:
        head = file.readline()
        if delimiter == "," and head.count(";") > head.count(","):
            delimiter = ";"  # as Excel writes it where the comma is the decimal point
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = [name.strip() for name in next(reader, [])]
            if names and ("" in names or len(set(names)) != len(names)):
                raise BadFile("csv-names", f"{path}:1", names=", ".join(names))
            yield from _cells(path, reader, names)
        except csv.Error as error:
            raise BadFile("csv-broken", f"{path}:{reader.line_num}", reason=error) from None


def _cells(path: Path, reader: Any, names: list[str]) -> Iterator[Placed]:
    line = reader.line_num + 1
    for cells in reader:
        place, line = f"{path}:{line}", reader.line_num + 1
        if not any(cells):
            continue
        if len(cells) == len(names):
            yield Placed(place, {n: cell for n, cell in zip(names, cells, strict=True) if cell})
        else:
            values = {"cells": len(cells), "names": len(names)}
            text = ",".join(cells)
            yield Placed(place, Broken(Problem("csv-cells", place, "", values), text))


def _columnar(path: Path, kind: str) -> Iterator[Placed]:
    datasets = quiet_datasets()
    try:
        rows = datasets.load_dataset(
            kind, data_files=glob.escape(str(path)), split="train", streaming=True
        )
        for number, row in enumerate(rows, 1):
            yield Placed(f"{path}: row {number}", without_nulls(row))
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadFile("columnar-broken", str(path), kind=kind, reason=lines[0]) from error
