"""Mixtral: architecture "llama" with experts."""

from __future__ import annotations

import pytest

import converters

pytestmark = pytest.mark.oracle
MIXTRAL = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}


def test_mixtral_predicts_like_transformers(make_tiny, prove, archs_case, tmp_path):
    attention = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    written = prove(make_tiny("MixtralForCausalLM", **MIXTRAL), archs_case(adapter=attention))
    assert written.architecture == "llama"
    values = converters.read_gguf(tmp_path / "m.gguf").values
    assert (values["llama.expert_count"], values["llama.expert_used_count"]) == (4, 2)
