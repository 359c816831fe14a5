"""GGUF -> folder for the families without a test of their own: same bits, same predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import converters

pytestmark = pytest.mark.oracle
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
BASES = {
    "qwen2": ("Qwen2ForCausalLM", {"rope_parameters": YARN}),
    "qwen2 tied": ("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 32, "tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", {"head_dim": 32, "sliding_window": None}),
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 5}),
    "glm4": ("Glm4ForCausalLM", {"head_dim": 32, "attention_bias": True}),
    "ministral3": (
        "Ministral3ForCausalLM",
        {
            "head_dim": 16,
            "rope_parameters": {
                **YARN,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "beta_fast": 8.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
    ),
}


@pytest.mark.parametrize("kind", BASES)
def test_the_way_back_is_exact(kind, make_tiny, judge, tmp_path):
    name, settings = BASES[kind]
    base, back = make_tiny(name, **settings), tmp_path / "back"
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.gguf_to_safetensors(tmp_path / "m.gguf", back)
    before = load_file(base / "model.safetensors")
    after = load_file(back / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[tensor], after[tensor]) for tensor in before)
    assert np.array_equal(judge.hf(base), judge.hf(back))
    config = json.loads((back / "config.json").read_text())
    expected = "LlamaForCausalLM" if kind == "mistral" else name  # a GGUF file does not tell them
    assert config["architectures"] == [expected]
