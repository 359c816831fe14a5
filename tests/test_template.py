"""Families, the model's own template and its stop words, and equality with transformers' Jinja."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest

from ft2ollama.base import Base
from ft2ollama.errors import UsageError
from ft2ollama.template import choose_template, families, render_jinja
from ft2ollama.train.plan import model_template

ADDED = ("<|im_start|>", "<|im_end|>")
QWEN25_LIKE = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] "
    "+ '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\nYou are a helper.<|im_end|>\\n' }}"
    "{%- endif %}{%- for message in messages %}{%- if message.role != 'system' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def test_the_models_own_template_is_taken_unless_a_family_is_named() -> None:
    own = choose_template(None, QWEN25_LIKE, {}, added=ADDED)
    assert (own.family, own.jinja, own.stop) == ("", QWEN25_LIKE, ("<|im_end|>",))
    named = choose_template("chatml", QWEN25_LIKE, {})
    assert (named.family, named.jinja) == ("chatml", families()["chatml"].jinja)


@pytest.mark.parametrize("name", ["qwen", "QWEN2", "smollm2", "llama3"])
def test_names_of_llama_factory_mean_the_models_own_template(smollm2: Base, name: str) -> None:
    assert model_template(name, smollm2.folder) == model_template(None, smollm2.folder)


def test_without_one_they_mean_the_family_of_that_name(smollm2: Base, tmp_path: Path) -> None:
    for path in smollm2.folder.glob("*token*"):  # chat_template.jinja stays behind
        shutil.copy(path, tmp_path)
    assert model_template("SmolLM2", tmp_path).family == "smollm2"
    with pytest.raises(UsageError, match="the model brings no chat template"):
        model_template("qwen", tmp_path)


def test_a_template_that_cannot_be_trained_with_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="with no token of its own") as caught:
        choose_template(None, "[INST] {{ messages[-1]['content'] }} [/INST]", {}, added=("</s>",))
    assert "' [/INST]'" in caught.value.why
    with pytest.raises(UsageError, match="brings no chat template"):
        choose_template(None, None, {})
    with pytest.raises(UsageError, match="no family 'qwen9'"):
        choose_template("qwen9", None, {})
    with pytest.raises(UsageError, match="refuses a conversation") as caught:
        choose_template(None, "{% if %}", {})
    assert "it is no Jinja" in caught.value.why


HEADERS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("change", "eos", "stop", "header"),
    [
        ("{{ eos_token if m.role == 'assistant' }}", (), ("</s>",), ""),
        ("{{ '<|end|>\n' }}", (), ("<|end|>",), ""),
        ("{{ '<|end|>\n' }}", ("</s>",), ("<|end|>", "</s>"), ""),
        ("{{ '<|end|></s>' }}", ("<|end|>",), ("<|end|>",), ""),
        ("{{ '<|end|>\n' }}{{ '</s>' if loop.last }}", ("</s>",), ("<|end|>", "</s>"), ""),
        ("", ("</s>",), ("<|user|>", "</s>"), "<|user|>"),  # as GLM: the next header ends it
    ],
)
def test_stop_words_are_what_comes_after_an_answer(
    change: str, eos: tuple[str, ...], stop: tuple[str, ...], header: str
) -> None:
    jinja = HEADERS.replace("{{ m.content }}", "{{ m.content }}" + change)
    added = ("</s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
    template = choose_template(None, jinja, {"eos_token": "</s>"}, added=added, eos=eos)
    assert template.stop == stop
    assert template.next_header[0] == header


def test_conversations_with_tools_take_the_template_named_tool_use() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    named = {"tool_use": "{{ tools|length }} tools", "rag": "x"}
    template = choose_template(None, QWEN25_LIKE, {}, named=named, added=ADDED)
    talk = [{"role": "user", "content": "x"}]
    assert template.render(talk, tools=[tool]) == "1 tools"
    assert template.render(talk).endswith("<|im_start|>user\nx<|im_end|>\n")


def test_the_date_of_a_training_text_is_fixed() -> None:
    text = "{{ strftime_now('%d %b %Y') }}"
    assert render_jinja(text, []) == "26 Jul 2024"
    assert render_jinja(text, [], variables={"date": date(2026, 1, 2)}) == "02 Jan 2026"


def test_a_template_may_refuse_a_conversation() -> None:
    with pytest.raises(UsageError, match="refuses a conversation") as caught:
        render_jinja("{{ raise_exception('no system here') }}", [{"role": "system", "content": ""}])
    assert caught.value.why == "roles system: no system here"


def test_a_template_cannot_reach_the_machine() -> None:
    with pytest.raises(UsageError, match="refuses a conversation"):
        render_jinja("{{ messages.__class__.__mro__[1].__subclasses__() }}", [])


@pytest.mark.oracle
@pytest.mark.parametrize("family", families().values(), ids=lambda family: family.name)
def test_our_jinja_renders_as_transformers_does(family, smollm2: Base) -> None:  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)
    for jinja in (family.jinja, QWEN25_LIKE, tokenizer.chat_template):
        for case in family.cases:
            for prompt in (True, False):
                want = tokenizer.apply_chat_template(
                    list(case["messages"]),
                    chat_template=jinja,
                    tokenize=False,
                    add_generation_prompt=prompt,
                )
                special = {k: str(v) for k, v in tokenizer.special_tokens_map.items()}
                got = render_jinja(
                    jinja, case["messages"], add_generation_prompt=prompt, special_tokens=special
                )
                assert got == want


def test_no_go_template_holds_a_beginning_of_sequence_token() -> None:
    for family in families().values():
        for token in ("<s>", "<bos>", "<|begin_of_text|>", "[BOS]"):
            assert token not in family.gotmpl
