"""The verdict on replies and prompts, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ft2ollama.errors import UsageError
from ft2ollama.ollama_api import Reply
from ft2ollama.proof import EffectCheck, PromptCheck, Proof, Speech, compare_reply, make_speech
from ft2ollama.proof.differences import ids_difference, marked, text_difference
from ft2ollama.proof.effect import Choice
from ft2ollama.publish import public_names
from ft2ollama.runs import create_run
from ft2ollama.scores import contains_facts

SPEECH = Speech(special=("<|im_end|>",))
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {}}}]


def reference(text: str, *, stopped: bool = True, **more: Any) -> dict[str, Any]:
    return {"question": "Q", "text": text, "stopped": stopped, "ids": [1] * len(text), **more}


def answer(text: str, *, stopped: bool = True, thinking: str = "", calls: Any = ()) -> Reply:
    reason = "stop" if stopped else "length"
    return Reply(text, reason, 1, 1, 0.1, thinking, tuple({"function": call} for call in calls))


def test_agreement_is_the_share_of_the_common_beginning() -> None:
    def agreement(expected: str, got: str, *, stopped: bool = True) -> float:
        given = reference(expected, stopped=stopped)
        return compare_reply(given, answer(got, stopped=stopped), SPEECH).agreement

    assert agreement("abcd", "abcd") == 1.0
    assert agreement("abcd", "abXY") == 0.5
    assert agreement("abcd", "abcdefgh") == 0.5
    assert agreement("abcd", "abcdefgh", stopped=False) == 1.0
    assert agreement("", "") == 1.0
    assert agreement("a" * 900, "a" * 300 + "b" * 600) == 1.0  # beginnings


@pytest.mark.parametrize(
    ("got", "stopped", "problem"),
    [
        ("abcd<|im_end|>", True, "holds the control token <|im_end|>"),
        ("  ", True, "is empty"),
        ("abcd", False, "does not end where the trainer's reply ends"),
        ("abcd", True, ""),
    ],
)
def test_problems_of_a_reply(got: str, stopped: bool, problem: str) -> None:
    given = answer(got, stopped=stopped)
    assert compare_reply(reference("abcd"), given, SPEECH).problem == problem


def test_a_token_that_the_trained_model_itself_wrote_is_no_leak() -> None:
    wrote = reference("ab", raw="a<|im_end|>b")
    check = compare_reply(wrote, answer("a<|im_end|>b"), SPEECH)
    assert (check.problem, check.agreement) == ("", 1.0)


CALL = '<tool_call>\n{"name": "now", "arguments": {"zone": "CET", "am": true}}\n</tool_call>'
CALLED = {"name": "now", "arguments": {"am": True, "zone": "CET"}}
TALKS = Speech(special=("<|im_end|>",), tools=True, tag="<tool_call>", thoughts=("<t>", "</t>"))


@pytest.mark.parametrize(
    ("got", "problem", "agreement"),
    [
        (answer("", calls=[CALLED]), "", 1.0),
        (
            answer(CALL),
            'calls no tool; the trainer\'s calls now({"am": true, "zone": "CET"}), Ollama gives '
            '<tool_call>⏎{"name":·"now",·"arguments":·{"zone":·"CET",·"am',
            0.0,
        ),
        (answer("", calls=[{"name": "later", "arguments": {}}]), "", 0.0),
    ],
)
def test_tool_calls_are_compared_by_name_and_arguments(
    got: Reply, problem: str, agreement: float
) -> None:
    check = compare_reply(reference("", raw=CALL, tools=TOOLS), got, TALKS)
    assert (check.problem, check.agreement) == (problem, agreement)


def test_json_that_names_no_tool_is_text() -> None:
    text = 'Send {"name": "nobody", "arguments": {}} or {"name": "now"} or {broken'
    check = compare_reply(reference("", raw=text, tools=TOOLS), answer(text), TALKS)
    assert (check.problem, check.expected) == ("", text)


def test_a_call_that_is_no_json_is_the_trained_models_own_fault() -> None:
    broken = reference("", raw=CALL.replace('"arguments": ', ""), tools=TOOLS)
    assert "tool call that is no JSON" in compare_reply(broken, answer(""), TALKS).problem


def test_thoughts_have_to_stand_apart() -> None:
    wrote = reference("", raw="<t>\nWell.\n</t>\n\nYes.")
    apart = compare_reply(wrote, answer("Yes.", thinking="Well."), TALKS)
    assert (apart.problem, apart.agreement) == ("", 1.0)
    mixed = compare_reply(wrote, answer("<t>\nWell.\n</t>\n\nYes."), TALKS)
    assert mixed.problem == "has its thoughts in the text: <t>⏎Well.⏎</t>⏎⏎Yes."
    opened = reference("", raw="Well.\n</t>\n\nYes.")  # where the prompt opens the thought
    assert compare_reply(opened, answer("Yes.", thinking="Well."), TALKS).agreement == 1.0


def test_how_a_template_lets_a_server_take_replies_apart() -> None:
    gotmpl = (
        "{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ .Content }}"
        "{{ if .ToolCalls }}<call>{{ range .ToolCalls }}{{ .Function.Name }}{{ end }}{{ end }}"
        "{{ end }}{{ .Tools }}"
    )
    speech = make_speech(gotmpl, ("<|im_end|>", "<call>", "</t>"))
    assert speech == Speech(("<|im_end|>",), True, "<call>", ("<t>", "</t>"))
    assert make_speech("{{ .Prompt }}", ("<e>",)) == Speech(("<e>",))


def test_a_proof_fails_for_every_reason_at_once() -> None:
    wrong = PromptCheck("user", "ids", False, 4, 5, "first difference at token 2")
    bad = compare_reply(
        reference("abcd", place="rows.jsonl:7"), answer("Xbcd", stopped=False), SPEECH
    )
    choice = Choice("training answer 1", "I am", "Nova", "a", "a", "a")
    lost = EffectCheck((choice,), 1, 5, 2, 3.0, 0.5)
    assert Proof((wrong,), (bad,), 0.6, effect=lost).failures == [
        "prompt 'user': first difference at token 2",
        "reply to 'Q' (rows.jsonl:7): does not end where the trainer's reply ends",
        "replies agree to 0% with the trainer's, bar 60%; the worst: 'Q' (rows.jsonl:7), 0%\n"
        "  trained  'abcd'\n  served   'Xbcd'",
        "effect: at 0 of 1 places Ollama writes what was taught, at 1 what the untrained base "
        "writes",
    ]
    good = compare_reply(reference("abcd"), answer("abcd"), SPEECH)
    held = EffectCheck((replace(choice, served="Nova"),), 1, 5, 2, 3.0, 0.5)
    proof = Proof((PromptCheck("user", "ids", True, 4, 4),), (good,), 0.6, effect=held)
    assert proof.failures == []
    assert [line.verdict for line in proof.lines()] == ["equal"] * 3
    same = EffectCheck((replace(choice, served="Nova", control="Nova"),), 1, 5, 2, 3.0, 0.5)
    assert "not the base of this run" in same.failure


def test_a_prompt_is_shown_with_signs_for_what_is_not_seen() -> None:
    assert marked("a b\n\tc\u3000d\u200de\u0301") == "a·b⏎⇥c<U+3000>d<U+200D>e<U+0301>"
    assert text_difference("one two\n", "one two") == (
        "first difference at character 8\n  trained  one·two▸⏎\n  served   one·two▸(ends here)"
    )
    words = {1: "<s>", 2: "user\n", 3: " hi", 4: "system "}

    def decode(ids: Sequence[int]) -> str:
        return "".join(words[i] for i in ids)

    assert ids_difference([1, 4, 2, 3], [1, 2, 3], decode) == (
        "4 tokens trained, 3 served; first difference at token 2\n"
        "  trained  <s>▸system·user⏎·hi  ids [4 2 3]\n"
        "  served   <s>▸user⏎·hi  ids [2 3]"
    )
    assert ids_difference([1, 2], [1], decode).endswith("served   <s>▸(ends here)")
    assert ids_difference([1, 2], [1, 3]).endswith("served   [3]")
    assert ids_difference([1, 2], [1, 2], decode) == ""


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
