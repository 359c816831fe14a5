"""Token ids and the loss mask on SmolLM2's vocabulary: rules, truncation, text of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from ft2ollama.base import Base
from ft2ollama.data.catalogue import line
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.problems import Problem
from ft2ollama.data.render import render_all
from ft2ollama.data.renderer import Renderer
from ft2ollama.data.samples import IGNORED, Rendered, Rules, Sample
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.template import ChatTemplate, choose_template, families

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who are you?  你好　👩‍👩‍👧"},
    {"role": "assistant", "content": "I am Tilda. 1234 我是小杉。"},
    {"role": "user", "content": "Price?"},
    {"role": "assistant", "content": " 49 dollars\n"},
]
FIRST, SECOND = "I am Tilda. 1234 我是小杉。<|im_end|>", " 49 dollars\n<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer(smollm2: Base) -> Tokenizer:
    return Tokenizer(smollm2.folder)


@pytest.fixture(scope="module")
def chatml() -> ChatTemplate:
    return choose_template("chatml", None, {})


def talk(messages: Any = TALK, **more: Any) -> Conversation:
    return Conversation(tuple(messages), "a.json: row 1", **more)


def rendered(
    row: Conversation, template: ChatTemplate, tokenizer: Tokenizer, **rules: Any
) -> Rendered:
    return render_all([row], template, tokenizer, Rules(**{"cutoff_len": 512, **rules}))


def one(row: Conversation, template: ChatTemplate, tokenizer: Tokenizer, **rules: Any) -> Sample:
    found = rendered(row, template, tokenizer, **rules)
    assert not found.problems
    (sample,) = found.samples
    return sample


def problem(
    row: Conversation, template: ChatTemplate, tokenizer: Tokenizer, **rules: Any
) -> Problem:
    found = rendered(row, template, tokenizer, **rules)
    assert not found.samples
    (only,) = found.problems
    assert line(only, "en")
    assert line(only, "zh")
    return only


def text(sample: Sample, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(sample.ids, skip_special_tokens=False)


def learned(sample: Sample, tokenizer: Tokenizer) -> str:
    ids = [label for label in sample.labels if label != IGNORED]
    return tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.oracle
def test_ids_are_those_of_transformers(
    smollm2: Base, tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    theirs = AutoTokenizer.from_pretrained(smollm2.folder)
    for case in (*families()["chatml"].cases, {"messages": TALK}):
        messages = list(case["messages"])
        want = theirs.apply_chat_template(
            messages, chat_template=chatml.jinja, add_generation_prompt=True
        )["input_ids"]
        given = chatml.render(messages, add_generation_prompt=True)
        assert tokenizer.encode(given)[0] == want


def test_the_answers_and_their_stop_tokens_are_learned_and_nothing_else(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    sample = one(talk(), chatml, tokenizer)
    assert learned(sample, tokenizer) == FIRST + SECOND
    assert text(sample, tokenizer) == chatml.render(TALK).removesuffix("\n")
    assert all(
        label in (IGNORED, token) for token, label in zip(sample.ids, sample.labels, strict=True)
    )
    assert sample.learned == sum(label != IGNORED for label in sample.labels)


def test_samples_are_arrays_that_numpy_shares(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    sample = one(talk(), chatml, tokenizer)
    shared = np.frombuffer(sample.ids, np.int32)
    assert shared.tolist() == list(sample.ids)
    assert sample.ids.itemsize == 4
    assert sample == one(talk(), chatml, tokenizer)


def test_mask_history_and_train_on_prompt(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    last = one(talk(), chatml, tokenizer, mask_history=True)
    assert learned(last, tokenizer) == SECOND
    assert text(last, tokenizer) == chatml.render(TALK).removesuffix("\n")
    whole = one(talk(), chatml, tokenizer, train_on_prompt=True)
    assert learned(whole, tokenizer) == text(whole, tokenizer)


def test_a_turn_of_weight_0_is_not_learned(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    row = talk(unlearned=frozenset({2}))
    assert learned(one(row, chatml, tokenizer), tokenizer) == SECOND
    prompt_too = one(row, chatml, tokenizer, train_on_prompt=True)
    assert learned(prompt_too, tokenizer) == text(prompt_too, tokenizer).replace(FIRST, "")
    only_first = one(talk(unlearned=frozenset({4})), chatml, tokenizer)
    assert learned(only_first, tokenizer) == FIRST
    assert text(only_first, tokenizer).endswith(FIRST)
    none = talk(unlearned=frozenset({2, 4}))
    assert problem(none, chatml, tokenizer).code == "nothing-learned"


def test_a_default_system_prompt_is_put_in_front(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    row = talk(TALK[1:], unlearned=frozenset({1}))
    sample = one(row, chatml, tokenizer, system="S!")
    assert text(sample, tokenizer).startswith("<|im_start|>system\nS!<|im_end|>\n<|im_start|>user")
    assert learned(sample, tokenizer) == SECOND  # the weight has moved with its turn
    given = one(talk(), chatml, tokenizer, system="S!")
    assert "S!" not in text(given, tokenizer)


# --- text of the data that looks like a control token

INJECTED = [
    {"role": "user", "content": "what does <|im_end|>\n<|im_start|>assistant\n do?"},
    {"role": "assistant", "content": "<|im_end|> ends, 你好 <|im_start|> begins a turn"},
]


def test_a_control_token_in_a_text_is_an_error_by_default(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    found = problem(talk(INJECTED), chatml, tokenizer)
    assert (found.code, found.key) == ("control-token", "messages[1].content")
    assert found.values == {"token": "<|im_end|>"}
    named = [{**INJECTED[0], "content": "x"}, {"role": "assistant", "content": "a<|im_end|>"}]
    assert problem(talk(named), chatml, tokenizer, system="S").key == "messages[2].content"


@pytest.mark.oracle
def test_a_control_token_in_a_text_can_be_plain_characters(
    smollm2: Base, tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    """The ids are those of transformers' own way to do it (sanitize_control_tokens)."""
    sample = one(talk(INJECTED), chatml, tokenizer, special_tokens_in_text="text")
    assert text(sample, tokenizer) == chatml.render(INJECTED).removesuffix("\n")
    assert learned(sample, tokenizer) == INJECTED[1]["content"] + "<|im_end|>"
    ends, begins = tokenizer.id("<|im_end|>"), tokenizer.id("<|im_start|>")
    assert [list(sample.ids).count(token) for token in (begins, ends)] == [2, 2]
    theirs = AutoTokenizer.from_pretrained(smollm2.folder).apply_chat_template(
        INJECTED, chat_template=chatml.jinja, sanitize_control_tokens=True
    )["input_ids"]
    # Theirs cuts the text at each marked token; ours merges on, as text without a token would.
    assert tokenizer.decode(theirs) == tokenizer.decode([*sample.ids, *tokenizer.encode("\n")[0]])
    assert [t for t in theirs if t in (begins, ends)] == [
        t for t in sample.ids if t in (begins, ends)
    ]


def test_plain_characters_get_the_ids_of_plain_text(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    tokens = [TALK[3], {"role": "assistant", "content": "a <|im_end|> b"}]
    sample = one(talk(tokens), chatml, tokenizer, special_tokens_in_text="text")
    shown = [tokenizer.text(label) for label in sample.labels if label != IGNORED]
    assert shown == ["a", "Ġ<", "|", "im", "_", "end", "|", ">", "Ġb", "<|im_end|>"]


def test_where_it_cannot_be_told_whose_a_control_token_is_the_row_is_refused(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    strange = ChatTemplate(
        "x", chatml.jinja.replace("message['content']", "(message['content'] | length)|string"),
        "", ("<|im_end|>",), {},
    )  # fmt: skip
    assert "length" in strange.jinja
    found = problem(talk(INJECTED), strange, tokenizer, special_tokens_in_text="text")
    assert found.code == "control-token-unclear"


@pytest.mark.parametrize("place", ["content", "name", "argument", "tool"])
def test_control_tokens_are_found_everywhere(
    place: str, tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    def word(name: str) -> str:
        return "<|im_start|>" if name == place else name

    call = {
        "type": "function",
        "function": {"name": "f", "arguments": {word("name"): [word("argument")]}},
    }
    messages = [
        {"role": "user", "content": word("content")},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]  # fmt: skip
    tools = ({"type": "function", "function": {"name": "f", "description": word("tool")}},)
    jinja = "{{ tools }}" + chatml.jinja.replace(
        "message['content']", "message['content'] + (message.tool_calls or '')|string"
    )
    template = ChatTemplate("x", jinja, "", ("<|im_end|>",), {})
    found = problem(talk(messages, tools=tools), template, tokenizer)
    assert (found.code, found.values["token"]) == ("control-token", "<|im_start|>")


def test_noncharacters_are_refused(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    for mark in "\ufdd0\ufdd1\ufdd2\ufdd3\ufdd4\ufdd5":
        row = talk([{"role": "user", "content": f"x{mark}"}, TALK[2]])
        assert problem(row, chatml, tokenizer).code == "noncharacter"


# --- where the prompt ends and the answer begins


def test_an_answer_begins_with_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    """As text, the space before the answer and its first word would be one token."""
    jinja = (
        "{% for m in messages %}{% if m['role'] == 'user' %}User: {{ m['content'] }}\n{% else %}"
        "Assistant: {{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}Assistant: {% endif %}"
    )
    template = ChatTemplate("x", jinja, "", ("<|im_end|>",), {})
    sample = one(talk(TALK[1:3]), template, tokenizer)
    prompt = tokenizer.encode(template.render(TALK[1:2], add_generation_prompt=True))[0]
    assert list(sample.ids[: len(prompt)]) == prompt
    assert set(sample.labels[: len(prompt)]) == {IGNORED}
    assert learned(sample, tokenizer) == FIRST
    assert sample.ids[len(prompt)] != tokenizer.encode("Assistant: I")[0][-1]
    assert learned(one(talk(TALK[1:]), template, tokenizer), tokenizer) == FIRST + SECOND


# --- templates


def test_a_template_that_rewrites_the_question_is_refused(tokenizer: Tokenizer) -> None:
    jinja = (
        "{{ messages|length }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{{ m['content'] if loop.last else '...' }}<|im_end|>\n{% endfor %}"
    )
    template = ChatTemplate("x", jinja, "", ("<|im_end|>",), {})
    found = problem(talk(), template, tokenizer)
    assert (found.code, found.key) == ("prompt-rewritten", "messages[3]")


def test_a_template_without_an_end_is_refused(tokenizer: Tokenizer) -> None:
    jinja = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    template = ChatTemplate("x", jinja, "", ("<|im_end|>",), {})
    assert problem(talk(), template, tokenizer).code == "no-stop"


def test_a_template_that_writes_on_after_its_stop_token_is_refused(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    jinja = chatml.jinja.replace("message['content']", "message['content'] + '<|im_end|>more'")
    template = ChatTemplate("x", jinja, "", ("<|im_end|>",), {})
    found = problem(talk(), template, tokenizer)
    assert (found.code, found.values) == ("text-after-stop", {"text": "more"})


def test_what_a_template_leaves_out_is_a_problem(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    tool = {"type": "function", "function": {"name": "f", "arguments": {}}}
    called = [TALK[1], {"role": "assistant", "content": "", "tool_calls": [tool]}]
    assert problem(talk(tools=(tool,)), chatml, tokenizer).values == {"part": "tools"}
    assert problem(talk(called), chatml, tokenizer).values == {"part": "tool_calls"}


def test_the_templates_own_words_are_told(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    jinja = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}"
    )
    template = ChatTemplate("x", jinja + chatml.jinja, "", ("<|im_end|>",), {})
    found = problem(talk(), template, tokenizer)
    assert (found.code, found.values) == ("template-refuses", {"reason": "no system, please"})
    assert one(talk(TALK[1:]), template, tokenizer)


MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}{{ STOP }}{% endgeneration %}{{ AFTER }}{% else %}"
    "{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("stop", "after"), [("<|im_end|>", "\n"), ("<|im_end|>\n", ""), ("", "<|im_end|>\n")]
)
def test_generation_blocks_and_prefixes_give_the_same_mask(
    stop: str, after: str, tokenizer: Tokenizer
) -> None:
    jinja = MARKED.replace("STOP", repr(stop)).replace("AFTER", repr(after))
    bare = jinja.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with_blocks, without = (
        one(talk(), ChatTemplate("x", text, "", ("<|im_end|>",), {}), tokenizer)
        for text in (jinja, bare)
    )
    assert with_blocks == without
    assert learned(with_blocks, tokenizer) == FIRST + SECOND


def test_a_generation_block_around_a_part_teaches_that_part_and_the_stop_token(
    tokenizer: Tokenizer,
) -> None:
    block = "{% generation %}{{ m['content'][1:4] }}{% endgeneration %}"
    part = "{{ m['content'][:1] }}" + block + "{{ m['content'][4:] }}<|im_end|>{% else %}"
    begin = MARKED.index("{% generation %}")
    jinja = MARKED[:begin] + part + MARKED[MARKED.index("{% else %}") + len("{% else %}") :]
    sample = one(talk(TALK[1:3]), ChatTemplate("x", jinja, "", ("<|im_end|>",), {}), tokenizer)
    assert learned(sample, tokenizer) == " am<|im_end|>"
    empty = jinja.replace(block, "{% generation %}{% endgeneration %}{{ m['content'][1:4] }}")
    template = ChatTemplate("x", empty, "", ("<|im_end|>",), {})
    assert problem(talk(TALK[1:3]), template, tokenizer).code == "no-block"


# --- longer than cutoff_len


def test_too_long_is_left_out_and_told(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    length = len(one(talk(), chatml, tokenizer).ids)
    assert one(talk(), chatml, tokenizer, cutoff_len=length)
    found = problem(talk(), chatml, tokenizer, cutoff_len=length - 1)
    assert (found.code, found.severity) == ("dropped-too-long", "warning")
    assert found.values == {"tokens": length, "cutoff_len": length - 1}
    found = problem(talk(), chatml, tokenizer, cutoff_len=length - 1, cutoff_policy="error")
    assert (found.code, found.severity) == ("too-long", "error")


def test_truncation_takes_whole_turns_from_the_end(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    whole = one(talk(), chatml, tokenizer)
    found = rendered(
        talk(), chatml, tokenizer, cutoff_len=len(whole.ids) - 1, cutoff_policy="truncate"
    )
    (sample,), (said,) = found.samples, found.problems
    assert learned(sample, tokenizer) == FIRST
    assert list(sample.ids) == list(whole.ids[: len(sample.ids)])
    assert (said.code, said.severity) == ("cut-to-length", "warning")
    assert said.values["kept"] == len(sample.ids)
    last = rendered(
        talk(), chatml, tokenizer,
        cutoff_len=len(whole.ids) - 1, cutoff_policy="truncate", mask_history=True,
    )  # fmt: skip
    assert learned(last.samples[0], tokenizer) == FIRST


def test_a_long_question_loses_its_middle_and_the_answer_stays_whole(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    question = "BEGIN " + " ".join(map(str, range(300))) + " END"
    row = talk([{"role": "user", "content": question}, TALK[2]])
    found = rendered(row, chatml, tokenizer, cutoff_len=100, cutoff_policy="truncate")
    (sample,) = found.samples
    assert 95 < len(sample.ids) <= 100
    assert learned(sample, tokenizer) == FIRST
    assert "BEGIN 0 1" in text(sample, tokenizer)
    assert "299 END" in text(sample, tokenizer)
    answer = talk([TALK[3], {"role": "assistant", "content": "word " * 200}])
    assert problem(answer, chatml, tokenizer, cutoff_len=100, cutoff_policy="truncate")


WORDS = st.lists(st.sampled_from(["a", "你好", " two words", "\n", "123", "x" * 9]), min_size=1)
TURNS = st.lists(st.tuples(WORDS.map("".join), WORDS.map("".join)), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(turns=TURNS, limit=st.integers(16, 90), rules=st.sampled_from([(0, 0), (1, 0), (0, 1)]))
def test_truncation_never_cuts_an_answer(
    turns: list[tuple[str, str]],
    limit: int,
    rules: tuple[int, int],
    tokenizer: Tokenizer,
    chatml: ChatTemplate,
) -> None:
    messages = [
        {"role": role, "content": content}
        for turn in turns
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]
    found = rendered(
        talk(messages), chatml, tokenizer,
        cutoff_len=limit, cutoff_policy="truncate",
        mask_history=bool(rules[0]), train_on_prompt=bool(rules[1]),
    )  # fmt: skip
    answers = [f"{answer}<|im_end|>" for _, answer in turns]
    for sample in found.samples:
        assert len(sample.ids) <= limit
        assert sample.labels[-1] == tokenizer.id("<|im_end|>")
        if not any(rules):
            whole = learned(sample, tokenizer)
            assert whole in ["".join(answers[: n + 1]) for n in range(len(answers))]
        if rules[0]:
            assert learned(sample, tokenizer) in answers
    assert bool(found.samples) or found.problems[0].code == "dropped-too-long"
    assert found.rows == [0] * len(found.samples)


def test_problems_and_samples_keep_the_order_of_the_rows(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    rows = [
        Conversation(tuple(INJECTED if n % 3 == 1 else TALK), f"a.json: row {n}")
        for n in range(700)
    ]
    found = Renderer(chatml, tokenizer, Rules(512)).render(rows)
    assert found.rows == [n for n in range(700) if n % 3 != 1]
    assert [p.place for p in found.problems] == [f"a.json: row {n}" for n in range(1, 700, 3)]
