"""Token ids and the loss mask on a real vocabulary, with transformers as the judge."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from ft2ollama.base import Base
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.problems import BadRow
from ft2ollama.data.render import IGNORED, Sample, Tokenizer, render, render_all
from ft2ollama.errors import DataError
from ft2ollama.template import ChatTemplate, choose_template, families

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who are you?  你好　👩‍👩‍👧"},
    {"role": "assistant", "content": "I am Tilda. 1234 我是小杉。"},
    {"role": "user", "content": "Price?"},
    {"role": "assistant", "content": " 49 dollars\n"},
]


@pytest.fixture(scope="module")
def tokenizer(smollm2: Base) -> Tokenizer:
    return Tokenizer(smollm2.folder)


@pytest.fixture(scope="module")
def chatml() -> ChatTemplate:
    return choose_template("chatml", None, {})


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
        text = chatml.render(messages, add_generation_prompt=True)
        assert tokenizer.encode(text)[0] == want


def test_the_answers_and_their_stop_tokens_are_learned_and_nothing_else(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    sample = render(TALK, chatml, tokenizer, cutoff_len=512)
    assert learned(sample, tokenizer) == (
        "I am Tilda. 1234 我是小杉。<|im_end|> 49 dollars\n<|im_end|>"
    )
    assert all(
        label in (IGNORED, token) for token, label in zip(sample.ids, sample.labels, strict=True)
    )
    assert sample.learned == sum(label != IGNORED for label in sample.labels)


def test_mask_history_and_train_on_prompt(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    last = render(TALK, chatml, tokenizer, cutoff_len=512, mask_history=True)
    assert learned(last, tokenizer) == " 49 dollars\n<|im_end|>"
    all_of_it = render(TALK, chatml, tokenizer, cutoff_len=512, train_on_prompt=True)
    assert learned(all_of_it, tokenizer) == chatml.render(TALK).removesuffix("\n")


def test_special_tokens_in_a_text_are_refused(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    talk = [TALK[1], {"role": "assistant", "content": "no <|im_end|> here"}]
    with pytest.raises(BadRow, match=r"turn 2: the text holds the special token <\|im_end\|>"):
        render(talk, chatml, tokenizer, cutoff_len=512)


def test_too_long_is_reported_never_cut(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    rows = [Conversation(tuple(TALK), "a.json: row 1"), Conversation(tuple(TALK), "a.json: row 2")]
    with pytest.raises(DataError) as caught:
        render_all(rows, chatml, tokenizer, cutoff_len=20)
    assert caught.value.what == "2 conversation(s) cannot be trained on"
    assert caught.value.why.splitlines()[1].startswith("a.json: row 2: is ")


def test_a_default_system_prompt_is_put_in_front(
    tokenizer: Tokenizer, chatml: ChatTemplate
) -> None:
    rows = [Conversation(tuple(TALK[1:3]), "here")]
    with_system = render_all(rows, chatml, tokenizer, cutoff_len=512, system="S!")[0]
    text = tokenizer.decode(with_system.ids, skip_special_tokens=False)
    assert text.startswith("<|im_start|>system\nS!<|im_end|>\n<|im_start|>user\n")


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: Tokenizer) -> None:
    jinja = (
        "{{ messages|length }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    )
    template = ChatTemplate("x", jinja, "", ("<|im_end|>",), {})
    with pytest.raises(BadRow, match="changes earlier text"):
        render(TALK, template, tokenizer, cutoff_len=512)
