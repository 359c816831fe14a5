"""The fused LoRA linear against peft's own forward and backward."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_settings import SMALL

from ft2ollama.train.lora_linear import LoraLinear, fuse_lora
from ft2ollama.train.quantized import keep_layout

pytestmark = pytest.mark.filterwarnings("ignore")  # torch, peft and bitsandbytes warn
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # relative, of the norm


class Two(torch.nn.Module):
    """Two linear layers; the second with a bias."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = torch.nn.Linear(64, 128, bias=False, dtype=dtype)
        self.second = torch.nn.Linear(128, 64, bias=True, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.nn.functional.silu(self.first(x)))


def with_lora(model: Any, **changes: Any) -> Any:
    options = {"r": 4, "lora_alpha": 12, "target_modules": ["first", "second"], **changes}
    torch.manual_seed(0)
    made = get_peft_model(model, LoraConfig(**options))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    return made


def run(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradient of the input, gradients of every trained weight."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    out = model(x)
    out.float().pow(2).sum().backward()
    trained = [w.grad for w in model.parameters() if w.requires_grad]
    return [out.detach(), x.grad, *trained]


def away(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


@pytest.mark.oracle
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_equals_peft(dtype: torch.dtype, rslora: bool) -> None:
    torch.manual_seed(1)
    plain = with_lora(Two(dtype), use_rslora=rslora)
    fused = copy.deepcopy(plain)
    assert fuse_lora(fused) == 2
    x = torch.randn(3, 7, 64).to(dtype)
    theirs, ours = run(plain, x), run(fused, x)
    assert len(ours) == 2 + 4
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert away(a, b) < CLOSE[dtype]


@pytest.mark.oracle
def test_equals_peft_on_a_4_bit_base() -> None:
    bnb = pytest.importorskip("bitsandbytes")
    torch.manual_seed(1)
    model = Two(torch.float32)
    for name in ("first", "second"):
        old = getattr(model, name)
        new = bnb.nn.Linear4bit(
            old.in_features, old.out_features, bias=old.bias is not None,
            quant_type="nf4", compute_dtype=torch.float32,
        )  # fmt: skip
        new.load_state_dict(old.state_dict())
        setattr(model, name, new.to("cpu"))
    plain = with_lora(model)
    x = torch.randn(3, 7, 64)
    theirs = run(plain, x)
    assert fuse_lora(plain) == 2
    for a, b in zip(run(plain, x), theirs, strict=True):
        assert away(a, b) < 1e-5


@pytest.mark.parametrize("fused", [True, False])
def test_a_4_bit_model_still_learns_after_an_evaluation(fused: bool) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    model = Two(torch.float32)
    model.first = bnb.nn.Linear4bit(64, 128, bias=False, compute_dtype=torch.float32).to("cpu")
    model = with_lora(model)
    keep_layout(model)
    if fused:
        fuse_lora(model)
    x = torch.randn(3, 64)
    before = run(model, x)
    model.eval()
    with torch.no_grad():
        model(x)
    for a, b in zip(run(model.train(), x), before, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "changes",
    [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}],
    ids=["dropout", "DoRA", "bias"],
)
def test_what_it_cannot_compute_stays_with_peft(changes: dict[str, Any]) -> None:
    assert fuse_lora(with_lora(Two(torch.float32), **changes)) == 0


def test_a_trained_base_stays_with_peft() -> None:
    model = with_lora(Two(torch.float32))
    model.base_model.model.first.base_layer.weight.requires_grad_()
    assert fuse_lora(model) == 1


def test_adapters_can_be_switched_off_and_merged() -> None:
    model = with_lora(Two(torch.float32))
    x = torch.randn(2, 64)
    tuned = model(x)
    with model.disable_adapter():
        base = model(x)
    assert fuse_lora(model) == 2
    assert torch.allclose(model(x), tuned, atol=1e-6)
    with model.disable_adapter():
        assert torch.equal(model(x), base)
    model.merge_adapter()
    assert torch.allclose(model(x), tuned, atol=1e-5)


def test_it_keeps_one_copy_of_the_input() -> None:
    """Bytes saved for the backward pass: x, x A^T and the two small matrices; no copy of W."""
    model = with_lora(Two(torch.bfloat16)).base_model.model.first
    x = torch.randn(512, 64).bfloat16().requires_grad_()

    def saved() -> int:
        seen = {}

        def pack(t: torch.Tensor) -> torch.Tensor:
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            model(x)
        return sum(seen.values())

    before = saved()
    fuse_lora(model)
    assert saved() == 2 * (512 * 64 + 512 * 4 + 4 * 64 + 128 * 4) < before / 2


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    x, w, bias, a, b = (
        torch.randn(*shape, dtype=torch.float64) for shape in ((5, 6), (7, 6), (7,), (2, 6), (7, 2))
    )
    for one in (x, a, b):
        one.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, a, b: LoraLinear.apply(x, [w], [bias], [1.5], a, b), (x, a, b)
    )


def test_a_whole_model_learns_the_same() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SMALL))
    plain = with_lora(base, target_modules="all-linear")
    fused = copy.deepcopy(plain)
    assert fuse_lora(fused) == 14
    ids = torch.randint(0, 320, (2, 20))
    curves = []
    for model in (plain, fused):
        optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2)
        losses = []
        for _ in range(5):
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss))
        curves.append(losses)
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
    assert curves[0][-1] < curves[0][0] - 0.05


def test_layers_of_one_input_may_get_different_ones() -> None:
    """q, k and v are computed together for the x of the first call; for another x anew."""

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("q_proj", "k_proj", "v_proj"):
                setattr(self, name, torch.nn.Linear(8, 8, bias=False))

        def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.q_proj(x), self.k_proj(other), self.v_proj(other)], -1)

    model = with_lora(Attention(), target_modules=["q_proj", "k_proj", "v_proj"])
    x, other = torch.randn(3, 8), torch.randn(3, 8)
    wanted = [model(x, other), model(x, x), model(other, x)]
    assert fuse_lora(model) == 3
    for found, theirs in zip([model(x, other), model(x, x), model(other, x)], wanted, strict=True):
        assert torch.allclose(found, theirs, atol=1e-6)
