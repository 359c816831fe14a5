"""The conversations whose prompts are proved, and what the training template makes of them.

In: the chat template, the tokenizer, what the Go template can express.  Out: `Prompt`s: messages as
data has them, with the exact text and token ids of training.

The set is small, because each costs the server two or three requests, and covers: 1 to 3 turns with
and without a system prompt in English and Chinese, characters outside the BMP, white space at both
ends of contents, braces; tools offered, called and answered, thoughts in the history, and the
switch for thinking, where the served template has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ft2ollama.chat_jinja import TemplateRefusal
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.gotemplate import normal_arguments, normal_tools
from ft2ollama.gotemplate.cases import text_cases, thought_cases, tool_cases
from ft2ollama.gotemplate.probe import Probe
from ft2ollama.gotemplate.tags import thinking_tags
from ft2ollama.template import ChatTemplate, Message

Case = tuple[str, Probe]

_TURNS = ("1 turn", "2 turns", "3 turns")
_TEXT = {
    *(f"{name}, {turns}{system}" for name in ("plain", "Chinese") for turns in _TURNS
      for system in ("", ", system")),
    "unicode, 1 turn", "unicode, 2 turns, system", "white space, 1 turn",
    "white space, 2 turns, system", "code, 2 turns",
}  # fmt: skip
_THOUGHTS = {
    "plain, 1 turn, thinking off", "plain, 2 turns, system, thinking off",
    "plain, 1 turns, thoughts, thinking on", "plain, 2 turns, thoughts, thinking on",
    "Chinese, 3 turns, thoughts, thinking unset",
}  # fmt: skip
_TOOLS = {
    "1 tool, offered", "3 tools, offered later, system", "1 tool, call with words",
    "3 tools, call 1 answered", "3 tools, call 3, one turn later, system",
    "3 tools, two calls, one answer", "3 tools, call 1 answered, thoughts",
}  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """A conversation, and the prompt that the trainer's template and tokenizer make of it.

    thinking: what the request says of it, None nothing.  bos: the BOS token when `text` begins with
    it; whether the server adds one by itself is the server's to say.
    """

    name: str
    messages: tuple[Message, ...]
    text: str
    ids: tuple[int, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    thinking: bool | None = None
    bos: str = ""

    @property
    def bare(self) -> str:
        """The text without the BOS token in front."""
        return self.text.removeprefix(self.bos)

    def as_row(self) -> dict[str, Any]:
        """A line of prompts.jsonl."""
        return asdict(self)


def read_prompt(row: Mapping[str, Any]) -> Prompt:
    """A line of prompts.jsonl; earlier versions wrote no tools, thinking and bos."""
    return Prompt(
        str(row["name"]),
        tuple(row["messages"]),
        str(row["text"]),
        tuple(row["ids"]),
        tuple(row.get("tools") or ()),
        row.get("thinking"),
        str(row.get("bos") or ""),
    )


def capabilities(gotmpl: str) -> frozenset[str]:
    """Of "tools" and "thinking": what Ollama will offer for this Go template."""
    found = {"tools"} if re.search(r"\.Tools\b", gotmpl) else set[str]()
    return frozenset(found | ({"thinking"} if all(thinking_tags(gotmpl)) else set()))


def proof_cases(capable: frozenset[str]) -> list[Case]:
    """The conversations for a Go template of these capabilities, as (name, conversation)."""
    wanted = _TEXT | (_THOUGHTS if "thinking" in capable else set())
    every: list[Iterable[Case]] = [text_cases()]
    if "thinking" in capable:
        every.append(thought_cases())
    if "tools" in capable:
        wanted |= _TOOLS
        every.append(tool_cases(thoughts="thinking" in capable))
    return [case for cases in every for case in cases if case[0] in wanted]


def expected_prompts(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    cases: Iterable[Case],
    *,
    system: str = "",
    thinking: bool | None = None,
) -> list[Prompt]:
    """What training makes of the cases; conversations that the template refuses are left out.

    system: the default system prompt, published as SYSTEM.  thinking: the switch that training
    set for conversations whose request says nothing of it.
    """
    return list(_expected(template, tokenizer, cases, system, thinking))


def _expected(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    cases: Iterable[Case],
    system: str,
    thinking: bool | None,
) -> Iterator[Prompt]:
    bos = template.special_tokens.get("bos_token") or ""
    for name, case in cases:
        messages = with_system(case.messages, system)
        switch = thinking if case.thinking is None else case.thinking
        tools = tuple(normal_tools(case.tools))
        try:
            text = template.render(
                messages, tools=tools, add_generation_prompt=True, thinking=switch
            )
        except TemplateRefusal:
            continue
        ids, _ = tokenizer.encode(text)
        yield Prompt(
            name,
            tuple(case.messages),
            text,
            tuple(ids),
            tools,
            case.thinking,
            bos if bos and text.startswith(bos) else "",
        )


def with_system(messages: Sequence[Message], system: str) -> list[Message]:
    """The messages as Ollama completes them: its SYSTEM in front where none is given."""
    if system and messages[0]["role"] != "system":
        return [{"role": "system", "content": system}, *messages]
    return list(messages)


def as_served(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Messages with the arguments of calls in the order in which Ollama writes them."""
    return tuple(_as_served(message) for message in messages)


def _as_served(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = [
        {
            **call,
            "function": {
                **call["function"],
                "arguments": normal_arguments(call["function"].get("arguments") or {}),
            },
        }
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}
