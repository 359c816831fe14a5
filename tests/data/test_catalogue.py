"""Every code that the code raises can be told in both languages, with the same values."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import ft2ollama
from ft2ollama.data.catalogue import TEXTS, data_error, line, lines, sentence
from ft2ollama.data.problems import BadRow, Problem
from ft2ollama.data.texts_checks import TEXTS as CHECKS
from ft2ollama.data.texts_render import TEXTS as RENDER
from ft2ollama.data.texts_rows import TEXTS as ROWS

ROOT = Path(ft2ollama.__file__).parent


def placeholders(texts: tuple[str, str]) -> set[str]:
    return {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}


def raised() -> dict[str, str]:
    """code -> where `BadRow("code", ...)` or `Problem("code", ...)` stands."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            first = node.args[0]
            if node.func.id in ("BadRow", "Problem", "Warned") and isinstance(first, ast.Constant):
                found[str(first.value)] = f"{path.name}:{node.lineno}"
    return {code: place for code, place in found.items() if re.fullmatch(r"[a-z0-9-]+", code)}


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_both_languages_name_the_same_values(code: str) -> None:
    assert set(TEXTS[code]) == {"en", "zh"}
    assert placeholders(TEXTS[code]["en"]) == placeholders(TEXTS[code]["zh"])
    assert all(TEXTS[code]["en"]), "a problem without a fix helps nobody"
    assert all(TEXTS[code]["zh"])
    assert re.search("[\u4e00-\u9fff]", TEXTS[code]["zh"][0]), "not Chinese"


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    codes = raised()
    assert len(codes) > 10
    assert {code: place for code, place in codes.items() if code not in TEXTS} == {}


def test_no_code_is_told_twice() -> None:
    assert len(TEXTS) == len(ROWS) + len(RENDER) + len(CHECKS)


def test_a_problem_in_words() -> None:
    problem = BadRow("text-wanted", "output", value="{3}").at("a.jsonl:7")
    assert problem == Problem("text-wanted", "a.jsonl:7", "output", {"value": "{3}"})
    what, fix = sentence(problem, "en")
    assert what == "must be text, not {3}"
    assert line(problem, "en") == f"a.jsonl:7: output: {what}; {fix}"
    assert line(problem, "zh").startswith("a.jsonl:7: output: 必须是文本，不能是 {3}；")


def test_many_problems_of_one_kind_do_not_hide_another() -> None:
    many = [Problem("text-empty", f"a:{number}", "output") for number in range(100)]
    told = lines([*many, Problem("file-empty", "b")], "en")
    assert len(told) == 7
    assert told[0] == "a:0: output: is empty; fill it in, or remove the row"
    assert told[1] == "a:1: output: is empty"
    assert told[5].startswith("b: holds no rows; ")
    assert told[6] == "... and 95 more like the one at a:0"


def test_the_error_is_told_in_the_users_language(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [Problem("file-empty", "a.json"), Problem("file-empty", "b.json")]
    monkeypatch.setenv("FT2OLLAMA_LANG", "en")
    assert data_error(problems).what == "2 problems in the training data"
    monkeypatch.setenv("FT2OLLAMA_LANG", "zh")
    assert data_error(problems).what == "训练数据有 2 个问题"
    assert data_error(problems).why.splitlines()[1].startswith("b.json: 里面没有数据")
