"""One conversation -> what is wrong with its texts, its answers and its tool calls.

All of it are warnings: the row can be trained on, but should be looked at. What makes a row
impossible is found when it is read (`formats.py`) or rendered (`render.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ft2ollama.data.answer_checks import check_answer
from ft2ollama.data.character_checks import Finding, check_characters
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.problems import Problem
from ft2ollama.data.tool_checks import check_tools

# Control tokens of the families that people copy prompts from: ChatML, Llama 3, Phi, Gemma,
# Llama 2, DeepSeek; </s> and <s> are HTML too, and count only where they end or begin a text.
_LIKE_CONTROL = re.compile(
    r"<\|[A-Za-z][\w-]{1,30}\|>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<｜[^｜<>]{1,30}｜>"
    r"|</s>\s*\Z|\A<s>|\A<bos>|<eos>\s*\Z"
)


def control_tokens(special: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern of a model's control tokens, for `check_row`."""
    words = sorted((token for token in special if len(token) > 2), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words))) if words else None


def check_row(row: Conversation, control: re.Pattern[str] | None = None) -> Iterator[Problem]:
    """Every warning on one row. control: the model's own control tokens, where it is known."""
    asked = ""
    for number, message in enumerate(row.messages, 1):
        text, thought = message["content"] or "", message.get("reasoning_content", "")
        for finding in _check_text(f"{thought}\n{text}" if thought else text, control):
            yield _problem(row, number, finding)
        if message["role"] == "assistant" and text:
            for finding in check_answer(asked, text):
                yield _problem(row, number, finding)
        elif message["role"] == "user":
            asked = text
    for index, finding in check_tools(row):
        yield _problem(row, index + 1, finding)


def _check_text(text: str, control: re.Pattern[str] | None) -> Iterator[Finding]:
    yield from check_characters(text)
    if control and (found := control.search(text)):
        yield "control-token", {"token": found[0]}
    elif found := _LIKE_CONTROL.search(text):
        yield "control-token-like", {"token": found[0].strip()}


def _problem(row: Conversation, number: int, finding: Finding) -> Problem:
    code, values = finding
    return Problem(code, row.place, f"turn {number}", values, "warning")
