"""The prompt that llama.cpp makes of a GGUF file's own chat template, as newer Ollamas do.

xllamacpp holds llama.cpp's server with its Jinja engine. In: a model file. Out: for a conversation
the text and its token ids. The weights do not matter, so they are as small as the vocabulary lets.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_cpp import LlamaCpp
from tiny_families import quiet
from tiny_settings import SMALL

import converters

_ASCII = " \t\n\r\f\v"
# Llama 3.1 and later write a date into the prompt: transformers the template's, llama.cpp today's.
DATE = {"date_string": "26 Jul 2024"}


def comparable(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Does the engine trim these texts as Python does?  It leaves U+3000 and U+00A0 alone."""
    texts = [str(message.get("content")) for message in messages]
    return all(text.strip() == text.strip(_ASCII) for text in texts)


class JinjaPrompts(LlamaCpp):
    """One model file."""

    def text(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        thinking: bool | None = None,
        fixed_date: bool = True,
    ) -> str:
        """The prompt. Raises urllib.error.HTTPError when the template refuses the conversation."""
        body: dict[str, Any] = {"messages": [_as_openai(message) for message in messages]}
        if tools:
            body["tools"] = list(tools)
        switches: dict[str, Any] = dict(DATE) if fixed_date else {}
        if thinking is not None:
            switches |= {"enable_thinking": thinking, "thinking": thinking}
        body["chat_template_kwargs"] = switches
        request = urllib.request.Request(
            self._server.listening_address + "/apply-template",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["prompt"])

    def ids(self, text: str) -> list[int]:
        """What the server feeds for a prompt: with the beginning token if the file asks for one."""
        return self.tokenize(text, add_special=True)


def _as_openai(message: Mapping[str, Any]) -> dict[str, Any]:
    """The API takes a call's arguments as text."""
    calls = [
        {
            **call,
            "function": {
                "name": call["function"]["name"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else dict(message)


def export(tokenizer: Path, jinja: str, folder: Path, *, add_bos: bool = False) -> Path:
    """A Llama of one narrow layer with this vocabulary, written as `ft2ollama export` writes it."""
    import transformers

    content = json.loads((tokenizer / "tokenizer.json").read_text("utf-8"))
    ids = [*content["model"]["vocab"].values(), *(one["id"] for one in content["added_tokens"])]
    sizes = {"vocab_size": max(ids) + 1, "hidden_size": 32, "num_hidden_layers": 1}
    settings = {**SMALL, **sizes, "max_position_embeddings": 8192}
    with quiet():
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
        model.save_pretrained(folder / "base")
    for file in tokenizer.iterdir():
        shutil.copy(file, folder / "base")
    path = folder / "model.gguf"
    converters.write_model(
        folder / "base",
        path,
        outtype="F16",
        name=tokenizer.name,
        chat_template=jinja,
        add_bos=add_bos,
    )
    return path


def transformers_text(
    jinja: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: bool | None = None,
    special: Mapping[str, str],
    add_generation_prompt: bool = True,
) -> str | None:
    """The prompt as transformers renders it; None when the template refuses the conversation."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    switches = {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}
    try:
        texts, _ = render_jinja_template(
            [list(messages)],
            tools=list(tools) or None,
            chat_template=jinja,
            add_generation_prompt=add_generation_prompt,
            **special,
            **switches,
            **DATE,
        )
    except (TemplateError, TypeError):
        return None
    return str(texts[0])
