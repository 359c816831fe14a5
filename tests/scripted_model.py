"""A GGUF that answers every prompt with the same pieces of text, one token each.

Its one layer adds nothing, and the output layer leads from each piece to the next and from any
other token to the first. So what a server does with a reply (tool calls, thoughts, the end) can be
seen without a trained model. The vocabulary is the 256 bytes, so that every prompt can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

END = "<|im_end|>"
_WIDTH = 32
_LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def write_scripted(path: Path, pieces: Sequence[str] = ("ok",), jinja: str = "") -> Path:
    """pieces: what it says, at most 30, each another.  jinja: the chat template in the file."""
    from gguf import GGUFWriter

    letters = _byte_letters()
    tokens = [*(letters[byte] for byte in range(256)), "<|im_start|>", END]
    kinds = [1] * 256 + [3, 3]
    end = len(tokens) - 1
    said = []
    for piece in pieces:
        said.append(len(tokens))
        tokens.append("".join(letters[byte] for byte in piece.encode()))
        kinds.append(4 if piece.startswith("<") else 1)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(8192)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    if jinja:
        writer.add_chat_template(jinja)
    embedding = np.zeros((len(tokens), _WIDTH), np.float32)
    output = np.zeros((len(tokens), _WIDTH), np.float32)
    embedding[:, 0] = 1
    for step, token in enumerate(said, 1):
        embedding[token] = np.eye(_WIDTH, dtype=np.float32)[step]
    for step, token in enumerate([*said, end]):
        output[token, step] = 8
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    for name in _LINEAR:
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((_WIDTH, _WIDTH), np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(_WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _byte_letters() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2's)."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return {b: chr(b) for b in kept} | {b: chr(256 + i) for i, b in enumerate(others)}
