"""The terms of the memory formula against what torch, peft and bitsandbytes really hold."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ft2ollama.estimate import memory
from ft2ollama.estimate.memory import Way
from ft2ollama.estimate.shape import Shape, shape_of_config

SIZES = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 256,
}


def model_of(kind: str, **more: Any) -> tuple[Any, Shape]:
    """A random model and the shape that its config.json gives."""
    config = AutoConfig.for_model(kind, **{**SIZES, **more})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model, shape_of_config(config.to_dict(), kind)


def with_lora(model: Any, rank: int, target: str | list[str]) -> Any:
    config = LoraConfig(r=rank, target_modules=target, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for an old name
        return get_peft_model(model, config)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "phi3", "gemma3_text", "granite"])
def test_weights_are_those_of_the_model(kind: str, *, tied: bool) -> None:
    model, shape = model_of(kind, tie_word_embeddings=tied, pad_token_id=0)
    real = sum(weight.numel() for weight in model.parameters())
    assert shape.weights == pytest.approx(real, rel=0.01)  # biases and extra norms are left out


def test_experts_count_whole_for_memory_and_by_choice_for_time() -> None:
    model, shape = model_of("qwen3_moe", num_experts=8, num_experts_per_tok=2,
                            moe_intermediate_size=64)  # fmt: skip
    real = sum(weight.numel() for weight in model.parameters())
    assert shape.weights == pytest.approx(real, rel=0.02)
    experts = 3 * 3 * 8 * 96 * 64
    assert shape.linear_weights - shape.active_weights == experts * 6 // 8


@pytest.mark.parametrize("rank", [4, 16])
@pytest.mark.parametrize("target", [("all",), ("q_proj", "v_proj"), ("down_proj",)])
def test_adapter_weights_are_pefts(rank: int, target: tuple[str, ...]) -> None:
    model, shape = model_of("llama")
    tuned = with_lora(model, rank, "all-linear" if target == ("all",) else list(target))
    real = sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
    assert memory.adapter_weights(shape, rank, target) == real


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_layer_keeps_what_torch_keeps(dtype: torch.dtype) -> None:
    """Counted with saved_tensors_hooks, every storage once, weights left out."""
    deep, shape = saved_bytes(dtype, layers=5)
    flat, _ = saved_bytes(dtype, layers=2)
    width = 4 if dtype == torch.float32 else 2
    formula = memory.layer_saves(shape, "plain", width, rank=4)
    assert (deep - flat) / 3 / 64 == pytest.approx(formula, rel=0.01)


def saved_bytes(dtype: torch.dtype, layers: int) -> tuple[int, Shape]:
    """Bytes that autograd holds after the forward pass of 2 x 32 tokens."""
    model, shape = model_of("llama", num_hidden_layers=layers)
    tuned = with_lora(model.to(dtype), 4, "all-linear")
    tuned.enable_input_require_grads()
    weights = {weight.untyped_storage().data_ptr() for weight in tuned.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        tuned.get_base_model().model(
            input_ids=torch.randint(0, 512, (2, 32)),
            attention_mask=torch.ones(2, 32, dtype=torch.long),
        )
    return sum(kept.values()), shape


@pytest.mark.parametrize("double", [True, False])
def test_nf4_bytes_are_bitsandbytes(*, double: bool) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    rows, columns = 1024, 2048
    packed, state = functional.quantize_4bit(
        torch.randn(rows, columns), quant_type="nf4", compress_statistics=double
    )
    real = packed.nbytes + state.absmax.nbytes
    if double:
        real += state.state2.absmax.nbytes
    assert memory.linear_bytes(rows * columns, 4, double=double) == pytest.approx(real, rel=1e-4)


def test_adam_holds_two_moments_beside_weight_and_gradient() -> None:
    weight = torch.nn.Parameter(torch.randn(100, 10))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    assert weight.grad is not None
    state = sum(value.nbytes for value in optimizer.state[weight].values() if value.dim())
    assert (weight.nbytes + weight.grad.nbytes + state) / weight.numel() == Way().state_bytes


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"bits": 4}, "4 bits take less than 16"),
        ({"recompute": 1.0}, "layers computed again keep less"),
        ({"recompute": 1.0, "kept": 0.0}, "offloaded checkpoints keep less"),
        ({"logits": "chunked"}, "chunked logits take less"),
        ({"saves": "fused"}, "lean layers keep less"),
        ({"reached": 0.5}, "layers that no gradient reaches keep nothing"),
    ],
)
def test_every_saving_saves(changes: dict[str, Any], fact: str) -> None:
    from dataclasses import replace

    shape = Shape("7B", 3584, 18944, 28, 28, 4, 128, 152064)
    plain = Way(logits="full")
    before = memory.total_bytes(shape, plain, 4e7, 2048)
    assert memory.total_bytes(shape, replace(plain, **changes), 4e7, 2048) < before, fact


# Peak resident memory of whole trainings, GB, as run.json has it: model, batch, tokens of a row,
# learned share, bits, reference replies, GB. The constants of the allocator were taken from these.
SMOL = Shape("SmolLM2-135M", 576, 1536, 30, 9, 3, 64, 49152, tied=True)
MEASURED = [
    (SMOL, 8, 51, 0.6, 16, 0, 1.50),
    (SMOL, 4, 241, 0.6, 16, 0, 2.14),
    (SMOL, 8, 241, 0.6, 16, 0, 3.13),
    (SMOL, 2, 751, 0.6, 16, 0, 2.48),
    (SMOL, 8, 51, 0.6, 32, 0, 1.99),
    (SMOL, 4, 241, 0.6, 32, 0, 3.26),
]


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: f"{case[0].name}-{case[1]}x{case[2]}")
def test_cpu_peaks_that_were_measured(case: tuple[Any, ...]) -> None:
    from ft2ollama.estimate import Job, Place, Rows, estimate

    shape, batch, longest, learned, bits, replies, measured = case
    stored = 4.0 * shape.weights
    rows = Rows(32, (longest - 1, longest), learned, "")
    job = Job(shape, rows, "cpu", bits=bits, batch=batch, stored=stored, replies=replies)
    found = estimate(job, Place("here", 24e9, 24e9), kind="Q8_0")
    assert found.peak_gb == pytest.approx(measured, rel=0.15)


def test_the_shape_of_a_folder_is_that_of_its_config(tiny: Any, tmp_path: Path) -> None:
    from ft2ollama.estimate.source import find

    known = find(str(tiny.folder))
    settings = json.loads((tiny.folder / "config.json").read_text())
    assert known.shape.hidden == settings["hidden_size"]
    assert known.shape.tied
    assert known.folder == tiny.folder
    assert known.stored == sum(path.stat().st_size for path in tiny.folder.glob("*.safetensors"))
