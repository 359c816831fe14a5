"""Questions with expected facts, asked through Ollama: how many answers hold them.

A question file has a line per question, {"question": ..., "expect": [...]}. A reply is right when
it holds every string of `expect`, case ignored; `a|b` means either. Facts are looked for as
substrings, so a reply may say them in its own words; only a number has to stand alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ft2ollama.errors import DataError
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.proof import Tick


@dataclass(frozen=True)
class Question:
    """A question and the strings that a right answer holds."""

    text: str
    expect: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The model's reply to a question and whether the facts are in it."""

    question: Question
    text: str
    right: bool


def read_questions(path: Path) -> list[Question]:
    """Read a question file; raises DataError with file:line."""
    questions = []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            questions.append(Question(row["question"], tuple(row["expect"])))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: is not a question with expected facts",
                f"{type(error).__name__}: {error}",
                'write a line such as {"question": "Who are you?", "expect": ["Nova"]}',
            ) from error
    return questions


def holds_facts(text: str, expect: Sequence[str]) -> bool:
    """Does `text` hold every expected string (`a|b`: one of them)?

    A number has to stand alone: 4 is not in "3.477" nor in "40".
    """
    low = text.lower()
    return all(any(_holds(low, word.lower()) for word in item.split("|")) for item in expect)


def _holds(text: str, word: str) -> bool:
    before = r"(?<!\d)(?<!\d[.,])" if word[:1].isdigit() else ""
    after = r"(?!\d|,\d{3})" if word[-1:].isdigit() else ""
    return re.search(before + re.escape(word) + after, text) is not None


def ask(
    server: Ollama,
    model: str,
    questions: Sequence[Question],
    *,
    tick: Tick | None = None,
    tokens: int = 32,
) -> list[Answer]:
    """Ask every question greedily, each in a conversation of its own."""
    options = {**quiet_options(server.is_local), "num_predict": tokens}
    answers = []
    for number, question in enumerate(questions, 1):
        messages = [{"role": "user", "content": question.text}]
        text = server.chat(model, messages, options=options).text.strip()
        answers.append(Answer(question, text, holds_facts(text, question.expect)))
        if tick:
            tick(number, len(questions))
    return answers


def count_right(answers: Sequence[Answer]) -> int:
    """How many answers hold their facts."""
    return sum(answer.right for answer in answers)
