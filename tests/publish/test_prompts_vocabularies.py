"""Prompts of our files with real vocabularies, as token ids: Ollama 0.9.3 and llama.cpp's engine.

One model for each vocabulary of real_chat.py with the model's own chat template: byte-level BPE,
Llama 3, SentencePiece, Gemma, StarCoder, tekken. Ollama gets the Go template that is derived from
the Jinja one; llama.cpp executes the Jinja text in the file, as newer Ollamas do. The ids must be
those of transformers in both, with the BOS that the template wrote.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jinja_prompts import JinjaPrompts, comparable, export, transformers_text
from real_chat import MODELS, template_text, tokenizer_folder

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate import GoTemplate, derive
from ft2ollama.gotemplate.cases import text_cases, tool_cases
from ft2ollama.gotemplate.ollama_data import api_messages
from ft2ollama.gotemplate.probe import Probe
from ft2ollama.ollama_api import Ollama

pytestmark = [pytest.mark.oracle, pytest.mark.ollama, pytest.mark.slow]

NAMES = ("qwen2.5", "llama3.2", "phi3.5", "gemma2", "granite3.3", "mistral-nemo")
# Through Ollama each conversation costs three requests: these are sent there.
SENT = (
    "plain, 1 turn", "Chinese, 1 turn, system", "Chinese, 2 turns", "white space, 2 turns, system",
    "Chinese, 3 turns, system", "plain, 3 turns",
)  # fmt: skip
TOOLS = ("1 tool, offered", "3 tools, call 1 answered, system", "3 tools, call 3, one turn later")


@dataclass(frozen=True)
class Subject:
    """A model: its file, its two templates, and the ids transformers gives to a conversation."""

    name: str
    gguf: Path
    go: GoTemplate
    ids: Callable[[Probe], list[int] | None]


@pytest.fixture(scope="module", params=NAMES)
def subject(
    request: pytest.FixtureRequest, chat_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Subject:
    from tokenizers import Tokenizer

    name = str(request.param)
    folder, jinja = tokenizer_folder(name), template_text(MODELS[name].template)
    special = dict(MODELS[name].special)
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def render(
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        thinking: bool | None = None,
    ) -> str:
        text = transformers_text(
            jinja, messages, tools=tools, thinking=thinking, special=special,
            add_generation_prompt=add_generation_prompt,
        )  # fmt: skip
        if text is None:
            raise UsageError("the template refuses")
        return text

    def ids(case: Probe) -> list[int] | None:
        text = transformers_text(jinja, case.messages, tools=case.tools, special=special)
        return None if text is None else theirs.encode(text, add_special_tokens=False).ids

    go = derive(render, special_tokens=special, ends=(special["eos_token"],))
    out = tmp_path_factory.mktemp(name)
    return Subject(name, export(folder, jinja, out, add_bos=go.adds_bos), go, ids)


def spelled_alike(case: Probe) -> bool:
    """llama.cpp does not compose letters (NFC) before it splits; the exporter says so."""
    texts = [str(message.get("content")) for message in case.messages]
    return all(unicodedata.is_normalized("NFC", text) for text in texts)


def cases(subject: Subject) -> Iterator[tuple[str, Probe, list[int]]]:
    """What transformers renders, with its ids; thinking is left unset."""
    tools = tool_cases(thoughts=False) if "tools" in subject.go.capabilities else iter(())
    for label, case in [*text_cases(), *tools]:
        if case.thinking is None and spelled_alike(case) and (ids := subject.ids(case)):
            yield label, case, ids


def test_llama_cpp_feeds_the_ids_of_transformers(subject: Subject) -> None:
    model, counted = JinjaPrompts(subject.gguf, n_ctx=256), 0
    for label, case, want in cases(subject):
        if comparable(case.messages):
            got = model.text(case.messages, tools=case.tools, thinking=False)
            assert model.ids(got) == want, label
            counted += 1
    assert counted >= (12 if "gemma" in subject.name else 24)  # Gemma's refuses system prompts


def test_ollama_feeds_the_ids_of_transformers(ollama: Ollama, subject: Subject) -> None:
    name = f"ids-{subject.name}"
    ollama.create(
        name,
        gguf=subject.gguf,
        template=subject.go.gotmpl,
        system=subject.go.system or None,
        parameters={"num_ctx": 1024, "num_thread": 1},
    )
    try:
        known = {label: (case, ids) for label, case, ids in cases(subject)}
        sent = [label for label in SENT if label in known]
        for label in sent:
            assert ollama.prompt_ids(name, list(known[label][0].messages)) == known[label][1], label
        assert len(sent) >= 3
        for label in TOOLS:  # this version tells the number of tokens alone
            if label in known:
                case, ids = known[label]
                fed = ollama.prompt_tokens(name, api_messages(case.messages), tools=case.tools)
                assert fed == len(ids), label
    finally:
        ollama.delete(name)
