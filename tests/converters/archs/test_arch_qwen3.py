"""Qwen3: norms on the heads of q and k, heads wider than the model."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.oracle
BASES = {
    "untied": {"head_dim": 32},
    "tied": {"head_dim": 32, "tie_word_embeddings": True},
    "rslora": {"head_dim": 16},
}


@pytest.mark.parametrize("kind", BASES)
def test_qwen3_predicts_like_transformers(kind, make_tiny, prove, archs_case):
    case = archs_case(adapter={"use_rslora": True} if kind == "rslora" else {})
    prove(make_tiny("Qwen3ForCausalLM", **BASES[kind]), case)
