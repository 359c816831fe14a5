"""Trainings that start from adapters, and trainings that add tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from converters import gguf_to_safetensors, read_gguf
from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.errors import UsageError
from ft2ollama.export import export
from ft2ollama.runs import Run, create_run
from ft2ollama.train.adapters import adapter_folders, merge_adapters
from ft2ollama.train.model import load_run, load_trained
from ft2ollama.train.plan import Plan, make_plan
from ft2ollama.train.tokens import with_tokens
from ft2ollama.train.trainer import train

Make = Callable[..., Plan]
pytestmark = pytest.mark.filterwarnings("ignore")


def run_training(plan: Plan, name: str) -> Run:
    run = create_run(name, "model_name_or_path: x\n")
    train(plan, run, dtype="float32", device="cpu", report=lambda _: None)
    return run


def losses(run: Run) -> list[float]:
    return [event["loss"] for event in run.events("step")]


def logits(model: Any, plan: Plan) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([plan.train[0].ids])).logits[0].log_softmax(-1)


def exported(run: Run, plan: Plan, folder: Path) -> Any:
    gguf_to_safetensors(export(run, plan.base, quant="F32").path, folder)
    return load_trained(folder, None, torch.float32)


@pytest.fixture
def first(plan: Make) -> Run:
    """A short training to start from."""
    return run_training(plan(max_steps=4, proof_replies=0, lora_rank=3), "first")


def test_an_adapter_is_trained_further(plan: Make, first: Run) -> None:
    made = plan(max_steps=2, proof_replies=0, adapter_name_or_path=str(first.adapter))
    further = run_training(made, "further")
    assert losses(further)[0] < losses(first)[0] - 0.5
    config = json.loads((further.adapter / "adapter_config.json").read_text())
    assert config["r"] == 3, "the rank is the adapter's"
    assert not further.is_whole
    by_folder, by_id = (plan(adapter_name_or_path=one) for one in (str(first.folder), first.id))
    assert by_folder.inputs == by_id.inputs, "a run's folder and its id are its adapter"
    assert plan().inputs != plan(adapter_name_or_path=first.id).inputs


def test_several_are_merged_one_after_another(plan: Make, first: Run, tmp_path: Path) -> None:
    both = [str(first.adapter), str(first.adapter)]
    made = plan(max_steps=1, proof_replies=0, adapter_name_or_path=",".join(both),
                create_new_adapter=True, learning_rate=1e-9)  # fmt: skip
    run = run_training(made, "merged")
    assert run.is_whole
    assert not run.adapter.exists()
    base = load_trained(made.base.folder, None, torch.float32)
    want = logits(merge_adapters(base, adapter_folders(both)), made)
    once = logits(load_run(first, made.base.folder, torch.float32), made)
    got = logits(exported(run, made, tmp_path / "back"), made)
    assert float((got - want).abs().max()) < 1e-3
    assert float((got - once).abs().max()) > 0.1, "both count"


def test_all_but_the_last_are_merged(plan: Make, first: Run, tmp_path: Path) -> None:
    both = f"{first.adapter},{first.adapter}"
    made = plan(max_steps=2, proof_replies=0, adapter_name_or_path=both)
    run = run_training(made, "merged")
    assert run.is_whole
    tuned = load_run(run, made.base.folder, torch.float32)
    back = exported(run, made, tmp_path / "back")
    assert float((logits(tuned, made) - logits(back, made)).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("ref", "why"),
    [("nothing", "it is no folder and no run"), (".", "there is no adapter_config.json in it")],
)
def test_no_adapter_there(
    plan: Make, ref: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="adapter_name_or_path: no adapter at") as caught:
        plan(adapter_name_or_path=ref)
    assert caught.value.why == why


# --- new tokens
@pytest.fixture
def with_new(tiny: Base, tmp_path: Path) -> Callable[..., Plan]:
    """A plan whose answers hold new tokens."""
    rows = [{"instruction": f"Task {i}", "output": f"ALPHAX {i} is OMEGAY."} for i in range(16)]
    path = tmp_path / "new.json"
    path.write_text(json.dumps(rows))

    def make(**changes: Any) -> Plan:
        settings = {
            "model_name_or_path": str(tiny.folder), "dataset": str(path), "template": "chatml",
            "lora_rank": 4, "learning_rate": 1e-2, "max_steps": 6, "proof_replies": 0,
            "per_device_train_batch_size": 8, "add_tokens": "ALPHAX,OMEGAY",
            "add_special_tokens": "<|route|>",
        }  # fmt: skip
        config = Config(**{**settings, **changes})
        base = with_tokens(tiny, config.add_tokens or (), config.add_special_tokens or ())
        return make_plan(config, base)

    return make


@pytest.mark.oracle
@pytest.mark.parametrize(
    "settings",
    [{}, {"quantization_bit": 4}, {"finetuning_type": "full"},
     {"additional_target": "embed_tokens,lm_head"}],
)  # fmt: skip
def test_new_tokens_are_learned_and_exported(
    with_new: Make, tiny: Base, tmp_path: Path, settings: dict[str, Any]
) -> None:
    made = with_new(**settings)
    new = [made.tokenizer.id(text) for text in ("ALPHAX", "OMEGAY", "<|route|>")]
    assert new == [49152, 49153, 49154]
    assert all(49152 in sample.labels and 49153 in sample.labels for sample in made.train)
    run = run_training(made, "new")
    assert losses(run)[-1] < losses(run)[0] - 0.5
    tuned = load_run(run, made.base.folder, torch.float32)
    back = exported(run, made, tmp_path / "back")
    assert float((logits(tuned, made) - logits(back, made)).abs().max()) < 2e-4
    texts = read_gguf(run.gguf / "model-F32.gguf").values["tokenizer.ggml.tokens"]
    assert list(texts)[49152:] == ["ALPHAX", "OMEGAY", "<|route|>"]
    if not settings:
        saved = load_file(run.adapter / "adapter_model.safetensors")
        rows = next(value for key, value in saved.items() if "token_adapter" in key or (
            "trainable_tokens" in key))  # fmt: skip
        assert rows.shape == (3, 32), "only the new rows are trained"


def test_the_rest_of_the_model_is_the_base(with_new: Make, tiny: Base) -> None:
    made = with_new()
    before = load_trained(tiny.folder, None, torch.float32).state_dict()
    after = load_trained(made.base.folder, None, torch.float32).state_dict()
    for name, weight in before.items():
        assert torch.equal(after[name][: len(weight)], weight), name
    rows = after["model.embed_tokens.weight"][49152:]
    assert len(rows) == 3
    assert float((rows[0] - rows[1]).abs().max()) > 0.01
    assert made.base.sha256 != tiny.sha256


def test_a_token_that_is_there_already(tiny: Base) -> None:
    with pytest.raises(UsageError, match=r"<\|im_end\|> is in the vocabulary already") as caught:
        with_tokens(tiny, (), ("<|im_end|>", "<|x|>"))
    assert caught.value.why == "as token 2"
