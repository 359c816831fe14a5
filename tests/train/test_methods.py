"""Every method end to end: what is trained, what the run holds, and that the export is that model.

The reference is transformers with peft, unmerged; the exported GGUF is read back and loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from converters import gguf_to_safetensors
from ft2ollama.base import Base
from ft2ollama.errors import UsageError
from ft2ollama.export import export
from ft2ollama.runs import Run, create_run
from ft2ollama.train.methods import trainable_model
from ft2ollama.train.model import load_run, load_trained
from ft2ollama.train.plan import Plan
from ft2ollama.train.trainer import train

Make = Callable[..., Plan]
pytestmark = pytest.mark.filterwarnings("ignore")
FULL = {"finetuning_type": "full", "learning_rate": 3e-3}


def run_training(plan: Plan, name: str = "run", dtype: str = "float32") -> Run:
    run = create_run(name, "model_name_or_path: x\n")
    train(plan, run, dtype=dtype, device="cpu", report=lambda _: None)
    return run


def losses(run: Run) -> list[float]:
    return [event["loss"] for event in run.events("step")]


def logits(model: Any, plan: Plan) -> torch.Tensor:
    """Log-probabilities after every token of two conversations: [tokens, vocabulary]."""
    with torch.no_grad():
        rows = [model(torch.tensor([sample.ids])).logits[0] for sample in plan.train[:2]]
    return torch.cat(rows).log_softmax(-1)


def difference(one: Any, other: Any, plan: Plan) -> float:
    return float((logits(one, plan) - logits(other, plan)).abs().max())


def exported(run: Run, plan: Plan, folder: Path) -> Any:
    """The F32 GGUF of a run, read back into transformers."""
    gguf = export(run, plan.base, quant="F32").path
    gguf_to_safetensors(gguf, folder)
    return load_trained(folder, None, torch.float32)


METHODS: dict[str, dict[str, Any]] = {
    "QLoRA": {"quantization_bit": 4},
    "QLoRA, fp4, single quantization": {
        "quantization_bit": 4, "quantization_type": "fp4", "double_quantization": False},
    "8 bits": {"quantization_bit": 8},
    "QLoRA merged into what it was trained on": {
        "quantization_bit": 4, "qlora_merge_into": "quantized"},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "QLoRA with DoRA": {"use_dora": True, "quantization_bit": 4},
    "PiSSA": {"pissa_init": True},
    "LoRA+": {"loraplus_lr_ratio": 16},
    "patterns": {"lora_rank_pattern": {"down_proj": 8}, "lora_alpha_pattern": {r"0\..*q_proj": 5}},
    "regular expression": {"lora_target": r".*\.1\..*_proj"},
    "whole modules": {"additional_target": "norm,lm_head"},
    "noise, adafactor": {"neftune_noise_alpha": 5, "optim": "adafactor"},
    "8-bit optimizer": {"optim": "paged_adamw_8bit"},
    "full": FULL,
    "last layer": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "first layer's mlp, and norm": {
        "finetuning_type": "freeze", "freeze_trainable_layers": -1,
        "freeze_trainable_modules": "mlp", "freeze_extra_modules": "norm,embed_tokens"},
}  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("name", METHODS)
def test_what_was_trained_is_what_is_exported(plan: Make, tmp_path: Path, name: str) -> None:
    made = plan(max_steps=4, proof_replies=0, **METHODS[name])
    run = run_training(made)
    seen = losses(run)
    assert seen[-1] < seen[0], seen
    assert run.is_current("train", made.inputs)
    tuned = load_run(run, made.base.folder, torch.float32)
    untuned = load_trained(made.base.folder, None, torch.float32)
    assert difference(tuned, untuned, made) > 0.05
    assert difference(tuned, exported(run, made, tmp_path / "back"), made) < 2e-4
    assert run.is_whole == made.config.is_whole


def test_only_the_chosen_weights_are_trained(tiny: Base, plan: Make) -> None:
    def trained(**settings: Any) -> set[str]:
        config = plan(proof_replies=0, **settings).config
        model = trainable_model(config, tiny.folder, dtype="bfloat16", device="cpu")
        wanted = {n for n, weight in model.named_parameters() if weight.requires_grad}
        assert {model.get_parameter(name).dtype for name in wanted} == {torch.float32}
        return {name.removesuffix(".weight").removeprefix("model.") for name in wanted}

    attention = {f"self_attn.{part}_proj" for part in "qkvo"}
    norms = {"input_layernorm", "post_attention_layernorm"}
    mlp = {f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    freeze = {"finetuning_type": "freeze", "freeze_trainable_layers": 1}
    assert trained(**freeze) == {f"layers.1.{part}" for part in attention | norms | mlp}
    assert trained(**{**freeze, "freeze_trainable_layers": -1},
                   freeze_trainable_modules="self_attn,input_layernorm") == {
        f"layers.0.{part}" for part in attention | {"input_layernorm"}}  # fmt: skip
    assert trained(**freeze, freeze_trainable_modules="mlp", freeze_extra_modules="norm") == {
        f"layers.1.{part}" for part in mlp} | {"norm"}  # fmt: skip
    assert len(trained(finetuning_type="full")) == 2 * 9 + 2
    assert trained(**freeze, freeze_extra_modules="lm_head") >= {"embed_tokens"}, "they are tied"


def test_frozen_weights_stay_as_they_were(plan: Make) -> None:
    made = plan(max_steps=2, proof_replies=0, finetuning_type="freeze", freeze_trainable_layers=1)
    run = run_training(made)
    before = load_trained(made.base.folder, None, torch.float32).state_dict()
    after = load_trained(run.model, None, torch.float32).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".layers.1." in name}


def test_pure_bf16_keeps_everything_in_bfloat16(tiny: Base, plan: Make) -> None:
    made = plan(pure_bf16=True, finetuning_type="full", max_steps=2, proof_replies=0)
    run = run_training(made, dtype="bfloat16")
    kept = load_trained(run.model, None, "auto")
    assert {weight.dtype for weight in kept.parameters()} == {torch.bfloat16}
    config = plan(pure_bf16=True).config
    model = trainable_model(config, tiny.folder, dtype="bfloat16", device="cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("settings", [FULL, {"additional_target": "lm_head"}])
def test_mixed_precision_trains_float32_weights(plan: Make, settings: dict[str, Any]) -> None:
    made = plan(max_steps=4, proof_replies=0, **settings)
    mixed, exact = run_training(made, "mixed", "bfloat16"), run_training(made, "exact")
    assert losses(mixed) != losses(exact)
    assert losses(mixed) == pytest.approx(losses(exact), abs=0.05)
    folder = mixed.model if mixed.is_whole else mixed.adapter
    kept = list(folder.glob("*.safetensors"))
    header = kept[0].read_bytes()[8 : 8 + int.from_bytes(kept[0].read_bytes()[:8], "little")]
    types = {item["dtype"] for key, item in json.loads(header).items() if key != "__metadata__"}
    assert types == {"F32"}


def test_an_adapter_of_a_whole_run_is_refused(plan: Make) -> None:
    made = plan(max_steps=1, proof_replies=0, **FULL)
    run = run_training(made)
    with pytest.raises(UsageError, match="has no adapter") as caught:
        export(run, made.base, kind="adapter")
    assert caught.value.fix == "ft2ollama export --as model"
    assert not run.adapter.exists()


def test_a_whole_run_is_exported_again_only_when_it_has_changed(plan: Make) -> None:
    made = plan(max_steps=1, proof_replies=0, **FULL)
    run = run_training(made)
    assert export(run, made.base, quant="F16").fresh
    assert not export(run, made.base, quant="F16").fresh
    weights = run.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert export(run, made.base, quant="F16").fresh


def test_loraplus_learns_b_faster_than_a(plan: Make) -> None:
    plain = run_training(plan(max_steps=1, proof_replies=0, learning_rate=1e-3), "plain")
    faster = run_training(
        plan(max_steps=1, proof_replies=0, learning_rate=1e-3, loraplus_lr_ratio=16), "plus"
    )

    def weights(run: Run, letter: str) -> torch.Tensor:
        from safetensors.torch import load_file

        found = load_file(run.adapter / "adapter_model.safetensors")
        return torch.cat([v.flatten() for k, v in sorted(found.items()) if f"lora_{letter}" in k])

    assert torch.equal(weights(plain, "A"), weights(faster, "A"))  # no gradient yet: B is zero
    ratio = weights(faster, "B").abs().mean() / weights(plain, "B").abs().mean()
    assert float(ratio) == pytest.approx(16, rel=0.01)
