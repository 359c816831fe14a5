"""Architectures with Llama's tensors: SmolLM3, Granite, Ministral 3 and Mistral Small 3."""

from __future__ import annotations

import json

import numpy as np
import pytest

import converters
from converters import archs
from converters.errors import Unsupported

pytestmark = pytest.mark.oracle
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.5,
}
GRANITE = {
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "logits_scaling": 2.0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
BASES = {
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 5, "tie_word_embeddings": True}),
    "smollm3 untied": ("SmolLM3ForCausalLM", {"num_hidden_layers": 4}),
    "granite": ("GraniteForCausalLM", GRANITE),
    "granite tied, biases": (
        "GraniteForCausalLM",
        {**GRANITE, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "granite llama3 rope": ("GraniteForCausalLM", {**GRANITE, "rope_parameters": LLAMA3}),
    "ministral3": ("Ministral3ForCausalLM", {"head_dim": 32, "rope_parameters": YARN}),
    "ministral3 tied, other ramp": (
        "Ministral3ForCausalLM",
        {
            "head_dim": 16,
            "tie_word_embeddings": True,
            "rope_parameters": {
                **YARN,
                "original_max_position_embeddings": 128,
                "beta_fast": 4.0,
                "beta_slow": 0.5,
            },
        },
    ),
}


@pytest.mark.parametrize("kind", BASES)
def test_llama_kin_predicts_like_transformers(kind, make_tiny, prove):
    name, settings = BASES[kind]
    prove(make_tiny(name, **settings))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("SmolLM3ForCausalLM", {"num_hidden_layers": 4, "attention_bias": True}, "attention_bias"),
        ("SmolLM3ForCausalLM", {"num_hidden_layers": 4, "mlp_bias": True}, "mlp_bias"),
        ("SmolLM3ForCausalLM", {"num_hidden_layers": 6, "no_rope_layer_interval": 3}, "every four"),
        ("SmolLM3ForCausalLM", {"rope_parameters": LLAMA3}, "rope_type=llama3"),
        (
            "Ministral3ForCausalLM",
            {"head_dim": 16, "rope_parameters": {**YARN, "mscale": 0.7}},
            "mscale=0.7",
        ),
        (
            "Ministral3ForCausalLM",
            {"head_dim": 16, "rope_parameters": {**YARN, "attention_factor": 1.3}},
            "attention_factor",
        ),
    ],
)
def test_what_the_runtime_would_ignore_is_refused(name, settings, expected, small_config):
    with pytest.raises(Unsupported) as caught:
        archs.find(small_config(name, **settings))
    assert expected in caught.value.why


def test_mistral4_is_another_family(small_config):
    config = small_config("Ministral3ForCausalLM", head_dim=16, rope_parameters=YARN)
    with pytest.raises(Unsupported, match="cannot be represented"):
        archs.find({**config, "model_type": "mistral4"})


def test_a_granite_file_comes_back(make_tiny, judge, tmp_path):
    """Multipliers and permuted rows: the folder made from the file predicts the same."""
    base = make_tiny("GraniteForCausalLM", **GRANITE)
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.gguf_to_safetensors(tmp_path / "m.gguf", tmp_path / "back")
    again = json.loads((tmp_path / "back" / "config.json").read_text())
    assert {key: again[key] for key in GRANITE} == GRANITE
    assert np.array_equal(judge.hf(base), judge.hf(tmp_path / "back"))
