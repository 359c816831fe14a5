"""Every token of eleven conversations, against lists that a person read (masks/README.md)."""

from __future__ import annotations

import pytest
from hand_masks import CONVERSATIONS, FOLDER, lines, read

pytestmark = [pytest.mark.oracle, pytest.mark.slow, pytest.mark.usefixtures("chat_models")]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_token_is_that_of_the_list(name: str) -> None:
    assert list(lines(name)) == read(name)


def test_the_lists_hold_what_templates_have() -> None:
    """Eight templates or more, tools, thoughts and a stop token that is learned in each."""
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(CONVERSATIONS)
    called = {name for name, (talk, _, _) in CONVERSATIONS.items() if "tool_calls" in str(talk)}
    thought = {name for name, (talk, *_) in CONVERSATIONS.items() if "reasoning" in str(talk)}
    assert len(CONVERSATIONS) >= 8
    assert len(called) >= 6
    assert len(thought) >= 5
    for name in CONVERSATIONS:
        assert " learn " in read(name)[-1]
        assert any(" -     " in line for line in read(name))
