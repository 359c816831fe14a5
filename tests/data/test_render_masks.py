"""The loss mask on real chat templates with their real vocabularies.

Three judges: a golden file that a person read (see chat_cases.py), transformers for the prompt that
inference sees, and llama.cpp's test vectors for the vocabularies themselves.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from chat_cases import CASES, GOLDEN, TOOLS, combinations, conversation, key, loaded, masks
from real_chat import MODELS, template_text, texts_with_ids, tokenizer_folder

from ft2ollama.chat_jinja import TemplateRefusal, has_blocks, render_jinja, split_blocks
from ft2ollama.data.render import IGNORED, Rules, Sample, render_all
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
    """Every answer follows the very ids of apply_chat_template, generation prompt and all."""
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder(name))
    seen = 0
    for case in CASES:
        for thinking in (None, True, False):
            samples, talk = _rendered(name, case, thinking)
            given = {} if thinking is None else dict.fromkeys(SWITCHES, thinking)
            for number in talk.assistant if talk else ():
                want = theirs.apply_chat_template(
                    [dict(message) for message in talk.messages[:number]],
                    tools=TOOLS if talk.tools else None,
                    add_generation_prompt=True,
                    **given,
                )["input_ids"]
                assert any(
                    list(sample.ids[: len(want)]) == want
                    and sample.labels[len(want) - 1] == IGNORED
                    and sample.labels[len(want)] != IGNORED
                    for sample in samples
                ), (case, thinking, number, theirs.decode(want))
                seen += 1
    assert seen >= 6


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
    "gemma2": "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}",
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
    from transformers.utils.chat_template_utils import render_jinja_template

    template, _ = loaded(name)
    marked = replace(template, jinja=_with_blocks(name, template.jinja))
    talk = [dict(message) for message in CASES["two turns"]]
    (text,), (spans,) = render_jinja_template(
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
    from transformers.utils.chat_template_utils import render_jinja_template

    jinja = template_text(template)
    if "strftime_now" in jinja:  # the one difference that is meant: a fixed day
        jinja = "{%- set strftime_now = none %}" + jinja
        jinja = jinja.replace("strftime_now is defined", "false").replace(
            "strftime_now(", "'26 Jul 2024'.format("
        )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    equal = 0
    for case in CASES:
        tools = TOOLS if case == "tools" else None
        for prompt, thinking in product((True, False), (None, True, False)):
            switches = {} if thinking is None else dict.fromkeys(SWITCHES, thinking)
            talk = [dict(message) for message in CASES[case]]
            try:
                ((want,), _) = render_jinja_template(
                    [talk], tools=tools, chat_template=jinja,
                    add_generation_prompt=prompt, **names, **switches,
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001 (a template may fail in any way)
                with pytest.raises(TemplateRefusal):
                    render(jinja, talk, tools, prompt, names, switches)
                assert error
                continue
            assert render(jinja, talk, tools, prompt, names, switches) == want
            equal += 1
    assert equal or template in ONLY_FOR_OTHERS


def render(
    jinja: str, talk: Any, tools: Any, prompt: bool, names: Any, switches: Any
) -> str:  # fmt: skip
    return render_jinja(
        jinja,
        talk,
        tools=tools or (),
        add_generation_prompt=prompt,
        special_tokens=names,
        variables=switches,
    )
