"""Held-out rows and proof questions that stand in the training data too.

In: training rows, held-out rows (validation split, eval_dataset), the questions of proof_prompts.
Out: a problem for each held-out row or question that was trained on, exactly or nearly. A loss or a
proof measured on such rows shows memory, not learning.
"""

from __future__ import annotations

from collections.abc import Sequence

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.duplicates import Sides, near_pairs, normal, same_question, sides
from ft2ollama.data.problems import Problem
from ft2ollama.data.questions import Question

_QUESTION = 0.8  # smallest similarity: a question alone is short, and many share their words


def held_out_leaks(
    train: Sequence[Conversation], held_out: Sequence[Conversation]
) -> list[Problem]:
    """Rows of `held_out` that are trained on: the whole row, nearly the whole, or its question."""
    if not train or not held_out:
        return []
    rows = [*train, *held_out]
    said = [sides(row) for row in rows]
    near = {pair.second: pair for pair in near_pairs(len(rows), said.__getitem__, left=len(train))}
    places: dict[str, str] = {}
    for row, both in zip(train, said, strict=False):
        places.setdefault(same_question(row, both)[0], row.place)
    problems = []
    for number, row in enumerate(held_out, len(train)):
        question = same_question(row, said[number])[0]
        if pair := near.get(number):
            first = rows[pair.first].place
            exact = pair.similarity == 1
            values = {"first": first} if exact else {"first": first, "percent": pair.percent}
            code = "leak-copy" if exact else "leak-near"
            problems.append(Problem(code, row.place, "", values, "warning"))
        elif question in places:
            values = {"first": places[question]}
            problems.append(Problem("leak-question", row.place, "", values, "warning"))
    return problems


def proof_leaks(train: Sequence[Conversation], questions: Sequence[Question]) -> list[Problem]:
    """Questions of proof_prompts that the training data asks too."""
    asked = [
        (row.place, text)
        for row in train
        for message in row.messages
        if message["role"] == "user" and (text := normal(message["content"]))
    ]
    texts = [*(text for _, text in asked), *(normal(one.text) for one in questions)]
    pairs = near_pairs(
        len(texts), lambda row: Sides(texts[row], ""), left=len(asked), smallest=_QUESTION
    )
    return [
        Problem(
            "leak-proof",
            questions[pair.second - len(asked)].place,
            "question",
            {"first": asked[pair.first][0], "percent": pair.percent},
            "warning",
        )
        for pair in pairs
    ]
