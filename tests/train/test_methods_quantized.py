"""The 4-bit and 8-bit base: the true QLoRA path, on the CPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.data.render import IGNORED
from ft2ollama.errors import MachineError
from ft2ollama.runs import create_run
from ft2ollama.train.batches import Collator
from ft2ollama.train.methods import trainable_model
from ft2ollama.train.model import load_base, load_run, load_trained
from ft2ollama.train.plan import Plan
from ft2ollama.train.quantized import Quantization, require_bitsandbytes, weights_behind
from ft2ollama.train.trainer import train

Make = Callable[..., Plan]
pytestmark = pytest.mark.filterwarnings("ignore")
STEPS, RATE = 6, 1e-2


def model_of(plan: Make, tiny: Base, dtype: str = "float32", **settings: Any) -> Any:
    config = plan(proof_replies=0, **settings).config
    return trainable_model(config, tiny.folder, dtype=dtype, device="cpu")


def plain_qlora(plan: Plan, dtype: torch.dtype) -> list[float]:
    """The loss of each step by transformers, peft and bitsandbytes alone, all rows in a batch."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(
        plan.base.folder, quantization_config=settings, dtype=dtype, device_map={"": "cpu"}
    )
    model.requires_grad_(False)
    torch.manual_seed(plan.config.seed)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    model.train()
    rows = [{"input_ids": list(s.ids), "labels": [IGNORED, *s.labels[1:]]} for s in plan.train]
    batch = Collator(2)(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    seen = []
    for _ in range(STEPS):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(loss.detach()))
    return seen


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_curve_is_that_of_transformers_peft_and_bitsandbytes(plan: Make, dtype: str) -> None:
    made = plan(
        quantization_bit=4, per_device_train_batch_size=24, max_steps=STEPS, learning_rate=RATE,
        lr_scheduler_type="constant", proof_replies=0,
    )  # fmt: skip
    run = create_run("qlora", "")
    train(made, run, dtype=dtype, device="cpu", report=lambda _: None)
    ours = [event["loss"] for event in run.events("step")]
    theirs = plain_qlora(made, getattr(torch, dtype))
    assert theirs[-1] < theirs[0] - 0.3
    assert ours == pytest.approx(theirs, abs=2e-5 if dtype == "float32" else 1e-2)


def test_evaluating_does_not_change_the_training(plan: Make) -> None:
    """bitsandbytes repacks 4-bit weights in eval mode on some CPUs; see quantized.keep_layout."""
    seen = []
    for name, share in (("alone", 0), ("evaluated", 4)):
        made = plan(quantization_bit=4, max_steps=10, proof_replies=0, val_size=share,
                    max_samples=None if share else 20, lr_scheduler_type="constant")  # fmt: skip
        run = create_run(name, "")
        train(made, run, dtype="float32", device="cpu", report=lambda _: None)
        seen.append([event["loss"] for event in run.events("step")])
        assert len(run.events("eval")) == (2 if share else 0)
    assert seen[1][-1] < seen[1][0] - 0.5


def test_what_is_quantized_and_in_which_formats(plan: Make, tiny: Base) -> None:
    from bitsandbytes.nn import Linear4bit

    model = model_of(plan, tiny, "bfloat16", quantization_bit=4)
    packed = [module for module in model.modules() if isinstance(module, Linear4bit)]
    layers = [module for module in packed if hasattr(module, "weight")]
    bases = {id(module.weight): module for module in layers}
    assert len(bases) == 2 * 7
    for module in bases.values():
        assert module.compute_dtype == torch.bfloat16
        assert module.weight.quant_state.quant_type == "nf4"
        assert module.weight.quant_state.nested
        assert module.weight.quant_storage == torch.bfloat16, "FSDP shards by the storage's type"
    others = {name: w.dtype for name, w in model.named_parameters() if "proj" not in name}
    assert set(others.values()) == {torch.bfloat16}, "an embedding in float32 costs 2 GB at 7B"
    trained = {w.dtype for w in model.parameters() if w.requires_grad}
    assert trained == {torch.float32}


@pytest.mark.oracle
@pytest.mark.parametrize("bits", [4, 8])
def test_merged_into_quantized_is_the_model_that_was_trained(plan: Make, bits: int) -> None:
    from peft import PeftModel

    made = plan(quantization_bit=bits, qlora_merge_into="quantized", max_steps=4, proof_replies=0)
    run = create_run("merged", "")
    train(made, run, dtype="float32", device="cpu", report=lambda _: None)
    packed = load_base(
        made.base.folder, "float32", "cpu", quantization=Quantization(bits, "nf4", True)
    )
    trained = PeftModel.from_pretrained(packed, str(run.adapter)).eval()
    into_base = load_trained(made.base.folder, run.adapter, torch.float32)
    ids = torch.tensor([made.train[0].ids])
    with torch.no_grad():
        want, got, other = (
            model(ids).logits.log_softmax(-1)
            for model in (trained, load_run(run, made.base.folder, torch.float32), into_base)
        )
    near, far = float((want - got).abs().max()), float((want - other).abs().max())
    assert near < (1e-3 if bits == 4 else 0.2), "8 bits also round the activations"
    assert far > (5 if bits == 4 else 1) * near, "the original weights are another model"


@pytest.mark.parametrize("bits", [4, 8])
def test_the_weights_behind_are_those_it_computes_with(plan: Make, tiny: Base, bits: int) -> None:
    model = model_of(plan, tiny, quantization_bit=bits)
    weights = weights_behind(model)
    assert len(weights) == 2 * 7
    name = "model.layers.1.mlp.gate_proj"
    layer = model.get_base_model().get_submodule(name).base_layer
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    want = layer(x).float()
    got = x @ weights[name].T
    assert float((want - got).abs().max()) < (1e-4 if bits == 4 else 0.05 * float(want.std()))
    assert weights[name].dtype == torch.float32


def test_bitsandbytes_says_nothing(plan: Make, tiny: Base) -> None:
    code = (
        "import sys; from pathlib import Path; from ft2ollama.config import Config\n"
        "from ft2ollama.train.model import quiet_libraries; quiet_libraries()\n"
        "from ft2ollama.train.methods import trainable_model\n"
        "import torch\n"
        "for bits in (4, 8):\n"
        "    c = Config(model_name_or_path='x', dataset=('x',), quantization_bit=bits)\n"
        "    m = trainable_model(c, Path(sys.argv[1]), dtype='bfloat16', device='cpu')\n"
        "    m(input_ids=torch.tensor([[1, 2]])).logits.sum().backward()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny.folder)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="bitsandbytes") as caught:
        require_bitsandbytes()
    assert "pip install bitsandbytes" in caught.value.fix


def test_a_quantized_model_is_no_base(tiny: Base, tmp_path: Any) -> None:
    import json
    import shutil

    from ft2ollama.base import resolve_base
    from ft2ollama.errors import UsageError

    folder = tmp_path / "packed"
    shutil.copytree(tiny.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"packed is a quantized model \(awq\)") as caught:
        resolve_base(str(folder))
    assert caught.value.fix == "give the 16-bit model, and quantization_bit=4 for QLoRA"


def test_float16_is_for_gpus() -> None:
    from ft2ollama.train.model import choose_dtype

    dtype, reason = choose_dtype("float16", "cpu")
    assert dtype == choose_dtype("auto", "cpu")[0]
    assert reason.startswith("float16 is for GPUs; ")
    assert choose_dtype("float16", "cuda") == ("float16", "compute_dtype in the config")
    assert choose_dtype("auto", "cpu", pure_bf16=True)[0] == "bfloat16"


@pytest.mark.parametrize(
    ("settings", "dtype", "bf16", "fp16"),
    [
        ({}, "bfloat16", False, False),
        ({"quantization_bit": 4}, "bfloat16", False, False),
        ({}, "float16", False, True),
        ({"finetuning_type": "full"}, "float32", False, False),
        ({"finetuning_type": "full"}, "bfloat16", True, False),
        ({"finetuning_type": "full"}, "float16", False, True),
        ({"finetuning_type": "freeze"}, "bfloat16", True, False),
        ({"finetuning_type": "full", "pure_bf16": True}, "bfloat16", False, False),
        ({"additional_target": "lm_head"}, "bfloat16", True, False),
    ],
)
def test_autocast_and_loss_scale(
    settings: dict[str, Any], dtype: str, bf16: bool, fp16: bool
) -> None:
    from ft2ollama.train.methods import precision

    config = Config(model_name_or_path="x", dataset=("x",), **settings)
    assert precision(config, dtype) == {"bf16": bf16, "fp16": fp16}
