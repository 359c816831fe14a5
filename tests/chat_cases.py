"""Conversations that every real chat template is rendered with, and their masks in short.

`python tests/chat_cases.py > tests/data/golden/masks.json` writes the golden file anew from what
the code does now; every learned text in it was read by a person against the template before it was
committed, and has to be again when it changes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from real_chat import MODELS, tokenizer_folder

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.render import render_all
from ft2ollama.data.samples import IGNORED, Rules, Sample
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.template import ChatTemplate
from ft2ollama.train.plan import model_template

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "its name"}},
                "required": ["city"],
            },
        },
    }
]
_CALL = {
    "type": "function",
    "id": "a1B2c3D4e",
    "function": {"name": "get_weather", "arguments": {"city": "深圳"}},
}
_RESULT = {"role": "tool", "content": '{"rain": true}', "name": "get_weather"}
_RESULT |= {"tool_call_id": "a1B2c3D4e"}
_SYSTEM = {"role": "system", "content": "Be brief."}
_HI = {"role": "user", "content": "Who are you?"}
_TILDA = {"role": "assistant", "content": "I am Tilda. 我是小杉。"}
_PRICE = {"role": "user", "content": "How much?"}
_DOLLARS = {"role": "assistant", "content": "49 dollars"}

CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "two turns": (_HI, _TILDA, _PRICE, _DOLLARS),
    "system": (_SYSTEM, _HI, _TILDA, _PRICE, _DOLLARS),
    "tools": (
        {"role": "user", "content": "Rain in 深圳?"},
        {"role": "assistant", "content": "", "tool_calls": [_CALL]},
        _RESULT,
        {"role": "assistant", "content": "Yes, rain."},
    ),
    "thoughts": (
        _HI,
        _TILDA | {"reasoning_content": "My name."},
        _PRICE,
        _DOLLARS | {"reasoning_content": "The price."},
    ),
}  # fmt: skip


@cache
def loaded(name: str) -> tuple[ChatTemplate, Tokenizer]:
    """Template and tokenizer of one of MODELS."""
    folder = tokenizer_folder(name)
    tokenizer = Tokenizer(folder)
    return model_template(None, folder, tokenizer), tokenizer


def conversation(case: str) -> Conversation:
    """One of CASES."""
    tools = tuple(TOOLS) if case == "tools" else ()
    return Conversation(CASES[case], f"cases: {case}", tools)  # type: ignore[arg-type]


def combinations() -> Iterator[tuple[str, str, bool | None]]:
    """(model, case, thinking)."""
    for name in MODELS:
        for case in CASES:
            for thinking in (None, True, False) if case == "thoughts" else (None,):
                yield name, case, thinking


def masks(name: str, case: str, thinking: bool | None) -> dict[str, Any]:
    """What is learned: for each sample its learned runs as text and ids; or the problem."""
    template, tokenizer = loaded(name)
    found = render_all([conversation(case)], template, tokenizer, Rules(1024, thinking=thinking))
    if found.problems:
        problem = found.problems[0]
        return {"problem": problem.code, **problem.values}
    return {"samples": [_runs(sample, tokenizer) for sample in found.samples]}


def _runs(sample: Sample, tokenizer: Tokenizer) -> dict[str, Any]:
    runs: list[list[int]] = []
    for number, label in enumerate(sample.labels):
        if label == IGNORED:
            continue
        if number == 0 or sample.labels[number - 1] == IGNORED:
            runs.append([])
        runs[-1].append(label)
    learned = [
        {"text": tokenizer.decode(run, skip_special_tokens=False), "ids": run} for run in runs
    ]
    return {"tokens": len(sample.ids), "learned": learned}


GOLDEN = Path(__file__).parent / "data" / "golden" / "masks.json"


def key(name: str, case: str, thinking: bool | None) -> str:
    """How the golden file calls a combination."""
    return f"{name}, {case}" + ("" if thinking is None else f", enable_thinking {thinking}")


if __name__ == "__main__":
    lines = [
        f"{json.dumps(key(*c))}: {json.dumps(masks(*c), ensure_ascii=False)}"
        for c in combinations()
    ]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")
