"""Conversations whose every token a person read: one for each of eleven real chat templates.

Each has what its template has: a system message, tools with a call and its result, thoughts. The
lists stand in data/masks/NAME.txt, a token a line; `python tests/hand_masks.py NAME` prints what
the code gives now. README.md there says how they were checked, and what to do when one changes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chat_cases import TOOLS, loaded

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.render import render_all
from ft2ollama.data.samples import IGNORED, Rules

FOLDER = Path(__file__).parent / "data" / "masks"

_SYSTEM = {"role": "system", "content": "Be brief."}
_HI = {"role": "user", "content": "Hi"}
_HELLO = {"role": "assistant", "content": "Hello!", "reasoning_content": "A greeting."}
_RAIN = {"role": "user", "content": "Rain in 深圳?"}
_CALL = {
    "role": "assistant",
    "content": "",
    "reasoning_content": "Look it up.",
    "tool_calls": [
        {
            "type": "function",
            "id": "a1B2c3D4e",
            "function": {"name": "get_weather", "arguments": {"city": "深圳"}},
        }
    ],
}
_RESULT = {
    "role": "tool",
    "name": "get_weather",
    "tool_call_id": "a1B2c3D4e",
    "content": '{"rain": true}',
}
_YES = {"role": "assistant", "content": "Yes, 有雨.", "reasoning_content": "It rains."}


def _without_thoughts(*messages: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {key: value for key, value in message.items() if key != "reasoning_content"}
        for message in messages
    )


_WEATHER = (_RAIN, _CALL, _RESULT, _YES)
_PLAIN = _without_thoughts(_HI, _HELLO, _RAIN, _YES)
# name in real_chat.MODELS -> (messages, are there tools, enable_thinking)
CONVERSATIONS: dict[str, tuple[tuple[dict[str, Any], ...], bool, bool | None]] = {
    "qwen2.5": ((_SYSTEM, *_without_thoughts(*_WEATHER)), True, None),
    "qwen3": ((_HI, _HELLO, *_WEATHER), True, True),
    "qwq": ((_SYSTEM, *_WEATHER), True, True),
    "smollm3": ((_SYSTEM, _HI, _HELLO, _RAIN, _YES), False, True),
    "llama3.2": ((_SYSTEM, *_without_thoughts(*_WEATHER)), True, None),
    "mistral-nemo": ((_SYSTEM, *_without_thoughts(*_WEATHER)), True, None),
    "r1-llama": ((_SYSTEM, _HI, _HELLO, _RAIN, _YES), False, None),
    "granite3.3": (_PLAIN, True, None),
    "gemma4": ((_SYSTEM, *_WEATHER), True, True),
    "gemma2": (_PLAIN, False, None),
    "phi3.5": ((_SYSTEM, *_PLAIN), False, None),
}


def tokens(name: str) -> list[list[tuple[int, str, bool]]]:
    """For every sample of the conversation its tokens: (id, piece, is it learned)."""
    messages, has_tools, thinking = CONVERSATIONS[name]
    template, tokenizer = loaded(name)
    row = Conversation(messages, name, tuple(TOOLS) if has_tools else ())  # type: ignore[arg-type]
    found = render_all([row], template, tokenizer, Rules(1024, thinking=thinking))
    assert not found.problems, found.problems
    return [
        [
            (number, piece(name, number), label != IGNORED)
            for number, label in zip(sample.ids, sample.labels, strict=True)
        ]
        for sample in found.samples
    ]


def piece(name: str, number: int) -> str:
    """A token as its vocabulary writes it: spaces and bytes in the letters that stand for them."""
    _, tokenizer = loaded(name)
    return str(tokenizer.text(number))


def lines(name: str) -> Iterator[str]:
    """The list as it stands in the file: an empty line between samples."""
    for count, sample in enumerate(tokens(name)):
        if count:
            yield ""
        for number, text, learned in sample:
            mark = "learn" if learned else "-"
            yield f"{number:>6} {mark:<5} {json.dumps(text, ensure_ascii=False)}"


def read(name: str) -> list[str]:
    """The list of a file without its remarks."""
    text = (FOLDER / f"{name}.txt").read_text("utf-8")
    return [line for line in text.rstrip("\n").split("\n") if not line.startswith("#")]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines(sys.argv[1])) + "\n")
