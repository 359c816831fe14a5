"""Choosing the fast paths, recomputing layers, and the loss that makes its gradient forwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_packing import loss_and_gradients, some_rows, tiny_model

from ft2ollama.data.render import IGNORED
from ft2ollama.errors import UsageError
from ft2ollama.runs import create_run
from ft2ollama.train import loss as loss_module
from ft2ollama.train import speed
from ft2ollama.train.batches import Collator, PaddingFree
from ft2ollama.train.loss import head_loss
from ft2ollama.train.model import attach_lora
from ft2ollama.train.plan import Plan
from ft2ollama.train.recompute import (
    Kept,
    decoder_layers,
    layers_to_recompute,
    measure_kept,
    recompute,
    tokens_at_once,
)
from ft2ollama.train.trainer import train

Make = Callable[..., Plan]
pytestmark = pytest.mark.filterwarnings("ignore")  # torch, transformers and peft warn


def with_lora(model: Any) -> Any:
    made = attach_lora(
        model, rank=4, alpha=8, dropout=0.0, target=["all"], use_rslora=False, seed=0
    )
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return made.train()


def losses(plan: Plan, name: str) -> list[float]:
    run = create_run(name, "")
    train(plan, run, dtype="float32", device="cpu", report=lambda _: None)
    return [event["loss"] for event in run.events("step")]


def test_defaults_on_a_cpu(plan: Make) -> None:
    model = with_lora(tiny_model("Llama"))
    chosen = speed.speed_up(model, plan().config, some_rows())
    assert isinstance(chosen.collator, PaddingFree)
    assert chosen.notes == ()
    layer = model.base_model.model.model.layers[0]
    assert layer.self_attn.q_proj.forward.func.__name__ == "_forward"  # fused
    assert not any(one.gradient_checkpointing for one in decoder_layers(model))


def test_every_path_can_be_switched_off(plan: Make) -> None:
    model = with_lora(tiny_model("Llama"))
    config = plan(padding_free=False, fused_lora=False, gradient_checkpointing=True).config
    chosen = speed.speed_up(model, config, some_rows())
    assert isinstance(chosen.collator, Collator)
    assert model.base_model.model.config._attn_implementation == "eager"
    layer = model.base_model.model.model.layers[0]
    assert not hasattr(layer.self_attn.q_proj.forward, "func")
    assert all(one.gradient_checkpointing for one in decoder_layers(model))


def test_fast_and_plain_paths_learn_the_same(plan: Make) -> None:
    few = {"max_steps": 4, "proof_replies": 0}
    plain = losses(plan(padding_free=False, fused_lora=False, **few), "plain")
    fast = losses(plan(**few), "fast")
    assert fast == pytest.approx(plain, abs=1e-4)
    assert losses(plan(gradient_checkpointing=True, **few), "again") == fast


def test_packs_hold_every_conversation(plan: Make) -> None:
    keys = {"cutoff_len": 128, "per_device_train_batch_size": 2, "proof_replies": 0}
    made, alone = plan(packing=True, **keys), plan(**keys)
    assert 0 < made.steps < alone.steps / 2
    found = losses(made, "packs")
    assert len(found) == made.steps
    assert found[-1] < found[0] - 0.2
    assert losses(plan(neat_packing=True, **keys), "neat") == found


def test_liger_needs_a_gpu_and_its_package(plan: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = plan(enable_liger_kernel=True).config
    chosen = speed.speed_up(with_lora(tiny_model("Llama")), config, some_rows())
    assert "need a GPU" in chosen.notes[0]
    with pytest.raises(UsageError, match="enable_liger_kernel") as caught:
        speed._liger(None, on_cpu=False)
    assert "pip install liger-kernel" in str(caught.value.fix)


# --- recomputation
@pytest.mark.parametrize("count", [0, 1, 2])
def test_recomputing_changes_no_bit(count: int) -> None:
    model = with_lora(tiny_model("Qwen2"))
    assert speed.use_documents(model) == ""
    batch = PaddingFree()(some_rows())
    wanted = loss_and_gradients(model, batch)
    recompute(model, count)
    assert sum(one.gradient_checkpointing for one in decoder_layers(model)) == count
    found = loss_and_gradients(model, batch)
    assert found[0] == wanted[0]
    assert found[1].keys() == wanted[1].keys()
    assert all(torch.equal(found[1][name], wanted[1][name]) for name in wanted[1])


def test_recomputed_layers_keep_less() -> None:
    model = with_lora(tiny_model("Llama", num_hidden_layers=4))
    whole = measure_kept(model)
    recompute(model, 4)
    least = measure_kept(model)
    assert least.layer < whole.layer / 4
    assert least.layer == pytest.approx(whole.border, rel=0.6)  # what a border was taken to be
    recompute(model, 0)
    assert measure_kept(model).layer == pytest.approx(whole.layer, rel=0.05)


def test_only_what_does_not_fit_is_recomputed() -> None:
    kept = Kept(layer=100.0, border=10.0)
    assert layers_to_recompute(10, 1000, kept, 1e6) == 0  # 10 layers x 1000 tokens x 100 bytes
    counts = [layers_to_recompute(10, 1000, kept, free) for free in range(999_999, 0, -50_000)]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[-1] == 10
    for free in (900_000, 600_000, 400_000):
        again = layers_to_recompute(10, 1000, kept, free)
        used = 1000 * ((10 - again) * kept.layer + again * kept.border + kept.layer)
        assert used <= free


def test_tokens_of_the_largest_batch() -> None:
    assert tokens_at_once([5, 9, 2, 7], 2, padding=True) == 18
    assert tokens_at_once([5, 9, 2, 7], 2, padding=False) == 16


# --- the loss
@pytest.mark.oracle
@pytest.mark.parametrize("bytes_at_once", [64 << 20, 4 * 50 * 3])
def test_the_head_loss_is_torch_s(bytes_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", bytes_at_once)
    torch.manual_seed(0)
    weight, targets = torch.randn(50, 8), torch.randint(0, 50, (11,))
    results = []
    for ours in (True, False):
        hidden = torch.randn(11, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        if ours:
            total = head_loss(hidden, weight, targets)
        else:
            total = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
        (total / 3).backward()
        results.append((total.detach(), hidden.grad))
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_batch_without_a_learned_token_has_no_gradient() -> None:
    model = with_lora(tiny_model("Llama"))
    row = {"input_ids": [5, 5], "labels": [IGNORED, IGNORED]}
    for collator in (Collator(0), PaddingFree()):
        assert speed.use_documents(model) == ""
        batch = collator([row])
        total = loss_module.learned_loss(model, batch, 7)
        total.backward()
        assert float(total) == 0.0
        trained = [w for w in model.parameters() if w.requires_grad]
        assert all(w.grad is None or not w.grad.any() for w in trained)
