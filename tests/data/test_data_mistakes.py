"""Planted mistakes in data: each is found at its place, with a fix, in both languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.data.catalogue import line, sentence
from ft2ollama.data.load import Loaded, Reading, collect, load_dataset
from ft2ollama.data.problems import Problem
from ft2ollama.errors import DataError

GOOD = {"instruction": "Q", "output": "A"}
USER, ANSWER = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
CALL = {"id": "c1", "type": "function", "function": {"name": "w", "arguments": '{"city": "SZ"}'}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "31 C"}


def said(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(turns), **more}


def human(value: Any) -> dict[str, Any]:
    return {"from": "human", "value": value}


def call_of(arguments: Any) -> dict[str, Any]:
    return {**CALLS, "tool_calls": [{"function": {"name": "w", "arguments": arguments}}]}


# One row of a .jsonl file, in its second line: the row, the code, the key.
ROWS: dict[str, tuple[Any, str, str]] = {
    "a text instead of a row": ("Hi", "row-not-object", ""),
    "a number instead of a row": (7, "row-not-object", ""),
    "unknown fields": ({"title": "x", "body": "y"}, "row-no-format", ""),
    "a misspelt field": ({"conversatons": [human("Q")]}, "row-format-near", ""),
    "one turn as a row": (USER, "row-is-turn", ""),
    "no output": ({"instruction": "Q", "ouput": "A"}, "field-missing", "output"),
    "output null": ({"instruction": "Q", "output": None}, "text-wanted", "output"),
    "output a number": ({"instruction": "Q", "output": 42}, "text-wanted", "output"),
    "output empty": ({"instruction": "Q", "output": ""}, "text-empty", "output"),
    "output blank": ({"instruction": "Q", "output": " \n"}, "answer-empty", "turns[2]"),
    "instruction empty": ({"instruction": "", "output": "A"}, "text-empty", "instruction"),
    "input an object": ({**GOOD, "input": {"a": 1}}, "text-wanted", "input"),
    "system a list": ({**GOOD, "system": ["S"]}, "text-wanted", "system"),
    "history not in pairs": ({**GOOD, "history": [["q"]]}, "history-pair", "history[1]"),
    "history of numbers": ({**GOOD, "history": [["q", "a"], [1, 2]]}, "history-pair", "history[2]"),
    "history a text": ({**GOOD, "history": "q: a"}, "history-list", "history"),
    "turns a text": ({"conversations": "Hi"}, "turns-wanted", "conversations"),
    "no turns": (said(), "turns-wanted", "messages"),
    "a turn is a text": (said("Hi", ANSWER), "turn-keys", "messages[1]"),
    "a turn without its text": (said({"role": "user"}, ANSWER), "turn-keys", "messages[1]"),
    "an unknown role": (said({"role": "assitant", "content": "A"}), "role-unknown", "messages[1].role"),
    "a role that is a number": (said({"role": 1, "content": "A"}), "role-unknown", "messages[1].role"),
    "content a number": (said(USER, {"role": "assistant", "content": 3}), "text-wanted", "messages[2].content"),
    "content null": (said(USER, {"role": "assistant", "content": None}), "text-wanted", "messages[2].content"),
    "two users in a row": (said(USER, USER, ANSWER), "role-order", "turns[2]"),
    "two answers in a row": (said(USER, ANSWER, ANSWER), "role-order", "turns[3]"),
    "an answer first": (said(ANSWER), "role-first", "turns[1]"),
    "a question last": (said(USER, ANSWER, USER), "answer-missing", "turns[3]"),
    "only a question": ({"conversations": [human("Q")]}, "answer-missing", "turns[1]"),
    "a system turn in the middle": (said(USER, ANSWER, {"role": "system", "content": "S"}), "system-not-first", "turns[3]"),
    "two system prompts": (said({"role": "system", "content": "S"}, USER, ANSWER, system="T"), "system-twice", ""),
    "an empty question": (said({"role": "user", "content": " "}, ANSWER), "question-empty", "turns[1]"),
    "an image": (said({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ANSWER), "content-part", "messages[1].content[1]"),
    "a weight of 0.5": (said(USER, {**ANSWER, "weight": 0.5}), "weight-wrong", "messages[2].weight"),
    "all weights 0": (said(USER, {**ANSWER, "weight": 0}), "all-unlearned", ""),
    "tools that are no JSON": (said(USER, ANSWER, tools="[{'name': 'w'}]"), "tools-json", "tools"),
    "tools an object": (said(USER, ANSWER, tools={"name": "w"}), "tools-list", "tools"),
    "a tool without a name": (said(USER, ANSWER, tools=[{"description": "x"}]), "tool-name", "tools[1]"),
    "parameters a text": (said(USER, ANSWER, tools=[{"name": "w", "parameters": "x"}]), "tool-parameters", "tools[1].parameters"),
    "tool_calls a text": (said(USER, {**CALLS, "tool_calls": "w"}), "calls-list", "messages[2].tool_calls"),
    "a call without a name": (said(USER, {**CALLS, "tool_calls": [{"id": "c1"}]}), "call-name", "messages[2].tool_calls[1]"),
    "arguments no JSON": (said(USER, call_of("{city: SZ}")), "arguments-json", "messages[2].tool_calls[1].arguments"),
    "arguments a list": (said(USER, call_of("[1]")), "arguments-object", "messages[2].tool_calls[1].arguments"),
    "function_call no JSON": ({"conversations": [human("Q"), {"from": "function_call", "value": "w(SZ)"}]}, "call-json", "conversations[2].value"),
    "a call nobody answers": (said(USER, CALLS, USER, ANSWER), "call-unanswered", "turns[3]"),
    "a result without a call": (said(USER, RESULT, ANSWER), "tool-without-call", "turns[2]"),
    "more results than calls": (said(USER, CALLS, RESULT, RESULT, ANSWER), "results-many", "turns[3]"),
    "a result with a foreign id": (said(USER, CALLS, {**RESULT, "tool_call_id": "c9"}, ANSWER), "result-id", "turns[3].tool_call_id"),
    "half a character": ({"instruction": "\ud83d", "output": "A"}, "half-character", "turns[1]"),
}  # fmt: skip

# Rows that are used, with a warning.
WARNED: dict[str, tuple[Any, str, str]] = {
    "arguments encoded twice": (said(USER, call_of(json.dumps('{"city": "SZ"}'))), "arguments-twice", "messages[2].tool_calls[1].arguments"),
    "a tool that is not offered": (said(USER, CALLS, tools=[{"name": "weather"}]), "call-unknown", "turns[2]"),
    "an empty system turn": (said({"role": "system", "content": ""}, USER, ANSWER), "system-empty", "messages[1].content"),
    "a misspelt key of a turn": (said(USER, {**ANSWER, "tool_cals": [CALL]}), "turn-key-near", "messages[2].tool_cals"),
}  # fmt: skip

# The text of a file: its name, the text, the code, where.
FILES: dict[str, tuple[str, str | bytes, str, str]] = {
    "a comma too many": ("a.jsonl", '{"instruction": "Q",}\n', "json-broken", ":1:"),
    "a quote inside a text": ("a.jsonl", json.dumps(GOOD) + '\n{"instruction": "a "b" c"}', "json-broken", ":2:21"),
    "a line cut short": ("a.jsonl", json.dumps(GOOD) + '\n{"instruction": "Q", "outp', "json-broken", ":2:22"),
    "single quotes": ("a.jsonl", "{'instruction': 'Q'}", "json-broken", ":1:2"),
    "a list without its end": ("a.json", '[{"instruction": "Q", "output": "A"},\n', "json-broken", ":2:1"),
    "no comma between rows": ("a.json", '[\n {"instruction": "Q", "output": "A"}\n {}]', "json-broken", ":3:2"),
    "a comma after the last row": ("a.json", '[{"instruction": "Q", "output": "A"},\n]', "json-broken", ":1:37"),
    "text after the list": ("a.json", "[\n]\n[]", "json-broken", ":3:1"),
    "one object": ("a.json", '{"data": [1], "version": 2}', "json-not-list", ""),
    "nothing in it": ("a.jsonl", "\n\n", "file-empty", ""),
    "an empty list": ("a.json", "[]", "file-empty", ""),
    "a key given twice": ("a.jsonl", '{"instruction": "Q", "output": "A", "output": "B"}', "key-twice", ":1"),
    "a number with 5000 digits": ("a.jsonl", '{"n": ' + "9" * 5000 + "}", "json-number", ":1"),
    "nested too deeply": ("a.jsonl", "[" * 100_000 + "]" * 100_000, "json-deep", ":1"),
    "GB18030": ("a.jsonl", '{"instruction": "你好"}'.encode("gb18030"), "file-gb18030", ":1"),
    "UTF-16 without a mark": ("a.jsonl", '{"instruction": "Q"}'.encode("utf-16-le"), "file-utf16", ":1"),
    "Windows-1252": ("a.jsonl", json.dumps(GOOD).encode() + b'\n{"a": "caf\xe9"}', "file-not-utf8", ":2"),
    "a spreadsheet": ("a.xlsx", b"PK", "file-kind", ""),
    "CSV with a cell too many": ("a.csv", "instruction,output\nQ,A\nQ, with comma,A\n", "csv-cells", ":3"),
    "CSV without a name": ("a.csv", "instruction,\nQ,A\n", "csv-names", ":1"),
    "CSV with an open quote": ("a.csv", 'instruction,output\nQ,"A\n', "csv-broken", ":2"),
    "no Parquet": ("a.parquet", b"PAR0", "columnar-broken", ""),
    "no Arrow": ("a.arrow", b"ARR", "columnar-broken", ""),
}  # fmt: skip


def check(problem: Problem, code: str, place: str, key: str) -> None:
    assert problem.code == code
    assert problem.place.startswith(place)
    assert problem.key == key
    for language in ("en", "zh"):
        what, fix = sentence(problem, language)
        assert what
        assert fix, f"{code} has no fix"
        assert line(problem, language).startswith(place)
        line(problem, language).encode()


def read(tmp_path: Path, row: Any) -> Loaded:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(row)}\n", "utf-8")
    return collect([str(path)], tmp_path, Reading())


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row(name: str, tmp_path: Path) -> None:
    row, code, key = ROWS[name]
    loaded = read(tmp_path, row)
    assert len(loaded.conversations) == 1
    (problem,) = loaded.problems
    check(problem, code, f"{tmp_path / 'a.jsonl'}:2", key)
    with pytest.raises(DataError, match="1 problem"):
        load_dataset([str(tmp_path / "a.jsonl")], tmp_path)


@pytest.mark.parametrize("name", WARNED)
def test_a_doubtful_row(name: str, tmp_path: Path) -> None:
    row, code, key = WARNED[name]
    loaded = read(tmp_path, row)
    assert len(loaded.conversations) == 2
    assert not loaded.problems
    (problem,) = loaded.warnings
    check(problem, code, f"{tmp_path / 'a.jsonl'}:2", key)
    assert problem.severity == "warning"
    assert any(line(problem, "en") in remark for remark in loaded.remarks)


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file(name: str, tmp_path: Path) -> None:
    file, text, code, where = FILES[name]
    path = tmp_path / file
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    loaded = collect([str(path)], tmp_path, Reading())
    assert [problem.code for problem in loaded.problems] == [code]
    problem = loaded.problems[0]
    check(problem, code, f"{path}{where}", "output" if name == "a key given twice" else "")
    with pytest.raises(DataError):
        load_dataset([str(path)], tmp_path)


def test_there_are_many_of_them() -> None:
    assert len(ROWS) + len(WARNED) + len(FILES) > 70
