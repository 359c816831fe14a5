"""The data set that a cycle writes says what it is: nothing in it looks like a mistake."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from curate_rows import row

from ft2ollama.data.load import load_dataset
from ft2ollama.data.repeats import repeats
from ft2ollama.data.summary import summary_line
from ft2ollama.loop.curate.dataset import Lineage, write_dataset
from ft2ollama.loop.curate.pipeline import Inputs, curate
from ft2ollama.loop.curate.rules import Needs
from ft2ollama.loop.curate.settings import CurateConfig

TOWNS = ("Hamburg", "Dresden", "München", "Köln", "Kiel", "Bonn")


def _written(folder: Path) -> Path:
    rows = [
        row(n, f"Who repairs a broken heater in {town}?", f"The workshop of {town}.",
            origin="correction")
        for n, town in enumerate(TOWNS)
    ]  # fmt: skip
    inputs = Inputs(new=rows, needs=Needs(CurateConfig(), now_ms=1000), seed=1)
    write_dataset(folder, curate(inputs), inputs, Lineage())
    return folder / "train.jsonl"


def test_its_own_weighting_is_no_finding(tmp_path: Path) -> None:
    path = _written(tmp_path)
    read = load_dataset([str(path)], path.parent)
    assert len(read.conversations) == 18  # a correction counts thrice
    assert read.remarks == ()
    assert read.warnings == ()
    assert summary_line(read.conversations, "x", "en") == ""
    assert [one.code for one in repeats(read.conversations) if one.code == "duplicate"] == []
    copies = Counter(one.copy for one in read.conversations)
    assert copies == {0: 6, 1: 6, 2: 6}


def test_a_copy_that_is_not_meant_is_still_found(tmp_path: Path) -> None:
    path = _written(tmp_path)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        del line["metadata"]
    path.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    read = load_dataset([str(path)], path.parent)
    assert "12 duplicate" in summary_line(read.conversations, "x", "en")


def test_whence_a_line_comes(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in _written(tmp_path).read_text("utf-8").splitlines()]
    assert {tuple(line) for line in lines} == {("messages", "metadata")}
    assert {line["metadata"]["rid"] for line in lines} <= {f"r{n}" for n in range(6)}
    assert {line["metadata"]["form"] for line in lines} == {"closed_book"}


def test_a_strange_copy_number_is_none(tmp_path: Path) -> None:
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path = tmp_path / "x.jsonl"
    odd: list[object] = [{"copy": -1}, {"copy": "2"}, {"copy": None}, "copy", None, [1]]
    path.write_text("\n".join(json.dumps({**line, "metadata": one}) for one in odd), "utf-8")
    read = load_dataset([str(path)], tmp_path).conversations
    assert [one.copy for one in read] == [0] * len(odd)
    assert len(repeats([replace(one, copy=0) for one in read])) == len(odd) - 1
