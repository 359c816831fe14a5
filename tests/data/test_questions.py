"""The one reader of question files: every bad line at once, with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ft2ollama.data.questions import Question, load_questions, read_questions
from ft2ollama.errors import DataError

LINES = [
    '{"question": "你是谁？", "expect": ["小杉", "云杉|Yunshan"], "fact": "identity"}',
    "",
    '{"question": "Why?"}',
    "not json",
    '["question"]',
    '{"question": "  "}',
    '{"question": 3, "expect": ["3"]}',
    '{"question": "Who?", "expect": "Nova"}',
    '{"question": "Who?", "expect": []}',
    '{"question": "Who?", "expect": ["Nova|"]}',
    '{"question": "How\u2028many?", "expect": ["199"]}\r',
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(LINES).encode())
    return path


def test_good_lines_and_the_places_of_bad_ones(path: Path) -> None:
    found, problems = read_questions(path)
    assert found == [
        Question("你是谁？", ("小杉", "云杉|Yunshan"), f"{path}:1"),
        Question("Why?", (), f"{path}:3"),
        Question("How\u2028many?", ("199",), f"{path}:11"),
    ]
    places = [(problem.code, int(problem.place.rpartition(":")[2])) for problem in problems]
    assert places == [("question-line", n) for n in (4, 5, 6, 7)] + [
        ("question-facts", n) for n in (8, 9, 10)
    ]


def test_facts_are_needed_where_answers_are_scored(path: Path) -> None:
    found, problems = read_questions(path, facts=True)
    assert [question.place.rpartition(":")[2] for question in found] == ["1", "11"]
    assert problems[0].place == f"{path}:3"
    assert problems[0].code == "question-facts"


@pytest.mark.parametrize(("language", "word"), [("en", "7 problems"), ("zh", "7 处错误")])
def test_one_error_tells_all(
    path: Path, monkeypatch: pytest.MonkeyPatch, language: str, word: str
) -> None:
    monkeypatch.setenv("FT2OLLAMA_LANG", language)
    with pytest.raises(DataError) as error:
        load_questions(path)
    assert word in error.value.what
    assert all(f"{path}:{n}" in error.value.why for n in range(4, 11))
    assert '{"question": ' in error.value.why


def test_one_problem_names_its_fix(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "Who?", "expect": "Nova"}')
    with pytest.raises(DataError) as error:
        load_questions(path)
    assert f'{path}:1: expect: no list of texts that a right answer holds: "Nova"' in str(
        error.value
    )
    assert error.value.fix.startswith('write a line such as {"question": "Who are you?", "expect"')
    with pytest.raises(DataError, match="no such file"):
        load_questions(tmp_path / "none.jsonl")
    assert load_questions(None) == []


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "gbk.jsonl"
    line = json.dumps({"question": "这个聊天机器人出自哪家企业？"}, ensure_ascii=False)
    path.write_bytes(line.encode("gb18030"))
    with pytest.raises(DataError, match="iconv -f GB18030"):
        load_questions(path)
    path.write_text(line, "utf-16")
    assert [question.text for question in load_questions(path)] == ["这个聊天机器人出自哪家企业？"]


def test_training_reads_them_before_it_starts(plan: object, path: Path) -> None:
    with pytest.raises(DataError, match="7 problems"):
        plan(proof_prompts=path)  # type: ignore[operator]
