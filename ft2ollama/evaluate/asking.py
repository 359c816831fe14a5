"""Questions with expected facts, asked through Ollama: how many answers hold them.

A reply is right when it holds every string of `expect`, case ignored; `a|b` means either. Facts are
looked for as substrings, so a reply may say them in its own words; only a number has to stand
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ft2ollama.data.questions import Question
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.scores import contains_facts

if TYPE_CHECKING:
    from ft2ollama.proof import Tick


@dataclass(frozen=True)
class Answer:
    """The model's reply to a question and whether the facts are in it."""

    question: Question
    text: str
    right: bool


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
        answers.append(Answer(question, text, contains_facts(text, question.expect)))
        if tick:
            tick(number, len(questions))
    return answers


def count_right(answers: Sequence[Answer]) -> int:
    """How many answers hold their facts."""
    return sum(answer.right for answer in answers)
