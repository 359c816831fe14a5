"""The arguments of tool calls against the schemas of the tools that the row offers.

In: a conversation.  Out: (index of the turn, (code, values)) of every finding. Unknown names and
results out of place are found when the row is read (`order.py`); here are the mistakes that a chat
template renders without complaint: a model that is taught a call without a required argument makes
such calls in production, where they fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ft2ollama.data.character_checks import Finding
from ft2ollama.data.conversation import Conversation

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_SHOWN = 50  # characters of a value


def check_tools(conversation: Conversation) -> Iterator[tuple[int, Finding]]:
    """All that is wrong with the arguments of a conversation's tool calls."""
    schemas = dict(map(_schema, conversation.tools))
    for index, message in enumerate(conversation.messages):
        for call in message.get("tool_calls", ()):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            if not schemas:
                yield index, ("call-without-tools", {"name": name})
            elif name in schemas and isinstance(arguments, Mapping):
                for finding in _check_call(name, arguments, schemas[name]):
                    yield index, finding


def _schema(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    inner = tool.get("function", tool)
    return str(inner.get("name", "")), inner.get("parameters") or {}


def _check_call(
    name: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]
) -> Iterator[Finding]:
    properties = schema.get("properties") or {}
    missing = [key for key in schema.get("required") or () if key not in arguments]
    if missing:
        yield "argument-missing", {"name": name, "keys": ", ".join(missing)}
    for key, value in arguments.items():
        if properties and key not in properties:
            known = ", ".join(properties)
            yield "argument-unknown", {"name": name, "argument": key, "known": known}
        else:
            yield from _check_value(name, key, value, properties.get(key) or {})


def _check_value(name: str, key: str, value: Any, schema: Mapping[str, Any]) -> Iterator[Finding]:
    text = json.dumps(value, ensure_ascii=False)[:_SHOWN]
    values = {"name": name, "argument": key, "text": text}
    if not _fits(value, schema.get("type")):
        twice = isinstance(value, str) and _is_json(value)
        code = "argument-encoded" if twice else "argument-type"
        yield code, {**values, "wanted": schema["type"]}
    elif "enum" in schema and value not in schema["enum"]:
        yield "argument-value", {**values, "known": ", ".join(map(str, schema["enum"]))}


def _fits(value: Any, wanted: Any) -> bool:
    kinds = wanted if isinstance(wanted, list) else [wanted]
    known = [_TYPES[kind] for kind in kinds if isinstance(kind, str) and kind in _TYPES]
    if not known:
        return True
    if isinstance(value, bool):  # which Python counts as an int
        return (bool,) in known
    if isinstance(value, float) and value.is_integer() and (int,) in known:
        return True
    return any(isinstance(value, types) for types in known)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False
