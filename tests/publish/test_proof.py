"""The verdict on replies and prompts, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from ft2ollama.errors import UsageError
from ft2ollama.proof import PromptCheck, Proof, compare_reply
from ft2ollama.publish import public_names
from ft2ollama.runs import create_run
from ft2ollama.scores import contains_facts

STOP = ["<|im_end|>"]


def reference(text: str, *, stopped: bool = True) -> dict[str, Any]:
    return {"question": "Q", "text": text, "stopped": stopped, "ids": list(range(len(text)))}


def test_agreement_is_the_share_of_the_common_beginning() -> None:
    assert compare_reply(reference("abcd"), "abcd", True, STOP).agreement == 1.0
    assert compare_reply(reference("abcd"), "abXY", True, STOP).agreement == 0.5
    assert compare_reply(reference("abcd"), "abcdefgh", True, STOP).agreement == 0.5
    assert compare_reply(reference("abcd", stopped=False), "abcdefgh", False, STOP).agreement == 1.0
    assert compare_reply(reference(""), "", True, STOP).agreement == 1.0


@pytest.mark.parametrize(
    ("got", "stopped", "problem"),
    [
        ("abcd<|im_end|>", True, "holds the template token <|im_end|>"),
        ("  ", True, "is empty"),
        ("abcd", False, "does not end where the trainer's reply ends"),
        ("abcd", True, ""),
    ],
)
def test_problems_of_a_reply(got: str, stopped: bool, problem: str) -> None:
    assert compare_reply(reference("abcd"), got, stopped, STOP).problem == problem


def test_a_proof_fails_for_every_reason_at_once() -> None:
    wrong = PromptCheck("user", "ids", False, 4, 5, "first difference at token 2")
    bad = compare_reply(reference("abcd"), "Xbcd", False, STOP)
    assert Proof((wrong,), (bad,), 0.6).failures == [
        "prompt 'user': first difference at token 2",
        "reply to 'Q': does not end where the trainer's reply ends",
        "replies agree to 0% with the trainer's, bar 60%",
    ]
    good = compare_reply(reference("abcd"), "abcd", True, STOP)
    assert Proof((PromptCheck("user", "ids", True, 4, 4),), (good,), 0.6).failures == []


def test_the_public_name_and_the_version_of_a_run() -> None:
    run = create_run("faq v1 中文", "")
    public, tag = public_names("shop/faq", run)
    assert public == "shop/faq:latest"
    assert tag.startswith("shop/faq:")
    assert tag.rpartition(":")[2].isascii()
    assert public_names("faq:prod", run)[0] == "faq:prod"
    with pytest.raises(UsageError, match="run's own version name"):
        public_names(tag.replace("shop/", ""), run)
    with pytest.raises(UsageError):
        public_names("my model", run)


def test_facts_are_all_of_with_alternatives() -> None:
    assert contains_facts("Three YEARS, amber", ["3 years|three years", "amber"])
    assert not contains_facts("three years", ["3 years|three years", "amber"])


@pytest.mark.parametrize(
    ("text", "word", "held"),
    [
        ("It has 4 chambers", "4", True),
        ("The answer is 4.", "4", True),
        ("98.6 degrees", "98", True),
        ("3.477 cubic meters", "4", False),
        ("3.4 liters", "4", False),
        ("40 chambers", "4", False),
        ("4,000 chambers", "4", False),
        ("1,000 grams", "1,000", True),
        ("Amperes", "ampere", True),
    ],
)
def test_a_number_stands_alone(text: str, word: str, held: bool) -> None:
    assert contains_facts(text, [word]) == held
