"""Data files and dataset_info.json -> conversations; every problem is reported at once.

JSON (a list of rows), JSONL (a row a line); names are looked up in `dataset_dir`/dataset_info.json
(LLaMA-Factory's file), anything else is a path. Broken JSON is reported with file:line:column.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama.data.catalogue import data_error
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.formats import Columns, detect_format, to_conversation
from ft2ollama.data.problems import BadRow, Problem
from ft2ollama.errors import DataError
from ft2ollama.files import sha256_file, sha256_text


@dataclass(frozen=True)
class Source:
    """One data file and how its columns are named."""

    name: str
    path: Path
    columns: Columns


@dataclass(frozen=True)
class Loaded:
    """conversations in file order, the files they came from, and a line for people on each file."""

    conversations: tuple[Conversation, ...]
    sha256: str
    notes: tuple[str, ...]


def load_dataset(
    names: Sequence[str], dataset_dir: Path, *, max_samples: int | None = None
) -> Loaded:
    """Read every named data set. Raises DataError that lists the problems of all files."""
    sources = find_sources(names, dataset_dir)
    conversations: list[Conversation] = []
    problems: list[Problem] = []
    notes: list[str] = []
    for source in sources:
        rows = read_rows(source.path)
        found, bad = _convert(rows, source)
        problems += bad
        if found:
            kind = detect_format(rows[0][1], source.columns)
            notes.append(f"{source.name}: {len(found)} conversations ({kind}) from {source.path}")
        elif not bad:
            problems.append(Problem("file-empty", str(source.path)))
        if max_samples and len(found) > max_samples:
            found = found[:max_samples]
            notes.append(f"{source.name}: max_samples keeps the first {max_samples}")
        conversations += found
    if problems:
        raise data_error(problems)
    digest = sha256_text("\n".join(f"{s.columns} {sha256_file(s.path)}" for s in sources))
    return Loaded(tuple(conversations), digest, tuple(notes))


def find_sources(names: Sequence[str], dataset_dir: Path) -> list[Source]:
    """Resolve data set names and paths; raises DataError naming everything that is missing."""
    info = _read_info(dataset_dir / "dataset_info.json")
    sources = []
    problems: list[Problem] = []
    for name in names:
        entry = info.get(name)
        if entry is not None:
            source = _from_info(name, entry, dataset_dir)
        else:
            source = Source(name, Path(name).expanduser(), Columns())
            if not source.path.is_file() and (dataset_dir / name).is_file():
                source = Source(name, dataset_dir / name, Columns())
        if not source.path.is_file():
            problems.append(_missing(name, source.path, info))
        sources.append(source)
    if problems:
        raise data_error(problems)
    return sources


def read_rows(path: Path) -> list[tuple[str, Any]]:
    """(place, row) of every row of a JSON or JSONL file; raises DataError at file:line:column."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        command = f"iconv -f GB18030 -t UTF-8 {path} > {path.stem}.utf8{path.suffix}"
        values = {"byte": error.start, "reason": error.reason, "command": command}
        raise data_error([Problem("file-not-utf8", str(path), "", values)]) from error
    if path.suffix == ".jsonl" or (text.lstrip()[:1] == "{" and "\n{" in text.strip()):
        return _read_lines(path, text)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise data_error([_json_problem(path, error, error.lineno)]) from error
    if not isinstance(rows, list):
        kind = type(rows).__name__
        raise data_error([Problem("json-not-list", str(path), "", {"kind": kind})])
    return [(f"{path}: row {number}", row) for number, row in enumerate(rows, 1)]


def _read_lines(path: Path, text: str) -> list[tuple[str, Any]]:
    rows, problems = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((f"{path}:{number}", json.loads(line)))
        except json.JSONDecodeError as error:
            problems.append(_json_problem(path, error, number))
    if problems:
        raise data_error(problems)
    return rows


def _json_problem(path: Path, error: json.JSONDecodeError, line: int) -> Problem:
    near = error.doc[max(0, error.pos - 20) : error.pos + 20].replace("\n", " ")
    values = {"reason": error.msg, "near": near}
    return Problem("json-broken", f"{path}:{line}:{error.colno}", "", values)


def _convert(
    rows: Sequence[tuple[str, Any]], source: Source
) -> tuple[list[Conversation], list[Problem]]:
    found, problems = [], []
    for place, row in rows:
        try:
            found.append(to_conversation(row, source.columns, place))
        except BadRow as error:
            problems.append(error.at(place))
    return found, problems


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise data_error([_json_problem(path, error, error.lineno)]) from error
    if not isinstance(info, dict):
        raise DataError(
            f"{path}: must hold an object",
            f"it holds a {type(info).__name__}",
            'write {"name": {"file_name": ...}}',
        )
    return info


def _from_info(name: str, entry: Any, dataset_dir: Path) -> Source:
    file = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(file, str):
        raise DataError(
            f"dataset_info.json: {name} names no file",
            f"the entry is {entry!r:.80}",
            f'"{name}": {{"file_name": "rows.json"}}',
        )
    columns = Columns(
        entry.get("formatting", ""), entry.get("columns") or {}, entry.get("tags") or {}
    )
    return Source(name, dataset_dir / file, columns)


def _missing(name: str, path: Path, info: dict[str, Any]) -> Problem:
    near = difflib.get_close_matches(name, [*info, *_data_files(path.parent)], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    known = f" (dataset_info.json knows {', '.join(list(info)[:8])})" if info else ""
    return Problem("file-missing", name, "", {"path": path, "hint": hint + known})


def _data_files(folder: Path) -> list[str]:
    return [str(path) for path in folder.glob("*.json*")] if folder.is_dir() else []
