"""The exact prompt text that a real Ollama builds: read from the trace that its server writes.

In: a Go template and a request. Out: the text that goes to the runner. 0.9.3 logs it when
OLLAMA_DEBUG is 2 (ollama llm/server.go, Completion). The model is a random Llama of one layer whose
vocabulary is the 256 bytes, so every text can be tokenized and one model serves all templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ft2ollama.files import sha256_file
from ft2ollama.gotemplate.lexer import unquote
from ft2ollama.gotemplate.ollama_data import api_messages
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.ollama_server import Server, start_server

_PROMPT = re.compile(r'msg="completion request" prompt=("(?:\\.|[^"\\])*"|\S*)')
_LAYER = {
    "attn_q": (32, 32),
    "attn_k": (32, 32),
    "attn_v": (32, 32),
    "attn_output": (32, 32),
    "ffn_gate": (32, 32),
    "ffn_up": (32, 32),
    "ffn_down": (32, 32),
}


class GoPrompts:
    """A server and its log."""

    def __init__(self, server: Server, gguf: Path) -> None:
        self.ollama = Ollama(server.host, timeout_s=120)
        self.log, self.gguf, self.sha256 = server.log, gguf, sha256_file(gguf)

    def create(self, gotmpl: str, system: str = "", name: str = "t") -> list[str]:
        """Register the template; its capabilities as the server sees them."""
        self.ollama.create(
            name, gguf=self.gguf, gguf_sha256=self.sha256, template=gotmpl, system=system or None
        )
        return list(self.ollama.show(name).capabilities)

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        thinking: bool | None = None,
        name: str = "t",
    ) -> str:
        """The text that the server makes of a request to /api/chat."""
        start = self.log.stat().st_size
        options = {**quiet_options(True), "num_predict": 1, "num_ctx": 16384, "num_batch": 512}
        self.ollama.chat(
            name, api_messages(messages), options=options, tools=list(tools) or None, think=thinking
        )
        with self.log.open("rb") as log:
            log.seek(start)
            found = _PROMPT.findall(log.read().decode("utf-8", "replace"))
        text = str(found[-1])
        return unquote(text) if text.startswith('"') else text


@contextmanager
def go_prompts(binary: Path, folder: Path) -> Iterator[GoPrompts]:
    """A private server that logs prompts."""
    wrapper = folder / "ollama-traced"
    wrapper.write_text(f'#!/bin/sh\nOLLAMA_DEBUG=2 exec "{binary}" "$@"\n')
    wrapper.chmod(0o755)
    with start_server(
        wrapper, models=folder / "models", log=folder / "server.log", threads=1
    ) as server:
        yield GoPrompts(server, byte_model(folder / "bytes.gguf"))


def byte_model(path: Path, seed: int = 0) -> Path:
    """A random Llama; a token per byte, and an end token."""
    from gguf import GGUFWriter
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, "<|end|>"]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(65536)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(letters) + [3])
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_eos_token_id(len(letters))
    writer.add_add_bos_token(False)
    random = np.random.default_rng(seed)
    shapes = {f"blk.0.{name}.weight": shape for name, shape in _LAYER.items()}
    shapes |= {"token_embd.weight": (len(tokens), 32), "output.weight": (len(tokens), 32)}
    for name, shape in shapes.items():
        writer.add_tensor(name, random.normal(0, 0.1, shape).astype(np.float32))
    for name in ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"):
        writer.add_tensor(name, np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
