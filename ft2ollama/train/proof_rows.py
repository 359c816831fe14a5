"""A plan -> the conversations that Ollama is held to: prompts of data, and questions for replies.

Questions come from `proof_prompts`, else from the rows that were held out, else from training rows.
Of rows, a Chinese one, one that calls a tool and the longest that is cheap are among them when
there are such; the rest is drawn by the config's seed. No torch in here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.questions import load_questions
from ft2ollama.gotemplate import normal_tools
from ft2ollama.gotemplate.probe import Probe
from ft2ollama.proof import capabilities
from ft2ollama.proof.cases import Case, as_served, with_system
from ft2ollama.template import Message
from ft2ollama.train.plan import Plan

REPLY_TOKENS, LONG_REPLY_TOKENS = 48, 96
_CHEAP = 4000  # characters of a prompt: what a CPU reads in some seconds
_CHINESE = re.compile(r"[\u3400-\u9fff]")


def data_cases(plan: Plan, count: int = 3) -> list[Case]:
    """Prompts of training rows for the prompt proof: the first, a Chinese one, one with tools."""
    rows = _pick(_servable(plan, plan.conversations), count, seed=None)
    return [
        (
            f"training data, {_place(row)}",
            Probe(as_served(row.messages[: _answer_of(row)]), tuple(row.tools)),
        )
        for row in rows
    ]


def questions(plan: Plan, count: int) -> list[dict[str, Any]]:
    """At most `count` questions with messages, tools, thinking, limit of tokens and place.

    A row that calls a tool is added to the questions of `proof_prompts`, which have none.
    """
    given = load_questions(plan.config.proof_prompts)[:count]
    rows = _servable(plan, plan.held_out or plan.conversations)
    if given:
        asked = [
            _question(plan, one.text, [{"role": "user", "content": one.text}], Path(one.place).name)
            for one in given
        ]
        return [*asked, *(_of_row(plan, row) for row in rows if _calls(row))][: len(asked) + 1]
    found = [_of_row(plan, row) for row in _pick(rows, count, seed=plan.config.seed)]
    if found:
        longest = max(found, key=lambda one: one["answer"])
        longest["limit"] = LONG_REPLY_TOKENS
    return found


def held_out(plan: Plan) -> bool:
    """Whether the questions are not of the training data."""
    return bool(plan.config.proof_prompts or plan.held_out)


def _of_row(plan: Plan, row: Conversation) -> dict[str, Any]:
    at = _answer_of(row)
    said = [message["content"] for message in row.messages[:at] if message["role"] == "user"]
    found = _question(plan, said[-1] if said else "", row.messages[:at], _place(row), row.tools)
    return {**found, "answer": len(row.messages[at]["content"])}


def _question(
    plan: Plan, text: str, messages: Iterable[Message], place: str, tools: Sequence[Any] = ()
) -> dict[str, Any]:
    can_think = "thinking" in capabilities(plan.template.gotmpl)
    return {
        "question": text,
        "messages": with_system(as_served(list(messages)), plan.system),
        "tools": normal_tools(tools),
        "thinking": plan.config.enable_thinking if can_think else None,
        "place": place,
        "limit": REPLY_TOKENS,
    }


def _servable(plan: Plan, rows: Sequence[Conversation]) -> list[Conversation]:
    """Rows that the published model can be asked: no tools where its template has none."""
    tools = "tools" in capabilities(plan.template.gotmpl)
    special = plan.tokenizer.special
    return [
        row
        for row in rows
        if (tools or not _has_tools(row))
        and any(message["role"] == "user" for message in row.messages[: _answer_of(row)])
        and not any(token in message["content"] for message in row.messages for token in special)
    ]


def _pick(rows: list[Conversation], count: int, *, seed: int | None) -> list[Conversation]:
    """`count` rows with different questions, the telling ones first."""
    if seed is not None:
        random.Random(seed).shuffle(rows)
    cheap = [row for row in rows if _length(row) <= _CHEAP] or rows
    wanted: list[Callable[[Conversation], bool]] = [_calls, _is_chinese]
    first = [next(iter(filter(want, cheap)), None) for want in wanted]
    longest = max(cheap, key=_length, default=None) if count > len(wanted) else None
    every = [*(row for row in (*first, longest) if row is not None), *cheap]
    unique = {_key(row): row for row in reversed(every)}
    order = dict.fromkeys(map(_key, every))
    return [unique[key] for key in order][:count]


def _key(row: Conversation) -> tuple[str, ...]:
    return tuple(str(message["content"]) for message in row.messages[: _answer_of(row)])


def _answer_of(row: Conversation) -> int:
    """The turn that is asked for: the first that calls a tool, else the last."""
    turns = [n for n, message in enumerate(row.messages) if message["role"] == "assistant"]
    calls = [n for n in turns if row.messages[n].get("tool_calls")]
    return (calls or turns[-1:])[0]


def _calls(row: Conversation) -> bool:
    return any(message.get("tool_calls") for message in row.messages)


def _has_tools(row: Conversation) -> bool:
    return bool(row.tools) or _calls(row) or any(m["role"] == "tool" for m in row.messages)


def _is_chinese(row: Conversation) -> bool:
    return any(_CHINESE.search(message["content"]) for message in row.messages)


def _length(row: Conversation) -> int:
    return sum(len(message["content"]) for message in row.messages)


def _place(row: Conversation) -> str:
    return Path(row.place).name
