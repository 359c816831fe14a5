"""Rows of the three formats, and every way a row can be wrong."""

from __future__ import annotations

from ft2ollama.data.formats import Columns, to_conversation

SHAREGPT = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}


def roles_and_texts(row: object, columns: Columns = Columns()) -> list[tuple[str, str]]:  # noqa: B008
    return [(m["role"], m["content"]) for m in to_conversation(row, columns, "here").messages]


def test_sharegpt() -> None:
    assert roles_and_texts(SHAREGPT) == [("user", "Hi"), ("assistant", "Hello")]
    assert roles_and_texts({**SHAREGPT, "system": "Be brief."})[0] == ("system", "Be brief.")


def test_sharegpt_with_the_tags_of_dataset_info() -> None:
    columns = Columns(
        "sharegpt",
        {"messages": "talk"},
        {"role_tag": "who", "content_tag": "text", "user_tag": "客户", "assistant_tag": "客服"},
    )
    row = {"talk": [{"who": "客户", "text": "你好"}, {"who": "客服", "text": "您好！"}]}
    assert roles_and_texts(row, columns) == [("user", "你好"), ("assistant", "您好！")]


def test_alpaca_joins_instruction_and_input_as_llama_factory_does() -> None:
    row = {
        "instruction": "Translate",
        "input": "cat",
        "output": "chat",
        "system": "S",
        "history": [["a", "b"]],
    }
    assert roles_and_texts(row) == [
        ("system", "S"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "Translate\ncat"),
        ("assistant", "chat"),
    ]
    assert roles_and_texts({"instruction": "Q", "input": "", "output": "A"})[0] == ("user", "Q")


def test_openai_messages() -> None:
    row = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    assert roles_and_texts(row) == [("user", "Q"), ("assistant", "A")]
