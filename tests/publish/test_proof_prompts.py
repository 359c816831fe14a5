"""Prompt proof through a real Ollama: templates with tools and thinking, and how they go wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import converters
from ft2ollama.base import Base
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.gotemplate import derive
from ft2ollama.ollama_api import Ollama
from ft2ollama.proof import (
    Prompt,
    PromptCheck,
    capabilities,
    expected_prompts,
    proof_cases,
    prove_prompts,
)
from ft2ollama.template import ChatTemplate, choose_template

pytestmark = pytest.mark.ollama

BOTH = frozenset({"tools", "thinking"})


@dataclass(frozen=True)
class Served:
    """A tiny Qwen2 with Qwen3's real chat template, which has tools and thinking."""

    server: Ollama
    gguf: Path
    tokenizer: Tokenizer
    template: ChatTemplate
    prompts: tuple[Prompt, ...]

    def prove(
        self, gotmpl: str, prompts: tuple[Prompt, ...], system: str | None = None
    ) -> list[PromptCheck]:
        self.server.create("qwen-proof", gguf=self.gguf, template=gotmpl, system=system)

        def decode(ids: object) -> str:
            return self.tokenizer.decode(ids, skip_special_tokens=False)  # type: ignore[arg-type]

        return prove_prompts(self.server, "qwen-proof", prompts, decode=decode)

    def named(self, *names: str) -> tuple[Prompt, ...]:
        found = tuple(prompt for prompt in self.prompts if prompt.name in names)
        assert len(found) == len(names)
        return found


@pytest.fixture(scope="module")
def qwen(
    ollama: Ollama, tiny_qwen: Base, chat_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    jinja = (chat_models / "Qwen-Qwen3-0.6B.jinja").read_text("utf-8")
    tokenizer = Tokenizer(tiny_qwen.folder)
    special = {"eos_token": "<|im_end|>"}
    template = choose_template(None, jinja, special, added=tokenizer.special, eos=("<|im_end|>",))
    found = derive(template.render, special_tokens=special, ends=template.stop)
    template = replace(template, gotmpl=found.gotmpl, system=found.system)
    gguf = tmp_path_factory.mktemp("qwen-proof") / "q.gguf"
    converters.write_model(tiny_qwen.folder, gguf, outtype="F16", add_bos=False)
    assert capabilities(found.gotmpl) == BOTH
    prompts = expected_prompts(template, tokenizer, proof_cases(BOTH))
    return Served(ollama, gguf, tokenizer, template, tuple(prompts))


def test_tools_and_thinking_are_proved_by_the_best_that_the_server_has(qwen: Served) -> None:
    checks = qwen.prove(qwen.template.gotmpl, qwen.prompts)
    assert [check for check in checks if not check.equal] == []
    assert all(check.expected_tokens == check.got_tokens for check in checks)
    methods = Counter(check.method for check in checks)
    assert methods["ids"] == 17  # English and Chinese, 1 to 3 turns, system on and off, and more
    assert methods["count and reply"] >= 10
    assert methods["ids"] + methods["count and reply"] + methods["count"] == len(checks)


def test_a_template_that_lost_its_tools_is_told(qwen: Served) -> None:
    (check,) = qwen.prove(
        "{{ range .Messages }}{{ .Content }}{{ end }}", qwen.named("1 tool, offered")
    )
    assert (check.method, check.equal) == ("refused", False)
    assert "does not support tools" in check.difference


def test_a_word_changed_among_tools_is_found_although_the_number_of_tokens_is_equal(
    qwen: Served,
) -> None:
    gotmpl = qwen.template.gotmpl.replace(
        "call one or more functions", "call two or more functions"
    )
    assert gotmpl != qwen.template.gotmpl
    plain, tools = qwen.prove(gotmpl, qwen.named("plain, 1 turn", "1 tool, offered"))
    assert (plain.method, plain.equal) == ("ids", True)
    assert (tools.method, tools.equal) == ("count and reply", False)
    assert tools.expected_tokens == tools.got_tokens
    assert "trained  …Tools⏎⏎You·may·call·▸one·or·more·functions" in tools.difference
    assert "served   …Tools⏎⏎You·may·call·▸two·or·more·functions" in tools.difference


def test_a_switch_for_thinking_that_does_nothing_is_found(qwen: Served) -> None:
    gotmpl = qwen.template.gotmpl.replace("<think>\n\n</think>\n\n", "")
    assert gotmpl != qwen.template.gotmpl
    names = ("plain, 1 turn", "plain, 1 turn, thinking off")
    unset, off = qwen.prove(gotmpl, qwen.named(*names))
    assert unset.equal
    assert not off.equal
    assert off.expected_tokens > off.got_tokens
    assert "▸<think>⏎⏎</think>⏎⏎" in off.difference


def test_white_space_at_the_ends_is_found_by_ids(qwen: Served) -> None:
    gotmpl = qwen.template.gotmpl.replace("<|im_start|>user\n", "<|im_start|>user\n ")
    (check,) = qwen.prove(gotmpl, qwen.named("plain, 1 turn"))
    assert (check.method, check.equal) == ("ids", False)
    assert "served   <|im_start|>user⏎▸·What·is" in check.difference


def test_the_conversations_cover_turns_languages_tools_and_thoughts(qwen: Served) -> None:
    names = {prompt.name for prompt in qwen.prompts}
    for language in ("plain", "Chinese"):
        for turns in ("1 turn", "2 turns", "3 turns"):
            assert {f"{language}, {turns}", f"{language}, {turns}, system"} <= names
    texts = [prompt.text for prompt in qwen.prompts]
    assert any("<tool_response>" in text for text in texts)
    assert any(text.endswith("<think>\n\n</think>\n\n") for text in texts)
