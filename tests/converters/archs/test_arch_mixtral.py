"""Mixtral: architecture "llama" with experts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import converters
from converters import archs

pytestmark = pytest.mark.oracle
MIXTRAL = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}


def test_mixtral_predicts_like_transformers(make_tiny, prove, archs_case, tmp_path):
    attention = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    written = prove(make_tiny("MixtralForCausalLM", **MIXTRAL), archs_case(adapter=attention))
    assert written.architecture == "llama"
    values = converters.read_gguf(tmp_path / "m.gguf").values
    assert (values["llama.expert_count"], values["llama.expert_used_count"]) == (4, 2)


def test_adapters_of_transformers_4_are_stacked(small_config):
    """Experts were w1 (gate), w2 (down), w3 (up) of block_sparse_moe, beside the router."""
    config = small_config("MixtralForCausalLM", **MIXTRAL)
    start = "model.layers.1.block_sparse_moe."
    shapes = {"w1": (96, 64), "w2": (64, 96), "w3": (96, 64)}
    pairs = {
        f"{start}experts.{expert}.{name}": Stored(f"{expert}.{name}", shape)
        for expert in range(4)
        for name, shape in shapes.items()
    }
    pairs[start + "gate"] = Stored("gate", (4, 64))
    arch = archs.find(config)
    gathered = arch.gather_pairs(config, pairs)
    assert len(gathered) == 4
    expected = arch.shapes(config)
    for module, pair in gathered.items():
        assert pair.weight_shape == expected[module + ".weight"], module
    stack = gathered["model.layers.1.mlp.experts.down_proj"]
    assert [stack.parts[e].name for e in range(4)] == ["0.w2", "1.w2", "2.w2", "3.w2"]


@dataclass(frozen=True)
class Stored:
    """As much of a stored pair as gathering looks at."""

    name: str
    weight_shape: tuple[int, ...]
    rank: int = 4
    embedding: bool = False
