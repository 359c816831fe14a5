"""One conversation -> what is wrong with its texts, its answers and its tool calls.

All of it are warnings: the row can be trained on, but should be looked at. What makes a row
impossible is found when it is read (`formats.py`) or rendered (`render.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from ft2ollama.data.answer_checks import check_answer
from ft2ollama.data.character_checks import Finding, check_characters
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.problems import Problem
from ft2ollama.data.tool_checks import check_tools

# Control tokens of the families that people copy prompts from: ChatML, Llama 3, Phi, Gemma,
# Llama 2, DeepSeek; </s> and <s> are HTML too, and count only where they end or begin a text.
LIKE_CONTROL = re.compile(
    r"<\|[A-Za-z][\w-]{1,30}\|>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<｜[^｜<>]{1,30}｜>"
    r"|</s>\s*\Z|\A<s>|\A<bos>|<eos>\s*\Z"
)


def check_row(row: Conversation, control: Collection[str] = ()) -> Iterator[Problem]:
    """Every warning on one row. control: tokens that the renderer reports itself."""
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


def _check_text(text: str, control: Collection[str]) -> Iterator[Finding]:
    yield from check_characters(text)
    found = LIKE_CONTROL.search(text)
    if found and found[0].strip() not in control:
        yield "control-token-like", {"token": found[0].strip()}


def _problem(row: Conversation, number: int, finding: Finding) -> Problem:
    code, values = finding
    return Problem(code, row.place, f"turns[{number}]", values, "warning")
