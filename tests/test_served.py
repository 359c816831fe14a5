"""What Ollama is told of a chat template: derived, kept, read back from old runs, its limits."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ft2ollama import served as module
from ft2ollama.base import Base
from ft2ollama.errors import UsageError
from ft2ollama.gotemplate import GoTemplate, derive, prompt
from ft2ollama.modelfile import make_modelfile
from ft2ollama.served import (
    base_adds_bos,
    check_bos,
    limits,
    publishable,
    read_template,
    served,
)
from ft2ollama.template import ChatTemplate, choose_template, families
from ft2ollama.train.plan import model_template

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
UNEQUAL = CHATML.replace("'<|im_end|>\n'", "('<|im_end|>!' if '?' in m.content else '<|im_end|>.')")
SWITCH = CHATML.replace(
    "{{ '<|im_start|>assistant\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "gotemplates"


def own(jinja: str, bos: str = "", **named: str) -> ChatTemplate:
    special = {"bos_token": bos} if bos else {}
    added = ("<|im_start|>", "<|im_end|>", "<s>")
    return choose_template(None, jinja, special, named=named, added=added)


def test_smollm2s_default_system_prompt_goes_to_the_modelfile_and_its_bos_stays(
    smollm2: Base,
) -> None:
    found = served(model_template(None, smollm2.folder))
    assert found.special_tokens["bos_token"] == "<|im_start|>"
    assert not found.adds_bos
    assert "<|im_start|>user" in found.gotmpl
    assert found.system == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert limits(found) == ()


def test_a_bos_token_is_left_out_of_the_go_template_and_set_in_the_file() -> None:
    found = served(own("{{ bos_token }}" + CHATML, bos="<s>"))
    assert found.adds_bos
    assert found.gotmpl == served(own(CHATML)).gotmpl
    again = served(own(CHATML.replace("m.role == 'user'", "1"), bos="<|im_start|>"))
    assert not again.adds_bos  # it begins every turn: a part of the template


def test_a_family_keeps_its_own_and_says_its_default_system_prompt() -> None:
    for name, family in families().items():
        found = served(choose_template(name, None, {"bos_token": "<s>"}))
        assert found.gotmpl == family.gotmpl, name
        assert found.adds_bos == ("bos_token" in family.jinja), name
        assert found.system.startswith("You are") == (name in ("qwen2.5", "smollm2")), name
        assert found.refusal == ""
    assert served(choose_template("qwen3", None, {})).capabilities == ("thinking",)


def test_a_family_that_says_less_than_its_jinja_is_derived(chat_models: Path) -> None:
    jinja = (chat_models / "Qwen-Qwen2.5-7B-Instruct.jinja").read_text("utf-8")
    text_only = choose_template("qwen2.5", None, {})
    found = served(replace(text_only, jinja=jinja))
    assert (found.capabilities, found.family) == (("tools",), "qwen2.5")
    assert "ToolCalls" in found.gotmpl


def test_the_trained_thinking_is_what_a_client_without_a_wish_gets() -> None:
    plain, off = served(own(SWITCH)), served(own(SWITCH), thinking=False)
    talk = [{"role": "user", "content": "x"}]
    for found, wanted in ((plain, None), (off, False)):
        text = found.render(talk, add_generation_prompt=True, thinking=wanted)
        assert prompt(found.gotmpl, talk) == text
    assert prompt(off.gotmpl, talk) != prompt(plain.gotmpl, talk)
    named = served(choose_template("qwen3", None, {}), thinking=False)
    assert prompt(named.gotmpl, talk) == named.render(
        talk, add_generation_prompt=True, thinking=False
    )


def test_what_was_derived_is_kept_by_all_that_decides_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counting(*args: Any, **more: Any) -> GoTemplate:
        calls.append(args)
        return derive(*args, **more)

    monkeypatch.setattr(module, "derive", counting)
    first, refused = served(own(CHATML)), served(own(UNEQUAL))
    assert (served(own(CHATML)), served(own(UNEQUAL))) == (first, refused)
    assert len(calls) == 2
    served(own(CHATML, bos="<s>"))
    served(own(CHATML), thinking=False)
    served(own(CHATML, tool_use=CHATML))
    assert len(calls) == 5
    for path in cache.iterdir():
        path.write_text("{")
    assert served(own(CHATML)) == first
    assert len(calls) == 6


def test_a_template_that_no_go_template_equals_is_refused_with_the_difference() -> None:
    found = served(own(UNEQUAL))
    assert found.gotmpl == ""
    assert found.refusal.startswith("case 'plain, 1 turn', first difference at character ")
    assert "  chat template: " in found.refusal
    assert limits(found) == ()
    with pytest.raises(UsageError, match="no Ollama template is equal to it") as caught:
        make_modelfile(asdict(found), num_ctx=4096, system=None, extra={})
    assert caught.value.why == found.refusal
    assert "template: chatml" in caught.value.fix


def test_what_ollama_will_not_serve_is_told(chat_models: Path) -> None:
    def of(name: str) -> tuple[str, ...]:
        jinja = (chat_models / f"{name}.jinja").read_text("utf-8")
        added = ("<|im_end|>", "</s>", "<|eot_id|>", "<|im_start|>")
        special = {"bos_token": "<s>", "eos_token": "</s>"}
        return limits(served(choose_template(None, jinja, special, added=added)))

    assert of("Qwen-Qwen2.5-7B-Instruct") == ()
    (line,) = of("mistralai-Mistral-Nemo-Instruct-2407")
    assert line == (
        "Ollama will serve this model without tools, because of its chat template: it prints the "
        "id of a tool call, which Ollama 0.9.3 does not keep"
    )
    (line,) = of("meta-llama-Llama-3.2-3B-Instruct")
    assert line.startswith("the date '26 Jul 2024' stays in the prompt")


def saved(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(json.dumps(values))
    return path


NEW = ("adds_bos", "capabilities", "explain", "refusal")


def test_a_run_of_this_version_is_read_as_it_was_written(tmp_path: Path) -> None:
    template = served(own("{{ bos_token }}" + CHATML, bos="<s>"))
    assert read_template(saved(tmp_path / "t.json", asdict(template))) == template


def test_a_run_of_an_older_version_is_completed(tmp_path: Path) -> None:
    values = asdict(choose_template("llama3", None, {"bos_token": "<|begin_of_text|>"}))
    old = {name: value for name, value in values.items() if name not in NEW}
    assert read_template(saved(tmp_path / "family.json", old)).adds_bos
    values = asdict(own(CHATML)) | {"system": "S"}
    old = {name: value for name, value in values.items() if name not in NEW}
    template = read_template(saved(tmp_path / "own.json", old))
    assert (template.gotmpl, template.adds_bos) == ("", False)
    found = publishable(template)
    assert found.gotmpl == served(own(CHATML)).gotmpl
    assert found.system == "S"
    assert publishable(found) is found
    with pytest.raises(UsageError, match="does not say how its chat template"):
        read_template(tmp_path / "missing.json")


def test_an_adapter_is_refused_on_a_base_with_another_bos() -> None:
    with_bos, without = served(own("{{ bos_token }}" + CHATML, bos="<s>")), served(own(CHATML))
    key, kind = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.model"
    check_bos(with_bos, {key: True}, "b")
    check_bos(without, {key: False}, "b")
    check_bos(without, {kind: "gpt2"}, "b")
    assert base_adds_bos({kind: "llama"}) is True
    assert base_adds_bos({kind: "gpt2"}) is None
    with pytest.raises(UsageError, match="another prompt than it was trained") as caught:
        check_bos(with_bos, {key: False}, "b")
    assert caught.value.why == (
        "the training text begins with a BOS token; b does not add one (add_bos_token)"
    )
    with pytest.raises(UsageError) as caught:
        check_bos(without, {kind: "llama"}, "b")
    assert "begins without a BOS token; b adds one" in caught.value.why


def test_a_second_look_takes_no_time(chat_models: Path) -> None:
    jinja = (chat_models / "Qwen-Qwen3-0.6B.jinja").read_text("utf-8")
    template = own(jinja)
    served(template)
    began = time.process_time()
    served(template)
    assert time.process_time() - began < 0.1
