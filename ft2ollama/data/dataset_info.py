"""dataset_info.json -> where the rows of a data set are and how its columns are named.

In: the file as LLaMA-Factory and openMind write it.  Out: a `Source`, or BadFile at
file:line:column. Differences to LLaMA-Factory (its data/parser.py): a column or tag that is not
listed keeps its default, where LLaMA-Factory forgets them all; a misspelt key is an error with the
right one, where it is ignored there; `revision` is a key of ours; code from a hub is not run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft2ollama.config import nodes
from ft2ollama.config.expects import did_you_mean, shown
from ft2ollama.data.encodings import encoding_of, not_readable
from ft2ollama.data.formats import COLUMNS, Columns
from ft2ollama.data.hub import HubData
from ft2ollama.data.problems import BadFile, Problem
from ft2ollama.data.turn_lists import KEY_TAGS, ROLE_TAGS

FILE = "dataset_info.json"
_WHERE = ("file_name", "local_path", "hf_hub_url", "ms_hub_url")
_REFUSED = ("om_hub_url", "script_url", "cloud_file_name")
_TEXTS = (*_WHERE, *_REFUSED, "formatting", "subset", "split", "folder", "revision")
_KEYS = frozenset({*_TEXTS, "num_samples", "columns", "tags", "ranking"})
_FORMATS = ("alpaca", "sharegpt", "openai")
_MEDIA = ("images", "videos", "audios")
_PREFERENCE = ("chosen", "rejected", "kto_tag")
_KNOWN = {"columns": (*COLUMNS, *_MEDIA, *_PREFERENCE), "tags": (*KEY_TAGS, *ROLE_TAGS)}


@dataclass(frozen=True)
class Source:
    """One data set. path: a file or folder; with `hub` it is None.

    num_samples: how many conversations to take, more than there are repeats some.
    warnings: what dataset_info.json says that looks wrong.  place, column_places: of the
    entry and of its columns there.
    """

    name: str
    path: Path | None
    columns: Columns = field(default_factory=Columns)
    hub: HubData | None = None
    split: str | None = None
    num_samples: int | None = None
    warnings: tuple[Problem, ...] = ()
    place: str = ""
    column_places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Info:
    """The entries of a dataset_info.json by name; none where there is no such file."""

    path: Path
    entries: Mapping[str, nodes.Entry]

    def source(self, name: str, hub: str) -> Source:
        """The data set that an entry describes; raises BadFile."""
        entry = self.entries[name]
        return _Reading(self.path, name, entry).source(hub)


def read_info(path: Path) -> Info:
    """Read a dataset_info.json, if it is there; raises BadFile for broken JSON with its place."""
    if not path.is_file():
        return Info(path, {})
    try:
        text = path.read_text(encoding_of(path))
        found = json.loads(text)
    except UnicodeDecodeError:
        raise not_readable(path) from None
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - 20) : error.pos + 20].replace("\n", " ").strip()
        place = f"{path}:{error.lineno}:{error.colno}"
        raise BadFile("info-json", place, reason=error.msg, near=near or "end of file") from None
    if not isinstance(found, dict):
        raise BadFile("info-object", str(path), value=shown(found))
    node = nodes.compose(text, json=True)
    return Info(path, {entry.key: entry for entry in (nodes.entries(node) if node else [])})


class _Reading:
    """One entry on its way to a Source, with the places of its keys."""

    def __init__(self, path: Path, name: str, entry: nodes.Entry) -> None:
        self.path, self.name = path, name
        self.place = f"{path}:{entry.line}:{entry.column}"
        self.warnings: list[Problem] = []
        try:
            values = entry.value()
            keys = nodes.entries(entry.node)
        except nodes.Malformed as error:
            place = f"{path}:{error.line}:{error.column}" if error.line else self.place
            raise BadFile("info-entry", place, name, value=error.text) from None
        self.marks = {one.key: one for one in keys}
        self.values: dict[str, Any] = self._corrected(values, _KEYS, self.marks, name)

    def source(self, hub: str) -> Source:
        """The Source; every value is checked before it is used."""
        for key in _TEXTS:
            if not isinstance(self.values.get(key), (str, type(None))):
                raise self._bad("info-text", key, value=shown(self.values[key]))
        self._refuse()
        columns = Columns(
            self.values.get("formatting") or "", self._names("columns"), self._names("tags")
        )
        where = self._where(hub)
        return Source(
            name=self.name,
            columns=columns,
            split=self.values.get("split"),
            num_samples=self._num_samples(),
            warnings=tuple(self.warnings),
            place=self.place,
            column_places=self._column_places(),
            path=None if isinstance(where, HubData) else where,
            hub=where if isinstance(where, HubData) else None,
        )

    def _where(self, hub: str) -> Path | HubData:
        """The file or folder, or the data set of a hub; ModelScope where the config wants it."""
        base = self.path.parent
        if file := self.values.get("file_name"):
            return base / str(file)
        if local := self.values.get("local_path"):  # openMind: as given, else beside this file
            given = Path(local).expanduser()
            return given if given.exists() else base / given
        urls = {"huggingface": "hf_hub_url", "modelscope": "ms_hub_url"}
        order = [hub, *(other for other in urls if other != hub)]
        chosen = next((one for one in order if self.values.get(urls[one])), None)
        if chosen is None:
            raise self._bad("info-no-file", "")
        get = self.values.get
        split, revision = get("split") or "train", get("revision")
        return HubData(
            self.values[urls[chosen]], chosen, get("subset"), split, revision, get("folder")
        )

    def _refuse(self) -> None:
        """What this version does not read, each with what to do instead."""
        if self.values.get("ranking"):
            raise self._bad("info-preference", "ranking")
        formatting = self.values.get("formatting")
        if formatting and formatting not in _FORMATS:
            near = did_you_mean(formatting, _FORMATS) or "sharegpt"
            known = ", ".join(_FORMATS)
            raise self._bad(
                "info-formatting", "formatting", value=formatting, known=known, near=near
            )
        if any(self.values.get(key) for key in _WHERE):
            return
        if self.values.get("script_url"):
            raise self._bad("info-script", "script_url")
        if self.values.get("cloud_file_name"):
            raise self._bad("info-cloud", "cloud_file_name", value=self.values["cloud_file_name"])
        if self.values.get("om_hub_url"):
            raise self._bad("info-openmind", "om_hub_url", value=self.values["om_hub_url"])

    def _num_samples(self) -> int | None:
        number = self.values.get("num_samples")
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise self._bad("info-number", "num_samples", value=shown(number))
        return number

    def _column_places(self) -> dict[str, str]:
        mark = self.marks.get("columns")
        marks = nodes.entries(mark.node) if mark and self.values.get("columns") else []
        return {one.key: f"{self.path}:{one.line}:{one.column}" for one in marks}

    def _names(self, key: str) -> dict[str, str]:
        """`columns` or `tags`: text to text; preference and media columns are refused."""
        given = self.values.get(key)
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise self._bad("info-mapping", key, value=shown(given))
        marks = {one.key: one for one in nodes.entries(self.marks[key].node)}
        names = self._corrected(given, _KNOWN[key], marks, f"{self.name}.{key}")
        for name, value in names.items():
            if name in _PREFERENCE and value:
                raise self._bad("info-preference", key)
            if name in _MEDIA and value:
                raise self._bad("info-media", key, value=name)
            if value is not None and not isinstance(value, str):
                raise self._bad("info-text", key, value=shown(value))
        return {name: value for name, value in names.items() if value}

    def _corrected(
        self,
        given: Mapping[str, Any],
        known: Any,
        marks: Mapping[str, nodes.Entry],
        where: str,
    ) -> dict[str, Any]:
        """Keys in their right spelling.

        Blanks, hyphens and capitals are corrected with a warning, for nothing else can be meant;
        other misspellings are errors, and a key that is like none is left alone with a warning.
        """
        found: dict[str, Any] = {}
        for key, value in given.items():
            mark = marks.get(key)
            place = f"{self.path}:{mark.line}:{mark.column}" if mark else self.place
            plain = re.sub(r"[\s_-]+", "_", key.strip()).lower()
            near = plain if plain in known else did_you_mean(key, known)
            if key in known:
                found[key] = value
            elif plain in known and plain not in given:
                self._warn("info-key-blank", place, f"{where}.{key}", near=plain)
                found[plain] = value
            elif near:
                raise BadFile("info-key-near", place, f"{where}.{key}", near=near)
            else:
                names = ", ".join(sorted(known))
                self._warn("info-key-unknown", place, f"{where}.{key}", known=names)
        return found

    def _warn(self, code: str, place: str, key: str, **values: Any) -> None:
        self.warnings.append(Problem(code, place, key, values, "warning"))

    def _bad(self, code: str, key: str, **values: Any) -> BadFile:
        mark = self.marks.get(key)
        place = f"{self.path}:{mark.line}:{mark.column}" if mark else self.place
        name = f"{self.name}.{key}" if key else self.name
        return BadFile(code, place, name, **values)
