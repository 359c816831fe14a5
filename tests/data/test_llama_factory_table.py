"""What LLaMA-Factory does with bad input, and what happens here instead.

One test for each line of that list which is about reading; the docstrings say what LLaMA-Factory
does (its version of August 2026, run). Special tokens inside a text and rows longer than cutoff_len
are found when rows are rendered.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.data.load import Loaded, Reading, collect, load_dataset
from ft2ollama.errors import DataError

TURNS = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_LANG", "en")


def read(tmp_path: Path, rows: list[Any], entry: dict[str, Any] | None = None) -> Loaded:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    info = {"mine": {"file_name": "rows.jsonl", **(entry or {})}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info), "utf-8")
    return collect(["mine"], tmp_path, Reading())


def refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(["mine"], tmp_path)
    assert f"{tmp_path}/rows.jsonl{text}" in caught.value.why


def test_columns_that_list_only_prompt(tmp_path: Path) -> None:
    """RuntimeError: Cannot find valid samples, because the names left out are forgotten."""
    rows = [{"frage": "Q", "input": "more", "output": "A"}]
    loaded = read(tmp_path, rows, {"columns": {"prompt": "frage"}})
    assert [m["content"] for m in loaded.conversations[0].messages] == ["Q\nmore", "A"]


def test_an_output_that_is_a_number(tmp_path: Path) -> None:
    """RuntimeError, no row named."""
    read(tmp_path, [{"instruction": "Q", "output": 42}])
    refused(tmp_path, ":1: output: must be text, not 42")


def test_an_output_that_is_null(tmp_path: Path) -> None:
    """The row is dropped with a warning."""
    read(tmp_path, [{"instruction": "Q", "output": None}])
    refused(tmp_path, ":1: output: must be text, not null")


def test_two_human_turns_in_a_row(tmp_path: Path) -> None:
    """The conversation is dropped, a warning prints the row, nothing is counted."""
    read(tmp_path, [{"conversations": TURNS}, {"conversations": [TURNS[0], *TURNS]}])
    refused(tmp_path, ":2: turns[2]: user follows user")


def test_a_broken_second_line(tmp_path: Path) -> None:
    """DatasetGenerationError: An error occurred while generating the dataset."""
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Q", "output": "A"}\n{"instr', "utf-8")
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows.jsonl"}}', "utf-8")
    refused(tmp_path, ":2:2: broken JSON: Unterminated string starting at")


def test_an_input_column_of_texts_and_objects(tmp_path: Path) -> None:
    """TypeError: sequence item 1: expected str instance, dict found."""
    rows = [{"instruction": "Q", "input": value, "output": "A"} for value in ("x", {"a": 1})]
    assert len(read(tmp_path, rows).conversations) == 1
    refused(tmp_path, ":2: input: must be text, not a mapping")


def test_empty_rows(tmp_path: Path) -> None:
    """Accepted; the model learns to answer nothing."""
    loaded = read(tmp_path, [{"instruction": "", "input": "", "output": ""}] * 3)
    assert [one.code for one in loaded.problems] == ["text-empty"] * 3


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_openai_rows_without_tools(tmp_path: Path, system: str | None) -> None:
    """The system prompt becomes, or ends in, "detailed thinking off"."""
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    loaded = read(tmp_path, [{"messages": messages}], {"formatting": "openai"})
    assert list(loaded.conversations[0].messages) == messages


def test_openai_calls(tmp_path: Path) -> None:
    """The arguments are trained as JSON text inside JSON."""
    call = {"type": "function", "function": {"name": "w", "arguments": '{"city": "SZ"}'}}
    messages = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    entry = {"formatting": "openai", "columns": {"messages": "messages", "tools": "tools"}}
    loaded = read(tmp_path, [{"messages": messages, "tools": [{"name": "w"}]}], entry)
    made = loaded.conversations[0].messages[1]["tool_calls"][0]
    assert made["function"]["arguments"] == {"city": "SZ"}


def test_several_results_stay_several_messages(tmp_path: Path) -> None:
    """They are joined by one model's own words, whatever the template."""
    calls = [{"name": "w", "arguments": {}}, {"name": "v", "arguments": {}}]
    turns = [
        TURNS[0],
        {"from": "function_call", "value": json.dumps(calls)},
        {"from": "observation", "value": "1"},
        {"from": "observation", "value": "2"},
        TURNS[1],
    ]
    loaded = read(tmp_path, [{"conversations": turns}], {"formatting": "sharegpt"})
    results = [m for m in loaded.conversations[0].messages if m["role"] == "tool"]
    assert [(m["name"], m["content"]) for m in results] == [("w", "1"), ("v", "2")]
