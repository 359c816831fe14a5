"""The loss mask on real chat templates with their real vocabularies.

Three judges: a golden file that a person read (see chat_cases.py), transformers for the prompt that
inference sees, and llama.cpp's test vectors for the vocabularies themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import product
from typing import Any
from unittest.mock import patch

import pytest
from chat_cases import CASES, GOLDEN, combinations, conversation, key, loaded, masks
from real_chat import MODELS, template_text, texts_with_ids, tokenizer_folder
from transformers.utils import chat_template_utils

from ft2ollama.chat_jinja import (
    TRAINING_DATE,
    TemplateRefusal,
    has_blocks,
    render_jinja,
    split_blocks,
)
from ft2ollama.data.render import render_all
from ft2ollama.data.samples import IGNORED, Rules, Sample
from ft2ollama.data.turns import make_talk

pytestmark = [pytest.mark.oracle, pytest.mark.slow, pytest.mark.usefixtures("chat_models")]
SWITCHES = ("enable_thinking", "thinking")
# Templates of the sdist; a list, because the sdist is not there yet when tests are collected.
TEMPLATES = json.loads((GOLDEN.parent / "template_names.json").read_text("utf-8"))
ONLY_FOR_OTHERS = {"fireworks-ai-llama-3-firefunction-v2"}  # needs `functions` and `datetime`
ALL = [pytest.param(*chosen, id=key(*chosen)) for chosen in combinations()]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
    return found


def test_the_golden_file_holds_every_combination(golden: dict[str, Any]) -> None:
    assert list(golden) == [key(*chosen) for chosen in combinations()]
    trained = {k.split(",")[0] for k, v in golden.items() if "samples" in v}
    assert trained == set(MODELS)


@pytest.mark.parametrize(("name", "case", "thinking"), ALL)
def test_masks(name: str, case: str, thinking: bool | None, golden: dict[str, Any]) -> None:
    assert masks(name, case, thinking) == golden[key(name, case, thinking)]


@pytest.mark.parametrize("name", MODELS)
def test_vocabularies_are_the_real_ones(name: str) -> None:
    """llama.cpp's test vectors; the tekken of Mistral is checked by its own test."""
    _, tokenizer = loaded(name)
    assert all(tokenizer.id(text) == n for n, (text, _) in MODELS[name].added.items())
    if MODELS[name].vocabulary != "tekken_240718":
        for text, ids in texts_with_ids(MODELS[name].vocabulary):
            assert tokenizer.encode(text)[0] == ids


@pytest.mark.parametrize("name", MODELS)
def test_the_prompt_is_what_transformers_gives(name: str) -> None:
    """Every answer follows the very ids of transformers' prompt, with the generation prompt."""
    template, tokenizer = loaded(name)
    names, seen = template.special_tokens, 0
    for case, thinking in product(CASES, (None, True, False)):
        samples, talk = _rendered(name, case, thinking)
        for number in talk.assistant if talk else ():
            context = talk.past[:number]
            prompt = theirs(template.jinja, context, talk.tools, thinking, names)
            want = tokenizer.encode(prompt)[0]
            assert any(
                list(sample.ids[: len(want)]) == want
                and sample.labels[len(want) - 1] == IGNORED
                and sample.labels[len(want)] != IGNORED
                for sample in samples
            ), (case, thinking, number, prompt)
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize("name", ["smollm3", "phi3.5"])
def test_the_ids_of_apply_chat_template(name: str) -> None:
    """The whole way of transformers, from messages to ids."""
    from transformers import PreTrainedTokenizerFast

    whole = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder(name))
    samples, talk = _rendered(name, "system", None)
    given = [dict(message) for message in talk.messages]
    want = whole.apply_chat_template(given[:-1], add_generation_prompt=True)["input_ids"]
    assert list(samples[0].ids[: len(want)]) == want


class FixedDay(datetime):
    """transformers' clock on the day that our templates are given."""

    @classmethod
    def now(cls, tz: Any = None) -> FixedDay:
        return cls(TRAINING_DATE.year, TRAINING_DATE.month, TRAINING_DATE.day)


def theirs(
    jinja: str,
    talk: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    thinking: bool | None,
    names: Mapping[str, str],
    prompt: bool = True,
) -> str:
    """What transformers renders."""
    with patch.object(chat_template_utils, "datetime", FixedDay):
        ((text,), _) = chat_template_utils.render_jinja_template(
            [[dict(message) for message in talk]],
            tools=list(tools) or None,
            chat_template=jinja,
            add_generation_prompt=prompt,
            **names,
            **({} if thinking is None else dict.fromkeys(SWITCHES, thinking)),
        )
    return str(text)


def _rendered(name: str, case: str, thinking: bool | None) -> tuple[list[Sample], Any]:
    template, tokenizer = loaded(name)
    found = render_all([conversation(case)], template, tokenizer, Rules(1024, thinking=thinking))
    if not found.samples:
        return [], None
    return found.samples, make_talk(conversation(case), template, thinking=thinking)


# Where each template writes a plain answer; some with the header of the turn, as published ones do.
ANSWERS = {
    "phi3.5": "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}",
    "mistral-nemo": '{{- message["content"] + eos_token}}',
    "smollm3": '{{ "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}',
    "r1-llama": "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}",
    "gemma2": (
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    ),
    "qwen3": "{{- '<|im_start|>' + message.role + '\\n' + content }}",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_generation_blocks_and_prefixes_agree(name: str) -> None:
    """The template with blocks around its answers teaches what prefixes find in it without them."""
    template, tokenizer = loaded(name)
    marked = replace(template, jinja=_with_blocks(name, template.jinja))
    assert has_blocks(marked.jinja)
    assert not has_blocks(template.jinja)
    row, rules = [conversation("two turns")], Rules(1024, thinking=True)
    ours, blocks = (render_all(row, one, tokenizer, rules) for one in (template, marked))
    assert ours.samples == blocks.samples
    assert ours.samples


@pytest.mark.parametrize("name", ANSWERS)
def test_blocks_are_where_transformers_finds_them(name: str) -> None:
    template, _ = loaded(name)
    marked = replace(template, jinja=_with_blocks(name, template.jinja))
    talk = [dict(message) for message in CASES["two turns"]]
    (text,), (spans,) = chat_template_utils.render_jinja_template(
        [talk],
        chat_template=marked.jinja,
        return_assistant_tokens_mask=True,
        **marked.special_tokens,
    )
    assert split_blocks(marked.render_marked(talk)) == (text, tuple(spans))
    assert spans


def _with_blocks(name: str, jinja: str) -> str:
    wanted = ANSWERS[name]
    end = wanted.index("}}") + 2
    assert jinja.count(wanted) >= 1
    block = "{% generation %}" + wanted[:end] + "{% endgeneration %}" + wanted[end:]
    if name == "gemma2":
        block = f"{{% if role == 'model' %}}{block}{{% else %}}{wanted}{{% endif %}}"
    if name == "qwen3":  # the stop token is written further down
        last = (
            "{{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n')"
        )
        jinja = jinja.replace(last, "{% generation %}" + last)
        jinja = jinja.replace(
            "content.lstrip('\\n') }}", "content.lstrip('\\n') }}{% endgeneration %}"
        )
    return jinja.replace(wanted, block)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_renders_as_transformers_does(template: str) -> None:
    """Text for text, or both refuse; each of CASES, with and without thinking."""
    jinja = template_text(template)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    equal = 0
    for case, prompt, thinking in product(CASES, (True, False), (None, True, False)):
        talk, tools = CASES[case], conversation(case).tools
        ours = partial(
            render_jinja,
            jinja,
            talk,
            tools=tools,
            add_generation_prompt=prompt,
            special_tokens=names,
            variables={} if thinking is None else dict.fromkeys(SWITCHES, thinking),
        )
        try:
            want = theirs(jinja, talk, tools, thinking, names, prompt)
        except Exception:  # noqa: BLE001 (a template may fail in any way)
            with pytest.raises(TemplateRefusal):
                ours()
        else:
            assert ours() == want
            equal += 1
    assert equal or template in ONLY_FOR_OTHERS
