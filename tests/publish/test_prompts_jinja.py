"""Our exported files in llama.cpp's Jinja engine, which newer Ollamas run: prompts of transformers.

Texts: every family of modelfiles/ and every real template with a vocabulary in real_chat.py, on a
tiny model; test_prompts_vocabularies.py compares token ids. Three ways in which the engine is not
Jinja as Python runs it are pinned at the end, so that a change is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja_prompts import JinjaPrompts, comparable, export, transformers_text
from real_chat import MODELS, template_text
from tiny_families import save_tokenizer

from ft2ollama.families import families
from ft2ollama.gotemplate.cases import text_cases, thought_cases, tool_cases
from ft2ollama.gotemplate.probe import Probe

pytestmark = pytest.mark.oracle

TINY = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
# name -> does the template write tools
REAL = {
    "qwen2.5": True, "qwen3": True, "qwq": True, "r1-qwen": False, "r1-llama": False,
    "llama3.1": True, "llama3.2": True, "smollm3": True, "phi3.5": False, "gemma4": True,
    "gemma2": False, "granite3.3": True, "mistral-nemo": True,
}  # fmt: skip
# Gemma 4's calls are the engine's own there: no None in arguments, a header after words and a call.
OWN_CALLS = {"gemma4": ("call 3 ", "call 3,", "call with words")}


def cases(*, tools: bool) -> Iterator[tuple[str, Probe]]:
    """1 to 4 turns, with and without system prompt, Chinese, white space; thoughts; tools."""
    yield from text_cases()
    yield from thought_cases()
    if tools:
        yield from tool_cases(thoughts=False)


def differences(
    model: JinjaPrompts,
    jinja: str,
    special: dict[str, str],
    *,
    tools: bool,
) -> list[str]:
    """Labels of the conversations whose prompt is another one; all that transformers renders."""
    wrong, counted = [], 0
    for label, case in cases(tools=tools):
        # With nothing said, llama.cpp switches thinking on, where transformers leaves it unset.
        thinking = True if case.thinking is None else case.thinking
        given: dict[str, Any] = {"tools": case.tools, "thinking": thinking}
        want = transformers_text(jinja, case.messages, special=special, **given)
        if want is None or not comparable(case.messages):
            continue
        counted += 1
        got = model.text(case.messages, **given)
        if got != want:
            wrong.append(label)
    assert counted >= 20
    return wrong


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return folder


@pytest.mark.parametrize("family", families())
def test_every_family_of_modelfiles(family: str, tokenizer: Path, tmp_path: Path) -> None:
    jinja = families()[family].jinja
    model = JinjaPrompts(export(tokenizer, jinja, tmp_path), n_ctx=256)
    assert differences(model, jinja, TINY, tools=False) == []


@pytest.mark.parametrize("name", REAL)
def test_real_templates_with_tools_and_thoughts(
    chat_models: Path, name: str, tokenizer: Path, tmp_path: Path
) -> None:
    jinja = template_text(MODELS[name].template)
    model = JinjaPrompts(export(tokenizer, jinja, tmp_path), n_ctx=256)
    wrong = differences(model, jinja, TINY, tools=REAL[name])
    own = OWN_CALLS.get(name, ())
    assert [label for label in wrong if not any(part in label for part in own)] == []
    assert bool(wrong) == bool(own)


def test_the_engine_trims_less_than_python(tokenizer: Path, tmp_path: Path) -> None:
    """`| trim` takes U+3000 and U+00A0 away in Python, blanks and line ends alone here."""
    jinja = "{% for m in messages %}[{{ m['content'] | trim }}]{% endfor %}"
    model = JinjaPrompts(export(tokenizer, jinja, tmp_path), n_ctx=256)
    talk = [{"role": "user", "content": " \u3000你好\u00a0\n"}]
    assert transformers_text(jinja, talk, special=TINY) == "[你好]"
    assert model.text(talk) == "[\u3000你好\u00a0]"


def test_the_engine_thinks_where_nothing_is_said(
    chat_models: Path, tokenizer: Path, tmp_path: Path
) -> None:
    jinja = template_text(MODELS["qwq"].template)
    model = JinjaPrompts(export(tokenizer, jinja, tmp_path), n_ctx=256)
    talk = [{"role": "user", "content": "x"}]
    unset = transformers_text(jinja, talk, special=TINY)
    assert unset == model.text(talk, thinking=False) == model.text(talk) + "</think>"


def test_the_engine_writes_todays_date(chat_models: Path, tokenizer: Path, tmp_path: Path) -> None:
    jinja = template_text(MODELS["llama3.1"].template)
    model = JinjaPrompts(export(tokenizer, jinja, tmp_path), n_ctx=256)
    talk = [{"role": "user", "content": "x"}]
    assert "26 Jul 2024" in model.text(talk)
    assert "26 Jul 2024" not in model.text(talk, fixed_date=False)
