"""Where keys come from: the file and the command line -> `Given`, one per key as it was written.

In: a path and `key=value` words.  Out: what was given, each with its place for error messages
("train.yaml:5:12", "override lora_rank=abc"), and the problems that need no schema: bytes that
are no text, broken YAML, a key given twice.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ft2ollama.config import nodes
from ft2ollama.config.expects import did_you_mean
from ft2ollama.errors import ConfigError

_MOST_BYTES = 1 << 20  # a config is a page of text; a megabyte is a model or a data set
_NEEDED = "model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct\\ndataset: train.json\\n"
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True)
class Problem:
    """One line of the error. order: layer, line, column; fix: what to type, where one thing is."""

    order: tuple[int, int, int]
    text: str
    fix: str = ""


@dataclass(frozen=True)
class Given:
    """One key as written. layer 0: the file, 1: the command line. item: part of a mapping key."""

    key: str
    layer: int
    where: str
    entry: nodes.Entry
    item: str = ""

    @property
    def order(self) -> tuple[int, int, int]:
        """For sorting: the file from its top, then the command line."""
        return self.layer, self.entry.line, self.entry.column

    @property
    def origin(self) -> str:
        """For `Loaded.origins`: "train.yaml:12" or "override"."""
        return "override" if self.layer else f"{Path(self.where).name}:{self.entry.line}"

    def problem(
        self, text: str, *, fix: str = "", path: Sequence[str | int] | None = None
    ) -> Problem:
        """A problem at the key, or with a path at its value or at an item of it."""
        if self.layer:
            return Problem(self.order, f"{self.where}: {text}", fix)
        place = (self.entry.line, self.entry.column)
        line, column = place if path is None else self.entry.position(path)
        name = ".".join([self.key, *(step for step in path or () if isinstance(step, str))])
        return Problem((0, line, column), f"{self.where}:{line}:{column}: {name}: {text}", fix)


def read_file(path: Path) -> tuple[list[Given], list[Problem]]:
    """The keys of a file in its order; raises ConfigError when it is no list of keys at all."""
    text = _read_text(path)
    try:
        node = nodes.compose(text, json=path.suffix.lower() == ".json")
        if node is None:
            fix = f"printf '{_NEEDED}' > {path}"
            raise _unusable(f"{path} is empty", "a config has two keys at least", fix)
        found = nodes.entries(node)
    except nodes.Malformed as error:
        place = f"{path}:{error.line}:{error.column}" if error.line else str(path)
        raise _unusable(
            f"{path} is not a config",
            f"{place}: {error.text}",
            f"correct line {error.line}; a line is 'key: value', such as lora_rank: 16",
        ) from None
    return _without_twins([Given(entry.key, 0, str(path), entry) for entry in found])


def _without_twins(given: list[Given]) -> tuple[list[Given], list[Problem]]:
    """The first of each key, and a problem for each further one."""
    first: dict[str, Given] = {}
    problems = []
    for one in given:
        if one.key in first:
            line = first[one.key].entry.line
            problems.append(
                one.problem(f"given twice, first in line {line}", fix=f"keep one {one.key}")
            )
        first.setdefault(one.key, one)
    return list(first.values()), problems


def read_override(word: str, number: int, *, as_text: bool) -> Given | Problem:
    """`key=value`; the value is YAML, or for a key that holds text the text as it stands.

    number: position on the command line, from 1, which orders the problems.
    """
    where = f"override {word}"
    key, equals, raw = word.partition("=")
    key = key.strip().lstrip("-")
    if not equals or not key:
        return Problem((1, number, 0), f"{where}: must be key=value", "lora_rank=8 is an example")
    try:
        node = _override_node(raw.strip(), as_text=as_text)
    except nodes.Malformed as error:
        return Problem((1, number, 0), f"{where}: {error.text}", f"put quotes: {key}='\"...\"'")
    head, _, item = key.partition(".")
    return Given(head, 1, where, nodes.Entry(head, number, 0, node), item)


def _override_node(raw: str, *, as_text: bool) -> yaml.Node:
    """Text that is not in quotes is taken as it stands: `default_system=Answer: yes # no`."""
    if as_text and raw[:1] not in ("'", '"', "~", "") and raw.lower() != "null":
        return yaml.ScalarNode("tag:yaml.org,2002:str", raw)
    node = nodes.compose(raw)
    return yaml.ScalarNode("tag:yaml.org,2002:null", "") if node is None else node


def _read_text(path: Path) -> str:
    """The text of a file, with a clear error for each way in which it is none."""
    what = f"cannot read {path}"
    if path.is_dir():
        files = sorted(item.name for item in path.iterdir() if item.suffix in _SUFFIXES)
        fix = f"give the file: {path / files[0]}" if files else "give the path of a YAML file"
        raise _unusable(what, "it is a folder", fix)
    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise _unusable(what, str(error.strerror), f"ls -l {path}") from None
    if data is None:
        size = path.stat().st_size / 1e6
        why = f"it has {size:.1f} MB; a config is a page of text"
        raise _unusable(what, why, "give the config, not the model or the data")
    return _decode(path, data)


def _decode(path: Path, data: bytes) -> str:
    """UTF-8, with or without a byte order mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _unusable(
            f"{path} is not UTF-8",
            "it is UTF-16, as PowerShell's > writes it",
            f"iconv -f UTF-16 -t UTF-8 {path} > utf8.yaml",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _unusable(
            f"{path} is not UTF-8",
            f"{path}:{line}: byte 0x{data[error.start]:02X} cannot be read; perhaps it is GBK",
            f"iconv -f GB18030 -t UTF-8 {path} > utf8.yaml",
        ) from None
    return text.replace("\r\n", "\n")


def _missing(path: Path) -> ConfigError:
    """No such file: the nearest name in the folder, or that the word is an override."""
    what = f"cannot read {path}"
    if "=" in path.name:
        return _unusable(what, "a config file comes before key=value", f"train.yaml {path}")
    folder = path.parent
    if not folder.is_dir():
        return _unusable(what, f"there is no folder {folder}", "give the path of a YAML file")
    names = {item.name for item in folder.iterdir() if item.suffix.lower() in _SUFFIXES}
    near = did_you_mean(path.name, names)
    fix = f"did you mean {folder / near}?" if near else "give the path of a YAML or JSON file"
    return _unusable(what, "there is no such file", fix)


def _unusable(what: str, why: str, fix: str) -> ConfigError:
    return ConfigError(what, why, fix)


def plain(given: Given, *, as_text: bool) -> Any | Problem:
    """The value, or the problem that it has no plain one (a tag, a key given twice inside)."""
    try:
        return given.entry.value(as_text=as_text)
    except nodes.Malformed as error:
        if given.layer:
            return Problem(given.order, f"{given.where}: {error.text}")
        place = f"{given.where}:{error.line}:{error.column}"
        return Problem((0, error.line, error.column), f"{place}: {given.key}: {error.text}")
