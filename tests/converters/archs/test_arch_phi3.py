"""Phi-3 and Phi-4-mini: fused projections, part of a head rotated, two sets of rope factors."""

from __future__ import annotations

import json

import numpy as np
import pytest

import converters
from converters import archs
from converters.errors import Unsupported

pytestmark = pytest.mark.oracle
BIG = {"max_position_embeddings": 2048, "original_max_position_embeddings": 512}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "long_factor": [1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
}
MINI = {
    **LONG,
    "long_factor": LONG["long_factor"][:6],
    "short_factor": LONG["short_factor"][:6],
    "partial_rotary_factor": 0.75,
}
BASES = {
    "plain": {},
    "part of a head, tied": {
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.75,
        },
    },
    "longrope, short factors": {**BIG, "rope_parameters": LONG},
    "longrope like Phi-4-mini": {**BIG, "rope_parameters": MINI, "tie_word_embeddings": True},
}


@pytest.mark.parametrize("kind", BASES)
def test_phi3_predicts_like_transformers(kind, make_tiny, prove):
    prove(make_tiny("Phi3ForCausalLM", **BASES[kind]))


def test_long_factors(make_tiny, prove, archs_case):
    """The runtime's context (256) is longer than 32, so it takes the long factors for every text.

    transformers takes them for the prompt of 40 tokens only.
    """
    settings = {**BIG, "original_max_position_embeddings": 32, "rope_parameters": LONG}
    base = make_tiny("Phi3ForCausalLM", **settings)
    written = prove(base, archs_case(prompts=(2,)))
    assert any("more than 32" in note for note in written.notes)


@pytest.mark.parametrize("kind", BASES)
def test_round_trip(kind, make_tiny, judge, tmp_path):
    base = make_tiny("Phi3ForCausalLM", **BASES[kind])
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.gguf_to_safetensors(tmp_path / "m.gguf", tmp_path / "back")
    np.testing.assert_allclose(judge.hf(base), judge.hf(tmp_path / "back"), atol=1e-6)
    again = json.loads((tmp_path / "back" / "config.json").read_text())
    first = json.loads((base / "config.json").read_text())
    for key in ("rope_type", "long_factor", "partial_rotary_factor", "rope_theta"):
        expected = first["rope_parameters"].get(key)
        assert again["rope_parameters"].get(key, expected) == expected


def test_factors_of_the_wrong_number_are_refused(small_config):
    config = small_config("Phi3ForCausalLM", **BIG, rope_parameters=LONG)
    config["rope_parameters"] = {**LONG, "long_factor": [1.0] * 7}
    with pytest.raises(Unsupported) as caught:
        archs.find(config)
    assert "long_factor has 7 entries, not 8" in caught.value.why
