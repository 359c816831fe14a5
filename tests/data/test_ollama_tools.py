"""Tools and calls in training, in the form in which Ollama hands them to a template."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import byte_level

from ft2ollama.config import Config
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.from_config import rules_of
from ft2ollama.data.problems import BadRow
from ft2ollama.data.render import Rules, render_all
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.data.tools import as_ollama_gives
from ft2ollama.gotemplate import dropped_keys
from ft2ollama.template import ChatTemplate
from ft2ollama.train.rendered import publish_notes

JINJA = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "strict": True,
        "name": "find",
        "description": "Finds",
        "parameters": {
            "additionalProperties": False,
            "properties": {
                "where": {
                    "default": {},
                    "type": "object",
                    "properties": {"z": {"type": "string"}},
                },
                "many": {"minimum": 1, "description": "how many", "type": "integer"},
            },
            "required": ["where"],
            "type": "object",
        },
    },
}
NORMAL = (
    '{"type": "function", "function": {"name": "find", "description": "Finds", "parameters": '
    '{"type": "object", "required": ["where"], "properties": {"many": {"type": "integer", '
    '"description": "how many"}, "where": {"type": "object"}}}}}'
)


def row(*tools: Any, arguments: dict[str, Any] | None = None) -> Conversation:
    function = {"name": "find", "arguments": arguments or {}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": function}]},
    ]
    return Conversation(tuple(messages), "rows.json:1", tools)  # type: ignore[arg-type]


def text(folder: Path, conversation: Conversation, **rules: Any) -> str:
    template = ChatTemplate("", JINJA, "", ("<|im_end|>",), {})
    tokenizer = Tokenizer(folder)
    found = render_all([conversation], template, tokenizer, Rules(5000, **rules))
    assert found.problems == []
    return tokenizer.decode(list(found.samples[0].ids), skip_special_tokens=False)


def test_tools_and_calls_are_trained_as_ollama_gives_them(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)
    given = row(TOOL, arguments={"where": {"z": "北", "a": [1]}, "many": 2})
    served = text(folder, given, ollama_tools=True)
    assert served.startswith(NORMAL + "\n")
    assert '{"name": "find", "arguments": {"many": 2, "where": {"a": [1], "z": "北"}}}' in served
    raw = text(folder, given)
    assert '"strict": true' in raw
    assert '"arguments": {"where": {"z": "北", "a": [1]}, "many": 2}' in raw


def test_every_training_does_so() -> None:
    assert rules_of(Config(model_name_or_path="x", dataset="y")).ollama_tools


def test_what_is_in_order_stays_and_a_row_without_tools_is_the_same_object() -> None:
    given = row(json.loads(NORMAL), arguments={"a": 1, "b": 2})
    assert as_ollama_gives(given) == given
    plain = Conversation(({"role": "user", "content": "x"},), "r")
    assert as_ollama_gives(plain) is plain


@pytest.mark.parametrize(
    ("properties", "key"),
    [
        (["a"], "tools[1].parameters"),
        ({"a": "string"}, "tools[1].parameters.properties.a"),
    ],
)
def test_a_schema_that_is_none_is_named(properties: Any, key: str) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    with pytest.raises(BadRow) as caught:
        as_ollama_gives(row({"type": "function", "function": function}))
    problem = caught.value.at("rows.json:1")
    assert (problem.code, problem.key) == ("tool-parameters", key)


def test_what_was_dropped_is_said_once() -> None:
    assert dropped_keys([TOOL]) == {
        "strict", "additionalProperties", "default", "minimum", "nested properties",
    }  # fmt: skip
    assert dropped_keys([json.loads(NORMAL)]) == set()
    template = ChatTemplate("", JINJA, "x", ("<|im_end|>",), {}, capabilities=("tools",))
    assert publish_notes(template, [row(TOOL), row(TOOL)]) == (
        "tools are trained as Ollama hands them to a model: keys sorted, without "
        "additionalProperties, default, minimum, nested properties, strict",
    )
    assert publish_notes(template, [row(json.loads(NORMAL))]) == ()
    assert publish_notes(replace(template, capabilities=()), [row()])[0].startswith(
        "Ollama will serve this model without tools"
    )
