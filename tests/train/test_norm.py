"""The fused RMS norm against transformers' own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_packing import FAMILIES, tiny_model

from ft2ollama.train.norm import RmsNorm, fuse_norms

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn


def frozen(family: str) -> Any:
    model = tiny_model(family).requires_grad_(False)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.uniform_(0.5, 2.0)
    return model


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "Gemma2"])
def test_equals_transformers(family: str, dtype: torch.dtype) -> None:
    plain = frozen(family).to(dtype)
    fused = copy.deepcopy(plain)
    norms = 5 + 4 * (family == "Qwen3")  # Qwen3 norms q and k too
    assert fuse_norms(fused) == norms
    x = (3 * torch.randn(2, 5, 64)).to(dtype)
    outer = torch.randn(2, 5, 64).to(dtype)
    results = []
    for model in (plain, fused):
        given = x.clone().requires_grad_()
        out = model.model.layers[0].input_layernorm(given)
        out.backward(outer)
        results.append((out.detach(), given.grad))
    for ours, theirs in zip(results[1], results[0], strict=True):
        assert ours.dtype == dtype
        near = 1e-6 if dtype == torch.float32 else 1e-2
        assert float((ours - theirs).float().norm() / theirs.float().norm()) < near


def test_other_norms_stay_as_they_are() -> None:
    assert fuse_norms(frozen("Gemma2")) == 0  # x * (1 + weight)
    assert fuse_norms(tiny_model("Llama")) == 0  # their weights are trained


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 8).requires_grad_(), torch.randn(8)

    def formula(x: torch.Tensor) -> torch.Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * weight

    results = []
    for norm in (formula, lambda x: RmsNorm.apply(x, weight, 1e-5)):
        x.grad = None
        out = norm(x)
        out.pow(2).sum().backward()
        results.append((out.detach(), x.grad))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-4)
