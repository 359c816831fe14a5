"""A real model: SmolLM2-135M-Instruct from its published Q4_1 file, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import converters

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

TEXTS = [
    "What is the capital of France? 12345, don't!",
    "def f(x):\n    return x**2  # ½ ² 你好 👋🏽\n\n\n",
    "<|im_start|>user\nHi<|im_end|>\n",
]


@pytest.fixture(scope="module")
def folder(smollm2_gguf, tmp_path_factory):
    """Our weights, the tokenizer by transformers: what the tool makes of a GGUF base."""
    from transformers import AutoTokenizer

    out = tmp_path_factory.mktemp("smollm2")
    converters.gguf_to_safetensors(smollm2_gguf, out)
    source = Path(smollm2_gguf)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.save_pretrained(out)
    return out


def test_weights_equal_the_loader_of_transformers(smollm2_gguf, folder):
    import torch
    from transformers import AutoModelForCausalLM

    source = Path(smollm2_gguf)
    theirs = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    ).state_dict()
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_written_again_it_is_the_same_model(smollm2_gguf, folder, tmp_path):
    written = converters.write_model(folder, tmp_path / "m.gguf", outtype="F32")
    converters.check_gguf(tmp_path / "m.gguf")
    before, after = converters.read_gguf(smollm2_gguf), converters.read_gguf(tmp_path / "m.gguf")
    assert written.notes == ()
    assert before.tensors.keys() == after.tensors.keys()
    for name in before.tensors:
        assert np.array_equal(before.dequantize(name), after.dequantize(name)), name
    cosmetic = {"name", "organization", "finetune", "basename", "license", "languages"}
    for key, value in before.values.items():
        if key.removeprefix("general.") in cosmetic or key in (
            "general.file_type",
            "tokenizer.ggml.add_space_prefix",  # of no effect for byte-level BPE
        ):
            continue
        assert after.values[key] == value, key


def test_tokenizes_like_the_published_file(smollm2_gguf, folder, judge, tmp_path):
    converters.write_model(folder, tmp_path / "m.gguf", outtype="Q8_0")
    ours, published = judge.runtime(tmp_path / "m.gguf"), judge.runtime(smollm2_gguf)
    for text in TEXTS:
        assert ours.tokenize(text, add_special=True) == published.tokenize(text, add_special=True)
