"""Llama and Mistral: q and k permuted, every kind of rope scaling, biases."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.oracle
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
BASES = {
    "untied": ("LlamaForCausalLM", {}),
    "tied, llama3": ("LlamaForCausalLM", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "linear": ("LlamaForCausalLM", {"rope_parameters": LINEAR}),
    "yarn": ("LlamaForCausalLM", {"rope_parameters": YARN}),
    "biases": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "mistral, wide heads": ("MistralForCausalLM", {"head_dim": 32, "sliding_window": None}),
}


@pytest.mark.parametrize("kind", BASES)
def test_llama_predicts_like_transformers(kind, make_tiny, prove):
    name, settings = BASES[kind]
    prove(make_tiny(name, **settings))
