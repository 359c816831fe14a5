"""Tools that a row offers, and the calls that an assistant makes of them.

In: `tools` as JSON text or a list; calls as OpenAI writes them (`tool_calls`, the older
`function_call`) or as the JSON text of LLaMA-Factory's function_call turns.  Out: schemas and
calls as transformers' chat templates take them: arguments always an object. LLaMA-Factory trains
OpenAI's arguments as JSON text inside JSON; here they are decoded, and text that is encoded once
more than it should be is decoded too, with a warning. `as_ollama_gives` then brings them into the
form in which a served model meets them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from ft2ollama.config.expects import shown
from ft2ollama.data.conversation import Conversation, Message, ToolCall
from ft2ollama.data.problems import BadRow, Warn
from ft2ollama.gotemplate import normal_arguments, normal_tools


def read_tools(row: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    """The schemas in OpenAI's form, () where there are none.

    key: the column; `functions` is OpenAI's older name for it.
    """
    key = key if row.get(key) or "functions" not in row else "functions"
    value = row.get(key)
    if isinstance(value, str):
        value = _json(value, key, "tools-json") if value.strip() else None
    if value is None or value == []:
        return ()
    if isinstance(value, Mapping) or not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRow("tools-list", key, value=shown(value))
    return tuple(_tool(tool, f"{key}[{number}]") for number, tool in enumerate(value, 1))


def _tool(tool: Any, at: str) -> Mapping[str, Any]:
    """{"type": "function", "function": {name, ...}}; the inner object alone is wrapped."""
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRow("tool-name", at, value=shown(tool))
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise BadRow("tool-parameters", f"{at}.parameters", value=shown(parameters))
    return tool if "function" in tool else {"type": "function", "function": dict(tool)}


def as_ollama_gives(conversation: Conversation) -> Conversation:
    """The same with the schemas' keys that Ollama keeps, and all keys in its order.

    Ollama reads tools and calls into structs and writes them anew, so that a template never sees
    what the client sent (`gotemplate.normal_tools`); trained otherwise, the model would meet
    another text when it is served. Raises BadRow for a schema that is none.
    """
    if not conversation.tools and not any("tool_calls" in m for m in conversation.messages):
        return conversation
    for number, tool in enumerate(conversation.tools, 1):
        _check_properties(tool, f"tools[{number}]")
    tools = tuple(normal_tools(conversation.tools))
    messages = tuple(map(_with_normal_calls, conversation.messages))
    return replace(conversation, tools=tools, messages=messages)


def _with_normal_calls(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _sorted_arguments(call)}}
        for call in message["tool_calls"]
    ]
    return cast(Message, {**message, "tool_calls": calls})


def _sorted_arguments(call: ToolCall) -> dict[str, Any]:
    return normal_arguments(call["function"]["arguments"])


def _check_properties(tool: Mapping[str, Any], at: str) -> None:
    properties = (tool["function"].get("parameters") or {}).get("properties") or {}
    if not isinstance(properties, Mapping):
        raise BadRow("tool-parameters", f"{at}.parameters", value=shown(properties))
    for name, schema in properties.items():
        if not isinstance(schema, Mapping):
            key = f"{at}.parameters.properties.{name}"
            raise BadRow("tool-parameters", key, value=shown(schema))


def calls_of_turn(turn: Mapping[str, Any], at: str, warn: Warn) -> list[ToolCall]:
    """The calls beside an assistant's text; none where there are none."""
    calls = turn.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise BadRow("calls-list", f"{at}.tool_calls", value=shown(calls))
        keys = (f"{at}.tool_calls[{number}]" for number in range(1, len(calls) + 1))
        return [_call(call, key, warn) for call, key in zip(calls, keys, strict=True)]
    old = turn.get("function_call")
    return [_call(old, f"{at}.function_call", warn)] if old else []


def calls_of_text(text: Any, at: str, warn: Warn) -> list[ToolCall]:
    """The value of a function_call turn: JSON text of one call or of a list of calls."""
    value = _json(text, at, "call-json") if isinstance(text, str) else text
    calls = value if isinstance(value, list) else [value]
    if not calls:
        raise BadRow("call-name", at, value=shown(value))
    return [_call(call, at, warn) for call in calls]


def _call(call: Any, at: str, warn: Warn) -> ToolCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRow("call-name", at, value=shown(call))
    found: ToolCall = {
        "type": "function",
        "function": {
            "name": function["name"],
            "arguments": _arguments(function.get("arguments"), f"{at}.arguments", warn),
        },
    }
    if isinstance(call.get("id"), str):
        found["id"] = call["id"]
    return found


def _arguments(value: Any, at: str, warn: Warn) -> dict[str, Any]:
    """An object: as it is, or decoded from JSON text, or decoded once more with a warning."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        value = _json(value, at, "arguments-json")
        if isinstance(value, str):
            value = _json(value, at, "arguments-json")
            warn("arguments-twice", at, value=shown(value))
    if not isinstance(value, Mapping):
        raise BadRow("arguments-object", at, value=shown(value))
    return dict(value)


def _json(text: str, at: str, code: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 20) : error.pos + 20].replace("\n", " ")
        raise BadRow(code, at, reason=error.msg, column=error.pos + 1, near=near) from None
