"""Commands of a dialogue, and questions of several lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ft2ollama.data.load import load_dataset
from ft2ollama.dialogue import Dialogue, Read, read_question
from ft2ollama.errors import UsageError


def talked(system: str = "") -> Dialogue:
    dialogue = Dialogue([{"role": "system", "content": system}] if system else [])
    for number in (1, 2):
        dialogue.ask(f"问题{number}?")
        dialogue.answer(f"answer {number}")
    return dialogue


def lines(*texts: str) -> Read:
    left: Iterator[str] = iter(texts)
    return lambda _: next(left, None)


def test_reset_keeps_the_system_prompt_and_system_changes_it() -> None:
    dialogue = talked("Be brief.")
    dialogue.command("/reset")
    assert dialogue.messages == [{"role": "system", "content": "Be brief."}]
    dialogue.command("/system  你是小雅。 ")
    assert dialogue.messages == [{"role": "system", "content": "你是小雅。"}]
    dialogue.command("/system")
    assert dialogue.messages == []


def test_undo_takes_back_question_and_answer() -> None:
    dialogue = talked("S")
    dialogue.command("/undo")
    assert [turn["role"] for turn in dialogue.messages] == ["system", "user", "assistant"]
    dialogue.ask("unanswered")
    dialogue.command("/undo")
    assert len(dialogue.messages) == 3
    dialogue.command("/undo")
    assert dialogue.command("/undo") == "  nothing to take back"
    assert len(dialogue.messages) == 1


@pytest.mark.parametrize("name", ["good.json", "good.jsonl"])
def test_what_is_saved_can_be_trained_on(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    talked("S").command(f"/save {path}")
    (row,) = load_dataset([str(path)], tmp_path).conversations
    assert [turn["content"] for turn in row.messages] == [
        "S", "问题1?", "answer 1", "问题2?", "answer 2",
    ]  # fmt: skip


def test_saving_appends_to_lines_and_overwrites_nothing(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"messages": []}')  # no line end
    talked().command(f"/save {rows}")
    assert [len(json.loads(line)["messages"]) for line in rows.read_text().splitlines()] == [0, 4]
    one = tmp_path / "one.json"
    talked().command(f"/save {one}")
    with pytest.raises(UsageError, match="exists"):
        talked().command(f"/save {one}")
    with pytest.raises(UsageError, match="no answer"):
        Dialogue().command(f"/save {rows}")
    with pytest.raises(UsageError, match="needs a file"):
        talked().command("/save")


def test_help_ends_and_unknown_commands() -> None:
    assert "/undo" in str(Dialogue().command("/help"))
    assert Dialogue().command("/bye") is None
    with pytest.raises(UsageError, match="no command /rest"):
        Dialogue().command("/rest")


def test_questions_of_several_lines() -> None:
    assert read_question(lines("one line")) == "one line"
    assert (
        read_question(lines('"""', "def f():", "    return 1", '"""')) == "def f():\n    return 1"
    )
    assert read_question(lines('"""begun', 'ended"""')) == "begun\nended"
    assert read_question(lines('"""one"""')) == "one"
    assert read_question(lines('"""', "never closed")) == "never closed"
    assert read_question(lines()) is None
