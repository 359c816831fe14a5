"""How good a model's replies are: the same questions to the base, the trained and the served model.

    asking.py    questions with expected facts, put to a model in Ollama (demo)
    gather.py    where rows and questions come from: a run, or files
    material.py  what is asked of every model, chosen and rendered
    columns.py   one model's replies and their scores
    speakers.py  who replies: the run in transformers, or a model in Ollama
    report.py    the whole comparison as JSON

The scores themselves are pure functions in `ft2ollama/scores.py`.
"""

from __future__ import annotations

from ft2ollama.data.questions import Question
from ft2ollama.evaluate.asking import Answer, ask, count_right

__all__ = ["Answer", "Question", "ask", "count_right"]
