"""Gemma 2 and 3. The runtime looks GELU up in a float16 table, which costs about 1e-3.

The reference is therefore transformers in float64 with the same table. It still jumps by up to
2e-4 where two computations round an activation to different float16 neighbours; float32 and float64
transformers differ as much from each other.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import converters
from converters import archs
from converters.errors import ConvertError, Unsupported

pytestmark = pytest.mark.oracle
TABLE, PLAIN = 3e-4, 2e-3
COMMON = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
TIED = {**COMMON, "tie_word_embeddings": True}
ODD = [
    "full_attention",
    "sliding_attention",
    "full_attention",
    "full_attention",
    "sliding_attention",
]
SCALED = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
}
BASES = {
    "gemma2": ("Gemma2ForCausalLM", {**TIED, "num_hidden_layers": 3}),
    "gemma2, another pattern": (
        "Gemma2ForCausalLM",
        {**TIED, "num_hidden_layers": 5, "layer_types": ODD, "attn_logit_softcapping": 20.0},
    ),
    "gemma3": ("Gemma3ForCausalLM", {**TIED, "num_hidden_layers": 7}),
    "gemma3 untied": ("Gemma3ForCausalLM", {**COMMON, "num_hidden_layers": 6}),
    "gemma3, another pattern": (
        "Gemma3ForCausalLM",
        {**TIED, "num_hidden_layers": 5, "layer_types": ODD},
    ),
    "gemma3 scaled": (
        "Gemma3ForCausalLM",
        {**TIED, "num_hidden_layers": 6, "rope_parameters": SCALED},
    ),
}


def with_table(model):
    """The model with GELU as ggml has it (vec.h, ggml_vec_gelu_f32), in float64 otherwise."""
    import torch

    class Table(torch.nn.Module):
        def forward(self, x):
            half = x.half().float()
            y = torch.nn.functional.gelu(half, approximate="tanh").half().to(x.dtype)
            return torch.where(x <= -10, 0, torch.where(x >= 10, x, y))

    for module in model.modules():
        if hasattr(module, "act_fn"):
            module.act_fn = Table()
    return model.double()


def tiny(make_tiny, kind):
    name, settings = BASES[kind]
    return make_tiny(name, norm_centre=0.0, **settings)


@pytest.mark.parametrize("kind", BASES)
def test_gemma_predicts_like_transformers(kind, make_tiny, prove, archs_case):
    prove(tiny(make_tiny, kind), archs_case(bound=TABLE, prepare=with_table, loose=PLAIN))


@pytest.mark.parametrize("kind", BASES)
def test_round_trip(kind, make_tiny, judge, tmp_path):
    """Norms are w - 1 + 1 - 1: not the same bits, the same model."""
    base = tiny(make_tiny, kind)
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.gguf_to_safetensors(tmp_path / "m.gguf", tmp_path / "back")
    np.testing.assert_allclose(judge.hf(base), judge.hf(tmp_path / "back"), atol=2e-5)
    first = json.loads((base / "config.json").read_text())
    again = json.loads((tmp_path / "back" / "config.json").read_text())
    for key in ("layer_types", "sliding_window", "query_pre_attn_scalar", "rope_parameters"):
        assert again[key] == first[key], key


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("Gemma2ForCausalLM", {**TIED, "query_pre_attn_scalar": 16}, "query_pre_attn_scalar=16"),
        ("Gemma3ForCausalLM", {**TIED, "query_pre_attn_scalar": 16}, "query_pre_attn_scalar=16"),
        ("Gemma2ForCausalLM", COMMON, "one tensor for both ends"),
        ("Gemma2ForCausalLM", {**TIED, "attn_logit_softcapping": None}, "always caps"),
        ("Gemma2ForCausalLM", {**TIED, "attention_bias": True}, "attention_bias"),
        ("Gemma3ForCausalLM", {**TIED, "attn_logit_softcapping": 50.0}, "does not cap"),
        ("Gemma3ForCausalLM", {**TIED, "use_bidirectional_attention": True}, "looks back only"),
        ("Gemma3ForCausalLM", {**TIED, "hidden_activation": "gelu"}, "hidden_activation"),
    ],
)
def test_what_the_runtime_would_ignore_is_refused(name, settings, expected, small_config):
    with pytest.raises(Unsupported) as caught:
        archs.find(small_config(name, **settings))
    assert expected in caught.value.why


def test_thetas_of_a_file_that_ollama_wrote(small_config):
    """It has its own two keys; without either, the theta would be a guess of a hundredth."""
    config = small_config("Gemma3ForCausalLM", **TIED)
    arch = archs.find(config)
    values = {pair.key: pair.value for pair in arch.pairs(config)}
    del values["gemma3.rope.freq_base"], values["gemma3.rope.freq_base_swa"]
    with pytest.raises(ConvertError):
        arch.config_of(values, {})
    values |= {"gemma3.rope.global.freq_base": 5e5, "gemma3.rope.local.freq_base": 2e4}
    back = arch.config_of(values, {})
    assert (back["rope_theta"], back["rope_local_base_freq"]) == (5e5, 2e4)
