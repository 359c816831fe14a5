"""Names of data sets -> where their rows are: an entry, a file, a folder, or a hub.

In: the words of `dataset:`.  Out: a `Source` each, or every problem at once. A name is looked up
in dataset_info.json first, then as a path, then in dataset_dir, then as a hub id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ft2ollama.config.expects import did_you_mean
from ft2ollama.data.dataset_info import FILE, Info, Source, read_info
from ft2ollama.data.hub import HubData, hub_rows, is_hub_id, modelscope_folder
from ft2ollama.data.placed import Placed
from ft2ollama.data.problems import BadFile, Problem
from ft2ollama.data.readers import SUFFIXES, read_rows

# Words in the name of a file or its folder -> the split it holds.
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
_NOT_ROWS = frozenset({FILE, "dataset_dict.json", "dataset_infos.json", "state.json"})


def find_sources(
    names: Sequence[str], dataset_dir: Path, hub: str = "huggingface"
) -> tuple[list[Source], list[Problem]]:
    """The sources of all names, and a problem for each name that has none.

    dataset_dir: the folder of dataset_info.json, or such a file under any name.
    """
    named = dataset_dir.suffix == ".json"
    try:
        info = read_info(dataset_dir if named else dataset_dir / FILE)
    except BadFile as error:
        return [], [error.problem]
    folder = dataset_dir.parent if named else dataset_dir
    sources, problems = [], []
    for name in names:
        try:
            sources.append(_find(name, folder, info, hub))
        except BadFile as error:
            problems.append(error.problem)
    return sources, problems


def absolute(names: Sequence[str], dataset_dir: Path) -> tuple[str, ...]:
    """The names in a form that finds the same data from another folder."""
    return tuple(
        str(source.path.absolute()) if source.path and not source.place else source.name
        for source in find_sources(names, dataset_dir)[0]
    )


def _find(name: str, folder: Path, info: Info, hub: str) -> Source:
    if name in info.entries:
        source = info.source(name, hub)
        if source.path is not None and not source.path.exists():
            raise _missing(name, source.path, info, source.place)
        return source
    for path in (Path(name).expanduser(), folder / name):
        if path.exists():
            return Source(name, path)
    if is_hub_id(name) and Path(name).suffix not in SUFFIXES:
        return Source(name, None, hub=HubData(name, hub))
    raise _missing(name, Path(name).expanduser(), info, "")


def _missing(name: str, path: Path, info: Info, place: str) -> BadFile:
    """No such data: the nearest entry or file, and what there is."""
    files = [str(file) for file in _files(path.parent)] if path.parent.is_dir() else []
    near = did_you_mean(name, info.entries) if not place else ""
    near = near or _near_file(path, files)
    known = ", ".join([*list(info.entries)[:6], *[Path(file).name for file in files[:6]]])
    code = "data-missing-near" if near else "data-missing"
    return BadFile(
        code, place or name, name if place else "", path=path, near=near, known=known or "-"
    )


def _near_file(path: Path, files: Iterable[str]) -> str:
    by_name = {Path(file).name.lower(): file for file in files}
    return by_name.get(did_you_mean(path.name, by_name), "")


def rows_of(source: Source, *, streaming: bool = False) -> Iterator[Placed]:
    """Every row of a data set; raises BadFile where a file cannot be read on."""
    if source.hub and source.hub.hub == "huggingface":
        yield from hub_rows(source.hub, streaming=streaming)
        return
    for path in files_of(source):
        yield from read_rows(path)


def files_of(source: Source) -> list[Path]:
    """The files of a data set in their order; raises BadFile for a folder without any."""
    path = source.path or (modelscope_folder(source.hub) if source.hub else Path())
    split = source.split or (source.hub.split if source.hub else None)
    if path.is_file():
        if split not in (None, "train"):
            raise BadFile("split-file", source.place or source.name, "split", split=split)
        return [path]
    files = _files(path)
    if not files:
        raise BadFile("folder-empty", str(path), known=", ".join(sorted(SUFFIXES)))
    return _of_split(path, files, split or "train")


def left_out(source: Source) -> list[Path]:
    """Files of a folder that hold another split."""
    if source.path is None or not source.path.is_dir():
        return []
    read = set(files_of(source))
    return [file for file in _files(source.path) if file not in read]


def _of_split(folder: Path, files: list[Path], wanted: str) -> list[Path]:
    """The files of one split; all of them where no name says a split."""
    splits = {file: _split(file.relative_to(folder)) for file in files}
    if not any(splits.values()) and wanted == "train":
        return files
    wanted = _SPLITS.get(wanted, wanted)
    chosen = [file for file, split in splits.items() if split == wanted]
    if not chosen:
        known = ", ".join(sorted({split or "-" for split in splits.values()}))
        raise BadFile("split-missing", str(folder), split=wanted, known=known)
    return chosen


def _split(path: Path) -> str:
    words = re.split(r"[^a-z0-9]+", str(path.with_suffix("")).lower())
    return next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), "")


def _files(folder: Path) -> list[Path]:
    """Data files in and below a folder, without hidden ones."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.name not in _NOT_ROWS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
