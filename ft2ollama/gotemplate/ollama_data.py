"""A conversation as Ollama hands it to a Go template, and the prompt that comes of it.

In: messages and tools in the form of `data.conversation`. Out: the values of ollama's
template/template.go (`Values`, `collate`) as 0.9.3 makes them, the oldest whose templates count:
neighbours of one role are one message, joined by a blank line; the Modelfile's SYSTEM stands first
when the conversation does not begin with a system message; schema keys that its structs do not
have are gone, and maps are read in the order of their keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ft2ollama.gotemplate.engine import Strings, Struct, execute
from ft2ollama.gotemplate.lexer import Node, parse

Message = Mapping[str, Any]
_PROPERTY = ("type", "items", "description", "enum")  # api.ToolFunction; `anyOf` came later
_PARAMETERS = ("type", "$defs", "items", "required", "properties")


def prompt(
    template: str | Mapping[str, Sequence[Node]],
    messages: Sequence[Message],
    *,
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: bool | None = None,
    joins_tools: bool = True,
) -> str:
    """The prompt that Ollama builds by the Go template (its text, or parsed).

    joins_tools: several answers of tools in a row are one message, as before 0.9.6; since
    then they are kept apart.
    """
    parsed = parse(template) if isinstance(template, str) else template
    data = values(messages, system=system, tools=tools, thinking=thinking, joins_tools=joins_tools)
    return execute(parsed, data)


def values(
    messages: Sequence[Message],
    *,
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: bool | None = None,
    joins_tools: bool = True,
) -> dict[str, Any]:
    """What the template sees as `.`; system: the Modelfile's."""
    if system and (not messages or messages[0]["role"] != "system"):
        messages = [{"role": "system", "content": system}, *messages]
    return {
        "System": "\n\n".join(m["content"] for m in messages if m["role"] == "system"),
        "Messages": _collate(messages, joins_tools),
        "Tools": [_tool(tool) for tool in tools],
        "Response": "",
        "Think": bool(thinking),
        "IsThinkSet": thinking is not None,
    }


def api_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages of a request to /api/chat."""
    result = []
    for message in messages:
        one = {"role": message["role"], "content": message.get("content") or ""}
        if message.get("reasoning_content"):
            one["thinking"] = message["reasoning_content"]
        if message.get("tool_calls"):
            one["tool_calls"] = [{"function": dict(c["function"])} for c in message["tool_calls"]]
        if message["role"] == "tool" and message.get("name"):
            one["tool_name"] = message["name"]
        result.append(one)
    return result


def normal_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tool schemas with the keys and the order that Ollama keeps: what a template can be told.

    Train on these: keys that Ollama drops would be in the training text and never in a prompt.
    """
    return [_plain_tool(tool) for tool in tools]


def dropped_keys(tools: Sequence[Mapping[str, Any]]) -> set[str]:
    """The keys of tool schemas that Ollama does not keep (`normal_tools`)."""
    dropped: set[str] = set()
    for tool in tools:
        function = tool.get("function", tool)
        parameters = function.get("parameters") or {}
        dropped |= function.keys() - {"name", "description", "parameters"}
        dropped |= parameters.keys() - set(_PARAMETERS)
        for schema in (parameters.get("properties") or {}).values():
            dropped |= {_nested(key) for key in schema.keys() - set(_PROPERTY)}
    return dropped


def _nested(key: str) -> str:
    return f"nested {key}" if key in _PARAMETERS else key


def normal_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call in the order in which a Go template reads a map."""
    return {key: _sorted(value) for key, value in sorted(arguments.items())}


def _collate(messages: Sequence[Message], joins_tools: bool) -> list[Struct]:
    collated: list[Struct] = []
    for message in messages:
        joins = joins_tools or message["role"] != "tool"
        if joins and collated and collated[-1]["Role"] == message["role"]:
            collated[-1]["Content"] += "\n\n" + (message.get("content") or "")
        else:
            collated.append(_message(message))
    return collated


def _message(message: Message) -> Struct:
    calls = [
        Struct(
            Function=Struct(
                Index=0,
                Name=call["function"]["name"],
                Arguments=normal_arguments(call["function"].get("arguments") or {}),
            )
        )
        for call in message.get("tool_calls") or ()
    ]
    return Struct(
        Role=message["role"],
        Content=message.get("content") or "",
        Thinking=message.get("reasoning_content") or "",
        Images=[],
        ToolCalls=calls,
    )


def _tool(tool: Mapping[str, Any]) -> Struct:
    plain = _plain_tool(tool)["function"]
    parameters = plain["parameters"]
    return Struct(
        Type="function",
        Items=None,
        Function=Struct(
            Name=plain["name"],
            Description=plain.get("description", ""),
            Parameters=Struct(
                Type=parameters.get("type", ""),
                Defs=parameters.get("$defs"),
                Items=parameters.get("items"),
                Required=Strings(parameters.get("required", ())),
                Properties={
                    name: Struct(
                        Type=Strings([one] if isinstance(one := p.get("type", []), str) else one),
                        Items=p.get("items"),
                        Description=p.get("description", ""),
                        Enum=list(p.get("enum", ())),
                    )
                    for name, p in parameters.get("properties", {}).items()
                },
            ),
        ),
    )


def _plain_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Empty parts count as absent: Ollama cannot tell them apart."""
    function = tool.get("function", tool)
    given = function.get("parameters") or {}
    parameters: dict[str, Any] = {"type": given.get("type", "object")}
    for key in ("$defs", "items", "required"):
        if given.get(key):
            parameters[key] = _sorted(given[key])
    parameters["properties"] = {
        name: {key: _sorted(schema[key]) for key in _PROPERTY if schema.get(key)}
        for name, schema in sorted((given.get("properties") or {}).items())
    }
    head = {"name": function["name"]}
    if function.get("description"):
        head["description"] = function["description"]
    return {"type": "function", "function": {**head, "parameters": parameters}}


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(item) for key, item in sorted(value.items())}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
