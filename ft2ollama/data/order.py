"""Whether the turns of a conversation follow each other as a chat template expects.

In: messages.  Out: nothing, or BadRow at the first turn that is out of place. After a system turn
come user and assistant in turn; between an assistant's calls and its next words stand the tools'
answers. Also here: each tool's answer gets the name of the tool that was called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ft2ollama.config.expects import did_you_mean
from ft2ollama.data.conversation import Message
from ft2ollama.data.problems import BadRow, Warn

_START = "start"
_NEXT: Mapping[str, tuple[str, ...]] = {
    _START: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool",),
    "tool": ("tool", "assistant"),
}


def check_order(
    messages: Sequence[Message],
    unlearned: frozenset[int],
    tools: Sequence[Mapping[str, Any]],
    warn: Warn,
) -> None:
    """Raises BadRow for turns out of order, empty answers, and when nothing would be learned."""
    before = _START
    for number, message in enumerate(messages, 1):
        _check_follows(message, before, number)
        _check_text(message, number)
        before = "call" if message.get("tool_calls") else message["role"]
    if before not in ("assistant", "call"):
        raise BadRow("answer-missing", f"turns[{len(messages)}]", role=before)
    answers = {i for i, message in enumerate(messages) if message["role"] == "assistant"}
    if answers <= unlearned:
        raise BadRow("all-unlearned")
    for index, message in enumerate(messages):
        if message.get("tool_calls"):
            _check_calls(message, index + 1, tools, warn)
            _name_results(message, _results(messages, index + 1), index + 2)


def _check_follows(message: Message, before: str, number: int) -> None:
    role = message["role"]
    if role in _NEXT[before]:
        return
    if role == "system":
        raise BadRow("system-not-first", f"turns[{number}]")
    if role == "tool":
        raise BadRow("tool-without-call", f"turns[{number}]")
    if before == "call":
        raise BadRow("call-unanswered", f"turns[{number}]", role=role)
    if before == _START:
        raise BadRow("role-first", f"turns[{number}]", role=role)
    raise BadRow("role-order", f"turns[{number}]", role=role, before=before)


def _check_text(message: Message, number: int) -> None:
    """An answer says or calls something, and every text can be written as UTF-8."""
    text = message["content"]
    if message["role"] in ("user", "assistant") and not text.strip():
        if message["role"] == "user":
            raise BadRow("question-empty", f"turns[{number}]")
        if not message.get("tool_calls"):
            raise BadRow("answer-empty", f"turns[{number}]")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise BadRow("half-character", f"turns[{number}]", character=half) from None


def _check_calls(
    message: Message, number: int, tools: Sequence[Mapping[str, Any]], warn: Warn
) -> None:
    names = [str(tool.get("function", {}).get("name")) for tool in tools]
    for call in message["tool_calls"]:
        name = call["function"]["name"]
        if tools and name not in names:
            near = did_you_mean(name, names) or names[0]
            known = ", ".join(names)
            warn("call-unknown", f"turns[{number}]", name=name, known=known, near=near)


def _results(messages: Sequence[Message], start: int) -> list[Message]:
    """The tools' answers from `start` on."""
    found = []
    for message in messages[start:]:
        if message["role"] != "tool":
            break
        found.append(message)
    return found


def _name_results(message: Message, results: Sequence[Message], number: int) -> None:
    """Give each answer the name of its call: by its id, else by its position.

    One answer to several calls keeps no name: ShareGPT files often hold them all in one text.
    """
    calls = message["tool_calls"]
    if len(results) > len(calls):
        raise BadRow("results-many", f"turns[{number}]", results=len(results), calls=len(calls))
    names = {call["id"]: call["function"]["name"] for call in calls if "id" in call}
    for offset, result in enumerate(results):
        wanted = result.get("tool_call_id")
        if wanted and names and wanted not in names:
            at = f"turns[{number + offset}].tool_call_id"
            raise BadRow("result-id", at, id=wanted, known=", ".join(names))
        if "name" in result:
            continue
        if wanted in names and wanted:
            result["name"] = names[wanted]
        elif len(results) == len(calls):
            result["name"] = calls[offset]["function"]["name"]
