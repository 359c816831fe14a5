"""Qwen2-MoE and Qwen3-MoE: experts stacked from either form of checkpoint and adapter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import converters
from converters import archs
from converters.errors import ConvertError, Unsupported
from converters.lora import LoraPair

pytestmark = pytest.mark.oracle
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
QWEN2 = {**MOE, "shared_expert_intermediate_size": 48}
QWEN3 = {**MOE, "norm_topk_prob": True, "head_dim": 32}
BASES = {
    "qwen2moe": ("Qwen2MoeForCausalLM", QWEN2),
    "qwen2moe without biases": ("Qwen2MoeForCausalLM", {**QWEN2, "qkv_bias": False}),
    "qwen3moe": ("Qwen3MoeForCausalLM", QWEN3),
    "qwen3moe tied": ("Qwen3MoeForCausalLM", {**QWEN3, "tie_word_embeddings": True}),
}


@pytest.mark.parametrize("kind", BASES)
def test_qwen_moe_predicts_like_transformers(kind, make_tiny, prove, archs_case):
    name, settings = BASES[kind]
    attention = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    prove(make_tiny(name, **settings), archs_case(adapter=attention if "3" in name else {}))


def expert_pairs(rank: int, skip: int | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random factors for each expert of layer 1, and its router."""
    draw = np.random.default_rng(5)
    shapes = {"gate_proj": (32, 64), "up_proj": (32, 64), "down_proj": (64, 32)}
    out = {}
    for expert in range(4):
        for projection, (rows, columns) in shapes.items():
            if expert != skip:
                name = f"model.layers.1.mlp.experts.{expert}.{projection}"
                out[name] = _factors(draw, rank, rows, columns)
    out["model.layers.1.mlp.gate"] = _factors(draw, rank, 4, 64)
    return out


def _factors(draw, rank, rows, columns) -> tuple[np.ndarray, np.ndarray]:
    return (
        draw.normal(0, 0.2, (rank, columns)).astype(np.float32),
        draw.normal(0, 0.2, (rows, rank)).astype(np.float32),
    )


def tuned_logprobs(judge, base, pairs, scale):
    """transformers with `scale * b @ a` added to its fused experts by hand."""
    import torch

    model = judge.tuned(base)
    block = model.model.layers[1].mlp
    for name, (a, b) in pairs.items():
        delta = torch.from_numpy(scale * b @ a)
        expert, projection = name.split(".")[-2:]
        with torch.no_grad():
            if name.endswith("mlp.gate"):
                block.gate.weight += delta
            elif projection == "down_proj":
                block.experts.down_proj[int(expert)] += delta
            else:
                half = slice(0, 32) if projection == "gate_proj" else slice(32, 64)
                block.experts.gate_up_proj[int(expert), half] += delta
    return judge.logprobs(model)


@pytest.mark.parametrize("missing", [None, 2])
def test_pairs_of_single_experts_are_stacked(
    missing, make_tiny, write_pairs, judge, difference, tmp_path
):
    """Merged and beside the model; an expert that was not trained is left alone."""
    base = make_tiny("Qwen3MoeForCausalLM", **QWEN3)
    pairs = expert_pairs(4, missing)
    adapter = write_pairs(pairs, target_modules=["gate_proj", "up_proj", "down_proj", "gate"])
    expected = tuned_logprobs(judge, base, pairs, 2.0)
    assert np.abs(expected - judge.hf(base)).max() > 0.05
    converters.write_model(base, tmp_path / "t.gguf", adapter=adapter, outtype="F32")
    assert difference(judge.runtime(tmp_path / "t.gguf").after_prompts(), expected) <= 1e-5
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="F32")
    converters.check_gguf(tmp_path / "a.gguf")
    beside = judge.runtime(tmp_path / "m.gguf", tmp_path / "a.gguf").after_prompts()
    assert difference(beside, expected) <= 1e-5


@dataclass(frozen=True)
class PairInMemory:
    """What an adapter reader hands over for one fused parameter."""

    name: str
    a: np.ndarray
    b: np.ndarray
    embedding: bool = False
    rank: int = 3

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (*self.b.shape[:-1], self.a.shape[-1])

    def load(self) -> LoraPair:
        return LoraPair(self.name, self.a, self.b, 0.5)


def test_a_fused_pair_becomes_gate_and_up(small_config):
    draw = np.random.default_rng(6)
    a = draw.normal(size=(4, 3, 64)).astype(np.float32)
    b = draw.normal(size=(4, 64, 3)).astype(np.float32)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    config = small_config("Qwen3MoeForCausalLM", **QWEN3)
    arch = archs.find(config)
    pairs = arch.gather_pairs(config, {name: PairInMemory(name, a, b)})
    whole = 0.5 * b @ a
    assert sorted(pairs) == [
        "model.layers.0.mlp.experts.gate_proj",
        "model.layers.0.mlp.experts.up_proj",
    ]
    for module, rows in zip(sorted(pairs), (slice(0, 32), slice(32, 64)), strict=True):
        assert pairs[module].weight_shape == arch.shapes(config)[module + ".weight"]
        update = pairs[module].load().delta(0, 128).reshape(4, 32, 64)
        np.testing.assert_allclose(update, whole[:, rows], atol=1e-5)
        some = pairs[module].load().delta(30, 70)  # from expert 0 to expert 2
        np.testing.assert_allclose(some, update.reshape(128, 64)[30:70], atol=1e-6)


def test_fused_and_single_experts_give_the_same_file(make_tiny, add_tokenizer, tmp_path):
    """transformers saves one matrix per expert; checkpoints with two stacks exist as well."""
    base = make_tiny("Qwen2MoeForCausalLM", **QWEN2)
    single = load_file(base / "model.safetensors")
    assert "model.layers.0.mlp.experts.3.up_proj.weight" in single
    fused = {name: w for name, w in single.items() if ".experts." not in name}
    for layer in range(2):
        at = f"model.layers.{layer}.mlp.experts."
        gate, up, down = (
            np.stack([single[f"{at}{e}.{part}_proj.weight"] for e in range(4)])
            for part in ("gate", "up", "down")
        )
        fused[at + "gate_up_proj"] = np.concatenate([gate, up], axis=1)
        fused[at + "down_proj"] = down
    other = tmp_path / "fused"
    other.mkdir()
    add_tokenizer(other)
    for file in ("config.json", "generation_config.json"):
        (other / file).write_bytes((base / file).read_bytes())
    save_file(fused, other / "model.safetensors")
    one = converters.write_model(base, tmp_path / "1.gguf", outtype="F32")
    two = converters.write_model(other, tmp_path / "2.gguf", outtype="F32")
    assert one.sha256 == two.sha256


def test_a_missing_expert_is_named(make_tiny, add_tokenizer, tmp_path):
    base = make_tiny("Qwen2MoeForCausalLM", **QWEN2)
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.mlp.experts.2.down_proj.weight"]
    (tmp_path / "base").mkdir()
    add_tokenizer(tmp_path / "base")
    (tmp_path / "base" / "config.json").write_bytes((base / "config.json").read_bytes())
    save_file(weights, tmp_path / "base" / "model.safetensors")
    with pytest.raises(ConvertError) as caught:
        converters.write_model(tmp_path / "base", tmp_path / "m.gguf")
    assert "model.layers.1.mlp.experts.down_proj.weight: missing" in caught.value.why
    assert not (tmp_path / "m.gguf").exists()


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("Qwen3MoeForCausalLM", {**QWEN3, "norm_topk_prob": False}, "norm_topk_prob"),
        ("Qwen2MoeForCausalLM", {**QWEN2, "norm_topk_prob": True}, "norm_topk_prob"),
        ("Qwen2MoeForCausalLM", {**QWEN2, "tie_word_embeddings": True}, "output layer of its own"),
        ("Qwen3MoeForCausalLM", {**QWEN3, "mlp_only_layers": [0]}, "mlp_only_layers"),
        ("Qwen3MoeForCausalLM", {**QWEN3, "decoder_sparse_step": 2}, "decoder_sparse_step"),
        ("Qwen3MoeForCausalLM", {**QWEN3, "attention_bias": True}, "attention_bias"),
    ],
)
def test_what_the_runtime_would_ignore_is_refused(name, settings, expected, small_config):
    with pytest.raises(Unsupported) as caught:
        archs.find(small_config(name, **settings))
    assert expected in caught.value.why


def test_experts_are_not_taken_apart(make_tiny, tmp_path):
    converters.write_model(make_tiny("Qwen3MoeForCausalLM", **QWEN3), tmp_path / "m.gguf")
    with pytest.raises(Unsupported, match="cannot be turned back"):
        converters.gguf_to_safetensors(tmp_path / "m.gguf", tmp_path / "back")
    assert not (tmp_path / "back").exists()
