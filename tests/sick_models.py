"""Models that are wrong in the ways in which users make them wrong; and what they should be.

The weights are small and random, the vocabularies and chat templates real (real_chat.py). Faults
are made in the file itself (a scalar or a tensor patched in place) or in what Ollama is told.
"""

from __future__ import annotations

import json
import shutil
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from real_chat import template_text

from converters import read_gguf, write_model

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "initializer_range": 0.1,
    "tie_word_embeddings": True,
}


def make_folder(
    folder: Path, tokenizer: Path, kind: str = "Llama", *, seed: int = 0, **settings: Any
) -> Path:
    """A random model of a class of transformers with the tokenizer of `tokenizer`."""
    import torch
    import transformers
    from tokenizers import Tokenizer

    size = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab_size()
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = getattr(transformers, f"{kind}Config")
        cls = getattr(transformers, f"{kind}ForCausalLM")
        cls(config(**{**SIZES, "vocab_size": size, **settings})).save_pretrained(folder)
    for path in tokenizer.iterdir():
        if "token" in path.name or path.name == "generation_config.json":
            shutil.copy(path, folder)
    return folder


def with_llama3_turns(source: Path, folder: Path) -> Path:
    """A tokenizer of `source` with the control tokens and the chat template of Llama 3.2.

    Llama's own vocabulary is three times as large, and every file and runner pays for it.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    names = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer.add_special_tokens([*names, "<|mine|>"])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": names[0]}
    settings |= {"eos_token": "<|eot_id|>"}
    settings["chat_template"] = template_text("meta-llama-Llama-3.2-3B-Instruct")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def make_adapter(base: Path, folder: Path, *, std: float = 0.02) -> Path:
    """A LoRA on every linear layer; std of its B, by default as large as a training makes it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base)
        tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
        torch.manual_seed(1)
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=std)
        tuned.save_pretrained(folder)
    return folder


def gguf_of(base: Path, out: Path, **options: Any) -> Path:
    """The model's file, F16 unless options say otherwise."""
    write_model(base, out, **{"outtype": "F16", **options})
    return out


def patched(source: Path, out: Path, values: Mapping[str, Any]) -> Path:
    """A copy with scalars of the metadata replaced in place (bool, unsigned, float by its type)."""
    shutil.copy(source, out)
    data = bytearray(out.read_bytes())
    for key, value in values.items():
        at = data.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key)
        code = {7: "?", 4: "I", 5: "i", 6: "f"}[struct.unpack_from("<I", data, at)[0]]
        struct.pack_into(f"<{code}", data, at + 4, value)
    out.write_bytes(data)
    return out


def retyped(source: Path, out: Path, tokens: Mapping[int, int]) -> Path:
    """A copy in which some tokens have another type."""
    shutil.copy(source, out)
    data = bytearray(out.read_bytes())
    key = b"tokenizer.ggml.token_type"
    at = data.index(struct.pack("<Q", len(key)) + key) + 8 + len(key) + 4 + 4 + 8
    for number, kind in tokens.items():
        struct.pack_into("<i", data, at + 4 * number, kind)
    out.write_bytes(data)
    return out


def rows_moved(source: Path, out: Path, heads: Mapping[str, int]) -> Path:
    """A copy with rows of tensors in Hugging Face's order again. heads: tensor -> its heads."""
    shutil.copy(source, out)
    file = read_gguf(out)
    with out.open("r+b") as target:
        for name, count in heads.items():
            info = file.tensors[name]
            rows = file.raw(name).copy().reshape(info.shape[0], -1)
            half = info.shape[0] // count // 2
            back = rows.reshape(count, half, 2, -1).swapaxes(1, 2).reshape(rows.shape)
            target.seek(info.offset)
            target.write(back.tobytes())
    return out


def exchanged(source: Path, out: Path, one: str, other: str) -> Path:
    """A copy in which two tensors have each other's data."""
    shutil.copy(source, out)
    file = read_gguf(out)
    data = {one: file.raw(other).copy(), other: file.raw(one).copy()}
    with out.open("r+b") as target:
        for name, raw in data.items():
            target.seek(file.tensors[name].offset)
            target.write(np.asarray(raw).tobytes())
    return out
