"""Tools and calls: OpenAI's files and ShareGPT's give the same conversation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.formats import Columns, to_conversation

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": "Weather of a city", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": FUNCTION}]
# How Qwen's, Hermes' and most other templates write a call.
_LIKE_QWEN = """{% for m in messages %}{% for call in m.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{{ m.content }}{% endfor %}"""
ARGUMENTS = {"city": "深圳", "days": 2}


def read(row: dict[str, Any]) -> tuple[Conversation, list[str]]:
    warned: list[str] = []

    def warn(code: str, key: str = "", **values: Any) -> None:
        warned.append(code)

    return to_conversation(row, Columns(), "here", warn), warned


def openai(arguments: Any) -> dict[str, Any]:
    call = {"id": "c1", "type": "function"}
    return {
        "messages": [
            {"role": "user", "content": "天气？"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{**call, "function": {"name": "weather", "arguments": arguments}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "31 度"},
            {"role": "assistant", "content": "31 度。"},
        ],
        "tools": TOOLS,
        "parallel_tool_calls": False,
    }


def sharegpt(value: Any, tools: Any) -> dict[str, Any]:
    return {
        "conversations": [
            {"from": "human", "value": "天气？"},
            {"from": "function_call", "value": value},
            {"from": "observation", "value": "31 度"},
            {"from": "gpt", "value": "31 度。"},
        ],
        "tools": tools,
    }


def bare(conversation: Conversation) -> tuple[Any, Any]:
    """Without the ids, which ShareGPT does not have."""
    text = json.dumps(conversation.messages)
    messages = json.loads(text.replace(', "id": "c1"', "").replace(', "tool_call_id": "c1"', ""))
    return messages, conversation.tools


def test_openai_arguments_become_an_object() -> None:
    conversation, warned = read(openai(json.dumps(ARGUMENTS)))
    call = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": ARGUMENTS}}
    assert conversation.messages[1] == {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "content": "31 度", "tool_call_id": "c1", "name": "weather"}
    assert conversation.messages[2] == result
    assert conversation.tools == tuple(TOOLS)
    assert warned == []


@pytest.mark.parametrize("arguments", [ARGUMENTS, json.dumps(ARGUMENTS, ensure_ascii=False)])
def test_however_arguments_are_written_the_conversation_is_the_same(arguments: Any) -> None:
    assert read(openai(arguments))[0] == read(openai(json.dumps(ARGUMENTS)))[0]


def test_arguments_that_are_encoded_twice_are_decoded_and_said() -> None:
    conversation, warned = read(openai(json.dumps(json.dumps(ARGUMENTS))))
    assert conversation == read(openai(ARGUMENTS))[0]
    assert warned == ["arguments-twice"]


@pytest.mark.parametrize("nothing", [None, "", "{}", {}])
def test_a_call_without_arguments(nothing: Any) -> None:
    call = read(openai(nothing))[0].messages[1]["tool_calls"][0]
    assert call["function"]["arguments"] == {}


@pytest.mark.parametrize(
    "tools", [TOOLS, json.dumps(TOOLS), [FUNCTION], json.dumps([FUNCTION], ensure_ascii=False)]
)
@pytest.mark.parametrize("as_list", [False, True])
def test_sharegpt_gives_the_same_as_openai(tools: Any, as_list: bool) -> None:
    call = {"name": "weather", "arguments": ARGUMENTS}
    conversation, warned = read(sharegpt(json.dumps([call] if as_list else call), tools))
    assert bare(conversation) == bare(read(openai(ARGUMENTS))[0])
    assert warned == []


def test_the_older_keys_of_openai() -> None:
    row = openai(ARGUMENTS)
    row["functions"] = [FUNCTION]
    del row["tools"]
    del row["messages"][1]["tool_calls"]
    row["messages"][1]["function_call"] = {"name": "weather", "arguments": json.dumps(ARGUMENTS)}
    row["messages"][2] = {"role": "function", "name": "weather", "content": "31 度"}
    assert bare(read(row)[0]) == bare(read(openai(ARGUMENTS))[0])


def test_parallel_calls_and_their_results() -> None:
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("深圳", "北京")]
    turns = sharegpt(json.dumps(calls), TOOLS)["conversations"]
    one_turn = [*turns[:3], {"from": "observation", "value": "20 度"}, turns[3]]
    first, second = ({"from": "function_call", "value": json.dumps(call)} for call in calls)
    two_turns = [turns[0], first, second, *one_turn[2:]]
    read_once = [read({"conversations": talk})[0] for talk in (one_turn, two_turns)]
    assert read_once[0] == read_once[1]
    assert [m["role"] for m in read_once[0].messages] == [
        "user", "assistant", "tool", "tool", "assistant",
    ]  # fmt: skip
    made = read_once[0].messages[1]["tool_calls"]
    assert [call["function"]["arguments"]["city"] for call in made] == ["深圳", "北京"]
    assert [m["name"] for m in read_once[0].messages if m["role"] == "tool"] == ["weather"] * 2


def test_results_find_their_call_by_id_whatever_their_order() -> None:
    row = openai(ARGUMENTS)
    other = {"id": "c2", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    row["messages"][1]["tool_calls"].append(other)
    row["messages"].insert(2, {"role": "tool", "tool_call_id": "c2", "content": "12:00"})
    names = [m["name"] for m in read(row)[0].messages if m["role"] == "tool"]
    assert names == ["clock", "weather"]


def test_a_call_may_be_the_last_turn_and_stand_beside_text() -> None:
    row = openai(ARGUMENTS)
    row["messages"] = row["messages"][:2]
    row["messages"][1]["content"] = "Let me look."
    conversation, _ = read(row)
    assert conversation.messages[1]["content"] == "Let me look."
    assert len(conversation.messages) == 2


@pytest.mark.oracle
def test_a_chat_template_writes_arguments_as_an_object_not_as_text_in_text() -> None:
    """LLaMA-Factory trains `"arguments": "{\\"city\\": ...}"` for the same OpenAI row."""
    from tokenizers import Tokenizer, models

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    conversation, _ = read(openai(json.dumps(ARGUMENTS)))
    text = tokenizer.apply_chat_template(
        list(conversation.messages),
        tools=list(conversation.tools),
        chat_template=_LIKE_QWEN,
        tokenize=False,
    )
    assert '{"name": "weather", "arguments": {"city": "深圳", "days": 2}}' in text
