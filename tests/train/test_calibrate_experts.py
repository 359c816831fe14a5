"""What each expert meets: equal to a direct computation of the tuned model, on real tokens only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_families

from converters.importance import read_statistics
from ft2ollama.train.calibrate import collect, parted, within

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and peft warn about themselves
SAMPLES = [list(range(3 * n, 3 * n + 3 + 2 * n)) for n in range(1, 9)]


def loaded(name: str, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    family = tiny_families.FAMILIES[name]
    family = replace(family, settings={**family.settings, "num_hidden_layers": 1})
    return AutoModelForCausalLM.from_pretrained(tiny_families.make_base(family, folder))


def tuned(name: str, folder: Path) -> Any:
    """The experts themselves are tuned, each stack by a pair of its own."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(
        loaded(name, folder),
        LoraConfig(
            r=2,
            target_modules=["q_proj"],
            target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        ),
    )
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "lora_B" in key:
                weight.normal_(0, 0.3)
    return model


def direct(merged: Any, rows: list[Any], n_experts: int) -> tuple[Any, Any, Any]:
    """One sample at a time through the merged model: sums of both inputs, counts."""
    import torch

    experts = merged.model.layers[0].mlp.experts
    up, down, counts = {}, {}, np.zeros(n_experts)
    given: list[Any] = []
    handle = experts.register_forward_hook(lambda module, args, out: given.append(args))
    with torch.no_grad():
        for row in rows:
            merged(input_ids=torch.tensor([list(row)]))
    handle.remove()
    for hidden, chosen, _ in given:
        for x, choice in zip(hidden.double(), chosen.tolist(), strict=True):
            for e in choice:
                gate, value = (experts.gate_up_proj[e].double() @ x).chunk(2)
                inner = torch.nn.functional.silu(gate) * value
                up[e] = up.get(e, 0) + x.square().numpy()
                down[e] = down.get(e, 0) + inner.square().detach().numpy()
                counts[e] += 1
    return up, down, counts


@pytest.mark.parametrize(("name", "adapted"), [("mixtral", False), ("qwen2moe", True)])
def test_sums_equal_a_direct_computation(name: str, adapted: bool, tmp_path: Path) -> None:
    model = (tuned if adapted else loaded)(name, tmp_path / "base")
    collect(model, SAMPLES, tmp_path / "c.safetensors")
    assert not any(module._forward_pre_hooks for module in model.modules())
    merged = model.merge_and_unload() if adapted else model
    found = read_statistics(tmp_path / "c.safetensors")
    stem = "model.layers.0.mlp.experts."
    assert found.linears[stem + "up_proj"] == stem + "gate_proj"
    assert found.n_experts == {stem + "gate_proj": 4, stem + "down_proj": 4}
    parts = parted(within(SAMPLES, 128, 10_000))
    counted = found.stored[stem + "down_proj.counts"].all().reshape(2, -1)
    for part, rows, counts in zip(("calibration", "held_out"), parts, counted, strict=True):
        up, down, expected = direct(merged, rows, 4)
        np.testing.assert_array_equal(counts, expected)
        for linear, sums in (("gate_proj", up), ("down_proj", down)):
            ours = found.expert_sums(stem + linear, part)
            for e in range(4):
                np.testing.assert_allclose(ours[e], sums.get(e, 0), rtol=2e-4, atol=1e-6)


def test_padding_of_shared_experts_is_not_counted(tmp_path: Path) -> None:
    collect(loaded("qwen2moe", tmp_path / "base"), SAMPLES, tmp_path / "c.safetensors")
    found = read_statistics(tmp_path / "c.safetensors")
    tokens = sum(map(len, SAMPLES))
    for name in ("mlp.shared_expert.gate_proj", "mlp.shared_expert.down_proj"):
        assert sum(found.counts(f"model.layers.0.{name}")) == tokens
    assert sum(found.counts("model.layers.0.mlp.experts.gate_proj")) == 2 * tokens
