"""What goes into a chat request and what comes out, as plain JSON.

In: messages and options. Out: request bodies and `Reply`. The JSON is sent as it is given: a proof
compares what the server makes of exactly these messages and tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ft2ollama import machine
from ft2ollama.ollama_show import Shown

Message = Mapping[str, Any]

_FEW_CPUS = 4


@dataclass(frozen=True)
class Reply:
    """One answer. seconds: as the server measured, loading included."""

    text: str
    done_reason: str
    prompt_tokens: int
    reply_tokens: int
    seconds: float
    thinking: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Thought:
    """A piece of what the model thinks before it answers."""

    text: str


def quiet_options(host_is_local: bool) -> dict[str, Any]:
    """Options for our own checks: greedy, unpenalised, and one thread on a small local machine.

    Two threads that spin on a busy 2-core machine were up to 20 times slower than one.
    """
    options: dict[str, Any] = {"temperature": 0, "seed": 0, "repeat_penalty": 1.0}
    if host_is_local and machine.cores() <= _FEW_CPUS:
        options["num_thread"] = 1
    return options


def chat_body(
    model: str,
    messages: Sequence[Message],
    options: Mapping[str, Any] | None,
    tools: Sequence[Mapping[str, Any]] | None,
    think: bool | None,
) -> dict[str, Any]:
    """Body of /api/chat; what is None is left out."""
    body: dict[str, Any] = {"model": model, "messages": [dict(each) for each in messages]}
    optional = {"options": options, "tools": tools, "think": think}
    return body | {key: value for key, value in optional.items() if value is not None}


def parse_reply(
    data: dict[str, Any], text: str | None = None, thinking: str | None = None
) -> Reply:
    """Read the last (or only) object of /api/chat; `text` and `thinking` replace its pieces."""
    message = data.get("message") or {}
    return Reply(
        text=str(message.get("content") or "") if text is None else text,
        done_reason=str(data.get("done_reason") or ""),
        prompt_tokens=int(data.get("prompt_eval_count") or 0),
        reply_tokens=int(data.get("eval_count") or 0),
        seconds=int(data.get("total_duration") or 0) / 1e9,
        thinking=str(message.get("thinking") or "") if thinking is None else thinking,
        tool_calls=tuple(message.get("tool_calls") or ()),
    )


def generate_plan(
    messages: Sequence[Message], shown: Shown
) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """Split a chat into MESSAGE history and a /api/generate request that render alike, or None.

    /api/chat renders MESSAGE history + request, and puts SYSTEM first unless the request starts
    with a system message; /api/generate renders its own or the model's system, then the history,
    then the prompt (ollama server/routes.go ChatHandler, GenerateHandler). Only /api/chat strips
    <think> from earlier answers (filterThinkTags).
    """
    plain = [dict(message) for message in messages]
    roles = {str(message.get("role")) for message in plain}
    if not plain or plain[-1]["role"] != "user" or not roles <= {"system", "user", "assistant"}:
        return None
    if any(set(message) != {"role", "content"} for message in plain) or not plain[-1]["content"]:
        return None
    if any("<think>" in message["content"] for message in plain):
        return None
    *turns, last = plain
    request = {"prompt": last["content"]}
    if turns and turns[0]["role"] == "system" and shown.system:
        if shown.messages or not turns[0]["content"]:
            return None  # the two would put the system text in different places
        request["system"] = turns[0]["content"]
        turns = turns[1:]
    # MESSAGE history is replaced by a create, not extended
    return ([*shown.messages, *turns] if turns else []), request
