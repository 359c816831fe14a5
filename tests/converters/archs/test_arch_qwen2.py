"""Qwen2: q, k and v with biases, grouped heads, tied and untied."""

from __future__ import annotations

import pytest

from converters import archs
from converters.errors import Unsupported

pytestmark = pytest.mark.oracle
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
BASES = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "yarn": {"rope_parameters": YARN},
}


@pytest.mark.parametrize("kind", BASES)
def test_qwen2_predicts_like_transformers(kind, make_tiny, prove):
    prove(make_tiny("Qwen2ForCausalLM", **BASES[kind]))


def test_heads_that_do_not_fill_the_width_are_refused(small_config):
    with pytest.raises(Unsupported) as caught:
        archs.find(small_config("Qwen2ForCausalLM", head_dim=32))
    assert "head_dim=32" in caught.value.why
