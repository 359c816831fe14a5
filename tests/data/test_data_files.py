"""Every kind of file gives the same rows, with places, and without costing much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.load import Loaded, Reading, collect, load_dataset
from ft2ollama.data.placed import Broken
from ft2ollama.data.readers import read_rows

CHINESE = {
    "instruction": "你好，请问？",
    "input": 'a "b", c\nd',
    "output": "您好！\u2028👩‍👩‍👧 007",
}
SECOND = {"instruction": "Q", "input": "", "output": "A"}


def load(path: Path, **reading: Any) -> Loaded:
    return load_dataset([str(path)], path.parent, reading=Reading(**reading))


def texts(loaded: Loaded) -> list[tuple[str, ...]]:
    return [tuple(message["content"] for message in row.messages) for row in loaded.conversations]


WANTED = [(f"{CHINESE['instruction']}\n{CHINESE['input']}", CHINESE["output"]), ("Q", "A")]


def as_csv(delimiter: str) -> str:
    import csv
    import io

    out = io.StringIO()
    writer = csv.DictWriter(out, list(CHINESE), delimiter=delimiter)
    writer.writeheader()
    writer.writerows([CHINESE, SECOND])
    return out.getvalue()


ROWS_JSON = json.dumps([CHINESE, SECOND], ensure_ascii=False)
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in (CHINESE, SECOND))
TEXTS = {
    "list in a line": ("a.json", ROWS_JSON),
    "list over lines": ("a.json", json.dumps([CHINESE, SECOND], indent=2)),
    "list called jsonl": ("a.jsonl", json.dumps([CHINESE, SECOND], indent=2)),
    "list in one line called jsonl": ("b.jsonl", ROWS_JSON.replace("}, {", "},\n{")),
    "lines": ("a.jsonl", LINES + "\n"),
    "lines with blank ones and CR": ("a.jsonl", LINES.replace("\n", "\r\n\r\n")),
    "lines called json": ("a.json", LINES),
    "lines of escapes": ("a.ndjson", "\n".join(map(json.dumps, (CHINESE, SECOND)))),
    "objects over lines": ("a.json", json.dumps(CHINESE, indent=1) + json.dumps(SECOND, indent=1)),
    "csv": ("a.csv", as_csv(",")),
    "csv of Excel in Germany": ("a.csv", as_csv(";")),
    "tsv": ("a.tsv", as_csv("\t")),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", TEXTS)
def test_text_files(name: str, encoding: str, tmp_path: Path) -> None:
    file, text = TEXTS[name]
    (tmp_path / file).write_bytes(text.encode(encoding))
    assert texts(load(tmp_path / file)) == WANTED


def test_cells_of_a_table_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('instruction,output,history\n007,1e5,"[[""q"", ""a""]]"\nNA,null,\n', "utf-8")
    assert texts(load(path)) == [("q", "a", "007", "1e5"), ("NA", "null")]


def test_places(tmp_path: Path) -> None:
    def places(name: str, text: str) -> list[str]:
        (tmp_path / name).write_text(text, "utf-8")
        rows = load(tmp_path / name).conversations
        return [row.place.removeprefix(str(tmp_path)) for row in rows]

    assert places("a.jsonl", "\n" + LINES) == ["/a.jsonl:2", "/a.jsonl:3"]
    assert places("a.json", json.dumps([SECOND] * 2, indent=1)) == [
        "/a.json:2: row 1",
        "/a.json:7: row 2",
    ]
    assert places("b.json", json.dumps([SECOND] * 2)) == ["/b.json:1: row 1", "/b.json:1: row 2"]
    assert places("a.csv", as_csv(",")) == ["/a.csv:2", "/a.csv:4"]


def as_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).to_parquet(str(path))


def test_parquet_and_arrow(tmp_path: Path) -> None:
    import datasets
    import pyarrow
    import pyarrow.feather

    as_parquet(tmp_path / "a [1]*.parquet", [CHINESE, SECOND])
    assert texts(load(tmp_path / "a [1]*.parquet")) == WANTED
    assert load(tmp_path / "a [1]*.parquet").conversations[1].place.endswith(".parquet: row 2")
    pyarrow.feather.write_feather(
        pyarrow.Table.from_pylist([CHINESE, SECOND]), tmp_path / "f.arrow"
    )
    assert texts(load(tmp_path / "f.arrow")) == WANTED
    datasets.Dataset.from_list([CHINESE, SECOND]).save_to_disk(str(tmp_path / "saved"))
    assert texts(load(tmp_path / "saved")) == WANTED


def test_the_nulls_that_columns_put_into_calls_are_no_arguments(tmp_path: Path) -> None:
    def row(**arguments: Any) -> dict[str, Any]:
        call = {"function": {"name": "w", "arguments": arguments}}
        return {
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "R"},
                {"role": "assistant", "content": "A"},
            ]
        }

    rows = [row(city="SZ"), row(days=2)]
    as_parquet(tmp_path / "a.parquet", rows)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    table, lines = (load(tmp_path / name).conversations for name in ("a.parquet", "a.jsonl"))
    assert [row.messages for row in table] == [row.messages for row in lines]
    assert load(tmp_path / "a.parquet").sha256 == load(tmp_path / "a.jsonl").sha256


def test_a_folder_and_its_splits(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    for name, text in (
        ("data/train-00000-of-00002.jsonl", json.dumps({**SECOND, "instruction": "1"})),
        ("data/train-00001-of-00002.csv", "instruction,output\n2,A\n"),
        ("data/test-00000-of-00001.jsonl", json.dumps({**SECOND, "instruction": "3"})),
        (".cache/train.jsonl", "broken"),
        ("dataset_info.json", "{}"),
        ("README.md", "text"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    loaded = load(folder)
    assert [text for text, _ in texts(loaded)] == ["1", "2"]
    assert any("test-00000-of-00001.jsonl" in note for note in loaded.notes)
    info = {"held": {"file_name": "my data", "split": "test"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info), "utf-8")
    assert [text for text, _ in texts(load_dataset(["held"], tmp_path))] == ["3"]
    (tmp_path / "dataset_info.json").write_text(
        json.dumps({"held": {**info["held"], "split": "x"}})
    )
    (problem,) = collect(["held"], tmp_path, Reading()).problems
    assert (problem.code, problem.values["known"]) == ("split-missing", "test, train")


def test_one_row_of_each_format_in_one_file_is_said(tmp_path: Path) -> None:
    talk = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps([SECOND, talk, SECOND]), "utf-8")
    assert load(path).notes[0].startswith(f"{path}: 3 conversations (2 alpaca, 1 messages) from ")


def test_max_samples_stops_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps(SECOND)] * 3) + "\nbroken\n", "utf-8")
    assert len(load(path, max_samples=2).conversations) == 2
    assert "max_samples keeps the first 2" in load(path, max_samples=2).notes[1]
    path.write_text("\n".join([json.dumps(SECOND)] * 2), "utf-8")
    assert len(load(path, max_samples=2).notes) == 1


def test_a_misspelt_field_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**SECOND, "sytem": "S", "id": 3}), "utf-8")
    loaded = load(path)
    (warning,) = loaded.warnings
    assert (warning.code, warning.key, warning.values) == (
        "field-near",
        "sytem",
        {"near": "system"},
    )
    assert loaded.remarks[0].endswith("fields that are not used: id")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(_JSON, min_size=1, max_size=4), indent=st.sampled_from([None, 1]))
def test_a_json_list_is_read_as_json_reads_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    text = json.dumps(rows, indent=indent, ensure_ascii=False)
    path.write_text(text, "utf-8", errors="surrogatepass", newline="")
    placed = list(read_rows(path))
    assert [one.row for one in placed] == json.loads(text)
    assert not any(isinstance(one.row, Broken) for one in placed)


@pytest.mark.slow
def test_a_large_file_costs_little_more_memory_than_its_conversations(tmp_path: Path) -> None:
    """100,000 rows: below three times the file beyond what Python itself takes."""
    row = {"instruction": "请介绍一下你们的产品和价格。" * 5, "output": "我们的产品是…" * 40}
    path = tmp_path / "large.jsonl"
    line = json.dumps(row, ensure_ascii=False)
    path.write_text("".join(f'{line[:-2]} {i}"}}\n' for i in range(100_000)), "utf-8")
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from ft2ollama.data.load import load_dataset\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        "loaded = load_dataset([sys.argv[1]], Path('.'))\n"
        "print(len(loaded.conversations), peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    rows, more = map(int, done.stdout.split())
    assert rows == 100_000
    assert more < 3 * path.stat().st_size, f"{more / path.stat().st_size:.1f} times the file"


def test_a_conversation_keeps_no_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**SECOND, "blob": "x" * 1000}), "utf-8")
    assert isinstance(load(path).conversations[0], Conversation)
    assert "blob" not in str(load(path).conversations[0])
