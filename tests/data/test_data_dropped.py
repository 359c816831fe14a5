"""Rows that cannot be used: an error, or left out, counted, and listed in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.data.dropped import FILE, write_dropped
from ft2ollama.data.load import Loaded, Reading, load_dataset
from ft2ollama.errors import DataError

GOOD = {"instruction": "问", "output": "答"}
BAD: list[Any] = [{**GOOD, "output": None}, {"instruction": "\ud83d", "output": "A"}, ["x"]]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FT2OLLAMA_LANG", "en")
    path = tmp_path / "a.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in (GOOD, *BAD, GOOD))
    path.write_text(text + '{"instruction": "Q", }\n', "utf-8")
    return path


def load(path: Path, bad_rows: Any) -> Loaded:
    return load_dataset([str(path)], path.parent, reading=Reading(bad_rows=bad_rows))


def test_by_default_nothing_is_dropped(data: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(data, "error")
    assert caught.value.what == "4 problems in the training data"
    assert caught.value.fix.endswith("or leave the rows out with bad_rows: drop")


def test_dropped_rows_are_counted_said_and_listed(data: Path) -> None:
    loaded = load(data, "drop")
    assert len(loaded.conversations) == 2
    assert loaded.remarks[0] == (
        f"{data}: left out 4 (bad_rows: drop), listed in dropped.jsonl of the run: "
        f"1 text-wanted ({data}:2), 1 half-character ({data}:3), 1 row-not-object ({data}:4), "
        f"1 json-broken ({loaded.dropped[3].problem.place})"
    )
    path = data.parent / FILE
    write_dropped(path, loaded.dropped, "en")
    listed = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [one["row"] for one in listed] == [*BAD, '{"instruction": "Q", }']
    assert listed[0] == {
        "place": f"{data}:2", "code": "text-wanted", "key": "output",
        "problem": "must be text, not null", "fix": "write text in quotes, or remove the row",
        "row": BAD[0],
    }  # fmt: skip
    assert "问" in path.read_text("utf-8")
    write_dropped(path, loaded.dropped, "zh")
    assert "必须是文本" in path.read_text("utf-8")
    write_dropped(path, (), "en")
    assert not path.exists()


def test_a_file_that_cannot_be_read_is_never_dropped(data: Path) -> None:
    whole = data.parent / "b.json"
    whole.write_text('[{"instruction": "Q", "output": "A"},', "utf-8")
    with pytest.raises(DataError) as caught:
        load_dataset([str(data), str(whole)], data.parent, reading=Reading(bad_rows="drop"))
    assert f"{whole}:1:" in caught.value.why


def test_when_nothing_is_left_that_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(BAD[0]), "utf-8")
    with pytest.raises(DataError, match="2 problems") as caught:
        load(path, "drop")
    assert "no row is left to train on" in caught.value.why
