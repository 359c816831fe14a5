"""GLM-4-0414: four norms, half of a head rotated, gate and up in one tensor."""

from __future__ import annotations

import pytest

import converters

pytestmark = pytest.mark.oracle
BASES = {
    "untied": {"head_dim": 16},
    "biases, wide heads, tied": {
        "head_dim": 32,
        "attention_bias": True,
        "tie_word_embeddings": True,
    },
}


@pytest.mark.parametrize("kind", BASES)
def test_glm4_predicts_like_transformers(kind, make_tiny, prove):
    prove(make_tiny("Glm4ForCausalLM", **BASES[kind]))


def test_only_half_of_a_head_is_rotated(make_tiny, tmp_path):
    converters.write_model(make_tiny("Glm4ForCausalLM", head_dim=16), tmp_path / "m.gguf")
    assert converters.read_gguf(tmp_path / "m.gguf").values["glm4.rope.dimension_count"] == 8
