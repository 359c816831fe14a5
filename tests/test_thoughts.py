"""Thoughts and answers of a text that grows, whatever the places where it is cut."""

from __future__ import annotations

import pytest

from ft2ollama.ollama_chat import Thought
from ft2ollama.thoughts import Unfolding, split_thought

MARKS = ("<think>\n", "\n</think>\n\n")


@pytest.mark.parametrize(
    ("text", "begun", "thought", "answer"),
    [
        ("<think>\nHm, 2+2.\n</think>\n\nFour.", False, "Hm, 2+2.", "Four."),
        ("Hm, 2+2.\n</think>\n\nFour.", True, "Hm, 2+2.", "Four."),
        ("\n<think>还没想完", False, "还没想完", ""),
        (" Four, not <think>.", False, "", " Four, not <think>."),
        ("<thinking is hard>", False, "", "<thinking is hard>"),
        ("a < b", True, "a < b", ""),
        ("", False, "", ""),
    ],
)
def test_the_pieces_are_the_whole(text: str, begun: bool, thought: str, answer: str) -> None:
    assert split_thought(text, MARKS, begun=begun) == (thought, answer)
    unfolding, thoughts, answers = Unfolding(MARKS, begun=begun), "", ""
    for end in range(len(text) + 1):
        for piece in unfolding.news(text[:end], unfinished=end < len(text)):
            if isinstance(piece, Thought):
                assert not answers
                thoughts += piece.text
            else:
                answers += piece
    assert (thoughts.strip(), answers) == (thought, answer)
    assert (unfolding.thought, unfolding.answer) == (thought, answer)


def test_text_is_shown_as_soon_as_it_cannot_be_a_mark() -> None:
    unfolding = Unfolding(MARKS)
    assert list(unfolding.news("<thi", unfinished=True)) == []
    assert list(unfolding.news("<thing", unfinished=True)) == ["<thing"]
    assert list(unfolding.news("<thing>!", unfinished=True)) == [">!"]


def test_half_a_character_waits_for_its_other_half() -> None:
    unfolding = Unfolding(MARKS)
    assert list(unfolding.news("小\ufffd", unfinished=True)) == ["小"]
    assert list(unfolding.news("小杉", unfinished=True)) == ["杉"]
    assert list(unfolding.news("小杉\ufffd")) == ["\ufffd"]
