"""The conversations on which a Go template must equal the model's chat template."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from ft2ollama.gotemplate.ollama_data import normal_tools
from ft2ollama.gotemplate.probe import Probe

_TEXTS = {
    "plain": ("What is 2+2?", "It is 4.", "And 3+3?", "6", "Thank you, and 5+5?", "10", "Bye."),
    "Chinese": (
        "你好，请介绍一下你自己。",
        "我是一个助手。",
        "１２３　全角空格",
        "好的！",
        "再见",
        "再见！",
        "谢谢",
    ),
    "unicode": (
        "emoji 👩‍👩‍👧 é x\u030c",  # an accent that NFC leaves apart
        "naïve “quotes”",
        "tab\there",
        "→ ok",
        "\u00a0x",
        "ß",
        "ﬁ",
    ),
    "white space": (
        "  two spaces\n\n\nand lines ",
        "\n answer \n",
        "\t",
        "x\n\n",
        "\u3000y\u3000",
        " ok ",
        "z\n",
    ),
    "code": (
        '```python\nprint("{{ .Content }} {% raw %}")\n```',
        "a < b && c > d",
        "}}{{",
        "{",
        "\\n",
        "'",
        '"',
    ),
}
_SYSTEMS = {
    "plain": "Answer in one word.",
    "Chinese": "你是一个乐于助人的助手。",
    "unicode": "Ünïcödé —",
    "white space": " be brief \n",
    "code": "Write {json}.",
}
_TOOLS = normal_tools(
    [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Weather of a city, if temperature < 50 & known",
                "parameters": {
                    "type": "object",
                    "required": ["city"],
                    "properties": {
                        "city": {"type": "string", "description": 'The city, e.g. "北京"'},
                        "unit": {"type": "string", "enum": ["C", "F"]},
                        "days": {"type": "integer"},
                    },
                },
            },
        },
        {
            "type": "function",
            "function": {
                "name": "now",
                "description": "The time",
                "parameters": {"type": "object", "properties": {}},
            },
        },
        {
            "type": "function",
            "function": {
                "name": "search",
                "description": "Find\npages",
                "parameters": {
                    "type": "object",
                    "required": ["queries"],
                    "properties": {
                        "queries": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "words",
                        }
                    },
                },
            },
        },
    ]
)
_ARGUMENTS: tuple[dict[str, Any], ...] = (
    {"city": "北京", "days": 3},
    {},
    {"queries": ["a <b> & c", 'say "hi"\n'], "deep": {"k": [1, 2.5, True, None]}},
)


def text_cases() -> Iterator[tuple[str, Probe]]:
    """1 to 4 turns with and without a system prompt; the switch for thinking off, on, unset."""
    for name, texts in _TEXTS.items():
        for turns, system in itertools.product((1, 2, 3, 4), (False, True)):
            head = [{"role": "system", "content": _SYSTEMS[name]}] * system
            messages = (*head, *_turns(texts, turns))
            label = f"{name}, {turns} turn{'s' * (turns > 1)}{', system' * system}"
            yield label, Probe(messages)
            if name == "plain":
                yield f"{label}, thinking off", Probe(messages, (), False)


def think_cases() -> Iterator[tuple[str, Probe]]:
    """Old answers with their thoughts in the text, as clients send them back."""
    for turns in (2, 3):
        messages = _turns(_TEXTS["plain"], turns)
        for message in messages:
            if message["role"] == "assistant":
                message["content"] = f"<think>\nLet me see.\n</think>\n\n{message['content']}"
        yield f"{turns} turns, <think> in old answers", Probe(tuple(messages))


def thought_cases() -> Iterator[tuple[str, Probe]]:
    """Reasoning in the history, thinking on and unset."""
    for name in ("plain", "Chinese"):
        for turns, thinking in itertools.product((1, 2, 3), (None, True)):
            messages = [dict(message) for message in _turns(_TEXTS[name], turns)]
            for message in messages:
                if message["role"] == "assistant":
                    message["reasoning_content"] = "First I think.\n\n" + _TEXTS[name][0]
            label = f"{name}, {turns} turns, thoughts, thinking {'on' if thinking else 'unset'}"
            yield label, Probe(tuple(messages), (), thinking)


def tool_cases(*, thoughts: bool) -> Iterator[tuple[str, Probe]]:
    """Tools offered, called with and without words, answered; two calls at once."""
    for count, system in itertools.product((1, 3), (False, True)):
        head = [{"role": "system", "content": _SYSTEMS["plain"]}] * system
        tools = tuple(_TOOLS[:count])
        for name, messages in _tool_talks(count):
            label = f"{count} tool{'s' * (count > 1)}, {name}{', system' * system}"
            yield label, Probe((*head, *messages), tools)
            if thoughts and name != "offered":
                thinking = [dict(message) for message in messages]
                for message in thinking:
                    if message["role"] == "assistant":
                        message["reasoning_content"] = "I should call it."
                yield f"{label}, thoughts", Probe((*head, *thinking), tools, True)


def parallel_cases() -> Iterator[tuple[str, Probe]]:
    """Two calls with an answer each, which Ollama before 0.9.6 cannot keep apart."""
    user: dict[str, Any] = {"role": "user", "content": "How is the weather?"}
    both = [_call("now", {}), _call("get_weather", _ARGUMENTS[0])]
    talk = [user, {"role": "assistant", "content": "", "tool_calls": both}]
    for one, content in zip(both, ("12:00", '{"t": 21}'), strict=True):
        name = one["function"]["name"]
        talk.append({"role": "tool", "content": content, "name": name, "tool_call_id": one["id"]})
    later = [{"role": "assistant", "content": "Fine."}, {"role": "user", "content": "And now?"}]
    yield "two calls, two answers", Probe(tuple(talk), tuple(_TOOLS))
    yield "two calls, two answers, one turn later", Probe((*talk, *later), tuple(_TOOLS))


def _turns(texts: tuple[str, ...], turns: int) -> list[dict[str, Any]]:
    roles = itertools.cycle(("user", "assistant"))
    return [
        {"role": role, "content": text}
        for role, text in zip(roles, texts[: 2 * turns - 1], strict=False)
    ]


def _tool_talks(count: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    user: dict[str, Any] = {"role": "user", "content": "How is the weather? <b>"}
    yield "offered", [user]
    chat = [user, {"role": "assistant", "content": "Where?"}, {"role": "user", "content": "北京"}]
    yield "offered later", chat
    for one in range(count):
        call = [_call(_TOOLS[one]["function"]["name"], _ARGUMENTS[one])]
        result = {"role": "tool", "content": '{"t": "21 °C"}', "name": call[0]["function"]["name"]}
        result["tool_call_id"] = call[0]["id"]
        asked = [*chat, {"role": "assistant", "content": "", "tool_calls": call}, result]
        yield f"call {one + 1} answered", asked
        after = [{"role": "assistant", "content": "Fine."}, {"role": "user", "content": "And now?"}]
        yield f"call {one + 1}, one turn later", [*asked, *after]
    words = {"role": "assistant", "content": "I look.", "tool_calls": [_call("now", {})]}
    yield "call with words", [user, words, result]
    both = [_call("now", {}), _call("get_weather", _ARGUMENTS[0])]
    yield (
        "two calls, one answer",
        [user, {"role": "assistant", "content": "", "tool_calls": both}, result],
    )


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "id": "abcDEF123",
        "function": {"name": name, "arguments": dict(sorted(arguments.items()))},
    }
