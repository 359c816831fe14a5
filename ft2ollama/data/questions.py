"""Question files: a JSON object a line, {"question": ...}, with {"expect": [...]} for scored ones.

In: a path.  Out: `Question`s and the problems of all lines. Every reader of such files is this one:
the doctor, the trainer's reference replies, the demo and `eval`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama.data.catalogue import line, lines, sentence
from ft2ollama.data.encodings import encoding_of, not_readable
from ft2ollama.data.problems import BadFile, BadRow, Problem
from ft2ollama.errors import DataError
from ft2ollama.language import choose_language


@dataclass(frozen=True)
class Question:
    """A question and the strings that a right answer holds.  place: file:line."""

    text: str
    expect: tuple[str, ...] = ()
    place: str = ""


def read_questions(
    path: Path | None, *, facts: bool = False
) -> tuple[list[Question], list[Problem]]:
    """Every question of a file, and what is wrong with the other lines.

    facts: each question needs the facts it expects. None is a file without questions.
    """
    if path is None:
        return [], []
    found, problems = [], []
    try:
        for place, text in _lines(path):
            try:
                found.append(_question(text, place, facts=facts))
            except BadRow as bad:
                problems.append(bad.at(place))
    except BadFile as bad:
        return [], [bad.problem]
    return found, problems


def load_questions(path: Path | None, *, facts: bool = False) -> list[Question]:
    """Every question; raises DataError that lists all bad lines as file:line."""
    found, problems = read_questions(path, facts=facts)
    if not problems:
        return found
    language = choose_language()
    chinese = language == "zh"
    if len(problems) == 1:
        what = "问题文件有错误" if chinese else "a file of questions has a problem"
        why, fix = line(problems[0], language, with_fix=False), sentence(problems[0], language)[1]
    else:
        count = len(problems)
        what = (
            f"问题文件有 {count} 处错误" if chinese else f"{count} problems in a file of questions"
        )
        why = "\n".join(lines(problems, language))
        fix = "按上面的提示修改" if chinese else "mend what is named above"
    raise DataError(what, why, fix)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(file:line, text) of every line that is not blank; BadFile for one that cannot be read."""
    if not path.is_file():
        raise BadFile("question-file", str(path))
    try:
        content = path.read_text(encoding_of(path))
    except UnicodeDecodeError:
        raise not_readable(path) from None
    for number, text in enumerate(content.split("\n"), 1):
        if text.strip():
            yield f"{path}:{number}", text


def _question(text: str, place: str, *, facts: bool) -> Question:
    try:
        row: Any = json.loads(text)
    except ValueError:
        raise BadRow("question-line", text=text.strip()[:40]) from None
    asked = row.get("question") if isinstance(row, dict) else None
    if not isinstance(asked, str) or not asked.strip():
        raise BadRow("question-line", text=text.strip()[:40])
    expect = row.get("expect")
    if expect is None and not facts:
        return Question(asked, (), place)
    if not isinstance(expect, list) or not expect or not all(map(_is_fact, expect)):
        raise BadRow("question-facts", "expect", text=json.dumps(expect, ensure_ascii=False)[:40])
    return Question(asked, tuple(expect), place)


def _is_fact(item: object) -> bool:
    """A text of which no alternative is empty: an empty one would be in every answer."""
    return isinstance(item, str) and all(part.strip() for part in item.split("|"))
