"""The same talk in every format is the same conversation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.formats import Columns, detect_format, to_conversation
from ft2ollama.data.problems import BadRow

SHAREGPT = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
PLAIN = Columns()


def read(row: Any, columns: Columns = PLAIN) -> Conversation:
    return to_conversation(row, columns, "here")


def said(row: Any, columns: Columns = PLAIN) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in read(row, columns).messages]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (SHAREGPT, "sharegpt"),
        ({"conversations": MESSAGES}, "sharegpt"),
        ({"conversations": json.dumps(MESSAGES)}, "sharegpt"),
        ({"messages": MESSAGES}, "messages"),
        ({"messages": SHAREGPT["conversations"]}, "messages"),
        ({"messages": [{"role": "User", "content": "Hi"}, MESSAGES[1]]}, "messages"),
        (MESSAGES, "turns"),
        (SHAREGPT["conversations"], "turns"),
        ({"instruction": "Hi", "output": "Hello"}, "alpaca"),
        ({"instruction": "", "input": "Hi", "output": "Hello"}, "alpaca"),
        ({"instruction": "Hi", "input": None, "output": "Hello", "history": None}, "alpaca"),
        ({"prompt": "Hi", "response": "Hello"}, "pairs"),
        ({"prompt": "Hi", "completion": "Hello"}, "pairs"),
        ({"question": "Hi", "answer": "Hello"}, "pairs"),
        ({"问题": "Hi", "答案": "Hello"}, "pairs"),
        ({"prompt": MESSAGES[:1], "completion": MESSAGES[1:]}, "pairs"),
    ],
)
def test_one_talk_in_every_format(row: Any, kind: str) -> None:
    assert detect_format(row, PLAIN) == kind
    assert list(read(row).messages) == MESSAGES
    assert read(row) == Conversation(tuple(MESSAGES), "here")


def test_alpaca_joins_instruction_and_input_as_llama_factory_does() -> None:
    row = {
        "instruction": " Translate ",
        "input": "\tcat\n",
        "output": " chat\n",
        "system": "S",
        "history": [["a ", " b"]],
    }
    assert said(row) == [
        ("system", "S"),
        ("user", "a "),
        ("assistant", " b"),
        ("user", " Translate \n\tcat\n"),
        ("assistant", " chat\n"),
    ]


def test_the_names_of_dataset_info_and_defaults_for_those_it_leaves_out() -> None:
    row = {"frage": "Q", "input": "more", "output": "A", "system": "S"}
    only_prompt = Columns("alpaca", {"prompt": "frage"})
    assert said(row, only_prompt) == [("system", "S"), ("user", "Q\nmore"), ("assistant", "A")]


def test_any_tags() -> None:
    columns = Columns(
        "sharegpt",
        {"messages": "talk"},
        {
            "role_tag": "who",
            "content_tag": "text",
            "user_tag": "客户",
            "assistant_tag": "客服",
            "system_tag": "规则",
            "function_tag": "调用",
            "observation_tag": "结果",
        },
    )
    turns = [("规则", "S"), ("客户", "Q"), ("调用", '{"name": "w"}'), ("结果", "R"), ("客服", "A")]
    row = {"talk": [{"who": role, "text": text} for role, text in turns]}
    assert said(row, columns) == [
        ("system", "S"), ("user", "Q"), ("assistant", ""), ("tool", "R"), ("assistant", "A"),
    ]  # fmt: skip
    # Tags that are not listed keep their defaults: LLaMA-Factory would know no role at all.
    assert said(SHAREGPT, Columns("sharegpt", {}, {"system_tag": "规则"})) == [
        ("user", "Hi"), ("assistant", "Hello"),
    ]  # fmt: skip


def test_system_by_turn_by_column_and_by_developer() -> None:
    turn = {"role": "system", "content": "S"}
    wanted = [("system", "S"), ("user", "Hi"), ("assistant", "Hello")]
    assert said({"messages": MESSAGES, "system": "S"}) == wanted
    assert said({"messages": [turn, *MESSAGES]}) == wanted
    assert said({"messages": [turn, *MESSAGES], "system": "S"}) == wanted
    assert said({"messages": [{"role": "developer", "content": "S"}, *MESSAGES]}) == wanted
    assert said({"messages": MESSAGES, "system": ""}) == wanted[1:]


def test_weights_say_what_is_not_learned() -> None:
    turns = [
        MESSAGES[0],
        {**MESSAGES[1], "weight": 0},
        MESSAGES[0],
        {**MESSAGES[1], "weight": 1},
    ]
    assert read({"messages": turns}).unlearned == {1}
    assert read({"messages": turns, "system": "S"}).unlearned == {2}
    assert "weight" not in read({"messages": turns}).messages[1]


def test_of_conversational_prompt_and_completion_the_completion_is_learned() -> None:
    row = {"prompt": [*MESSAGES, MESSAGES[0]], "completion": [MESSAGES[1]]}
    assert read(row).unlearned == {1}


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    assert said({"messages": [{"role": "user", "content": parts}, MESSAGES[1]]})[0][1] == "Hi"


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_are_kept_beside_the_answer(key: str) -> None:
    turn = read({"messages": [MESSAGES[0], {**MESSAGES[1], key: "Hm."}]}).messages[1]
    assert turn == {**MESSAGES[1], "reasoning_content": "Hm."}


def test_a_think_block_stays_in_the_text() -> None:
    text = "<think>\nHm.\n</think>\n\nHello"
    turn = read({"instruction": "Hi", "output": text}).messages[1]
    assert turn == {"role": "assistant", "content": text}


def test_an_empty_list_or_a_list_of_texts_is_no_row() -> None:
    for row in ([], ["Hi", "Hello"], None, True):
        with pytest.raises(BadRow, match="row-not-object"):
            read(row)
