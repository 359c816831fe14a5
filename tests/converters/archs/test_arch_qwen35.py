"""Qwen3.5: linear attention in three of four layers, value heads in another order."""

from __future__ import annotations

import pytest

import converters
from converters import archs
from converters.errors import Unsupported

pytestmark = pytest.mark.oracle
LINEAR = {
    "num_hidden_layers": 4,
    "head_dim": 32,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}
BASES = {
    "as many value heads as key heads": LINEAR,
    "three value heads to a key head, tied": {
        **LINEAR,
        "linear_num_value_heads": 6,
        "tie_word_embeddings": True,
    },
    "another pattern": {
        **LINEAR,
        "num_hidden_layers": 3,
        "linear_num_value_heads": 4,
        "layer_types": ["full_attention", "linear_attention", "full_attention"],
    },
}


@pytest.mark.parametrize("kind", BASES)
def test_qwen35_predicts_like_transformers(kind, make_tiny, prove, archs_case):
    """The delta rule adds up rounding: float32 transformers is itself 1e-5 away from float64."""
    case = archs_case(prepare=lambda model: model.double(), loose=5e-5)
    prove(make_tiny("Qwen3_5ForCausalLM", norm_centre=0.0, **BASES[kind]), case)


def test_value_heads_of_another_width_are_refused(small_config):
    with pytest.raises(Unsupported) as caught:
        archs.find(small_config("Qwen3_5ForCausalLM", **{**LINEAR, "linear_value_head_dim": 32}))
    assert "linear_value_head_dim=32" in caught.value.why


def test_the_way_back_is_refused_plainly(make_tiny, tmp_path):
    base = make_tiny("Qwen3_5ForCausalLM", norm_centre=0.0, **LINEAR)
    converters.write_model(base, tmp_path / "m.gguf")
    with pytest.raises(Unsupported, match="cannot be turned back"):
        converters.gguf_to_safetensors(tmp_path / "m.gguf", tmp_path / "back")
    assert not (tmp_path / "back").exists()
