"""Calibration statistics: equal to a direct computation, of base + adapter, of real tokens only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import LlamaCpp, kl

from converters.importance import read_statistics
from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.export import export
from ft2ollama.runs import Run, create_run
from ft2ollama.train.calibrate import (
    affordable_tokens,
    batches,
    beside,
    calibrate_run,
    collect,
    general_text,
    parted,
    wants_statistics,
    within,
)
from ft2ollama.train.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and peft warn about themselves
SAMPLES = [list(range(10 * n, 10 * n + 3 + 4 * n)) for n in range(1, 9)]


def tuned(base: Base) -> Any:
    """Base + adapter whose update is not zero."""
    import torch

    from ft2ollama.train.model import attach_lora, load_base

    model = attach_lora(
        load_base(base.folder, "float32", "cpu"),
        rank=4, alpha=8, dropout=0.5, target=["all"], use_rslora=False, seed=1,
    )  # fmt: skip
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
    return model


def inputs_of(model: Any, linear: str, sample: list[int]) -> np.ndarray:
    """What one layer is given for one sample, alone in its batch: [tokens, n_cols]."""
    import torch

    found = []
    layer = model.get_base_model().get_submodule(linear)
    handle = layer.register_forward_hook(lambda module, given, out: found.append(given[0][0]))
    with torch.no_grad():
        model(input_ids=torch.tensor([sample]))
    handle.remove()
    return np.asarray(found[0].double().numpy())


def test_statistics_equal_a_direct_computation(tiny: Base, tmp_path: Path) -> None:
    model = tuned(tiny)
    found = collect(model, SAMPLES, tmp_path / "c.safetensors", max_tokens=10_000)
    statistics = read_statistics(tmp_path / "c.safetensors")
    assert found.conversations == 8
    assert found.tokens == sum(map(len, SAMPLES))
    assert found.inputs == 8  # four inputs in each of two blocks
    assert len(statistics.linears) == 14
    model.eval()
    parts = parted(within(SAMPLES, 128, 10_000))
    for linear in ("model.layers.1.self_attn.v_proj", "model.layers.0.mlp.down_proj"):
        name = statistics.linears[linear]
        assert statistics.counts(name) == tuple(sum(map(len, part)) for part in parts)
        for part, key in zip(parts, ("calibration", "held_out"), strict=True):
            x = np.concatenate([inputs_of(model, linear, list(s)) for s in part])
            (block,) = statistics.moments(name, key)
            np.testing.assert_allclose(block, x.T @ x / len(x), rtol=1e-4, atol=1e-5)


def test_layers_with_one_input_share_their_statistics(tiny: Base, tmp_path: Path) -> None:
    collect(tuned(tiny), SAMPLES, tmp_path / "c.safetensors")
    linears = read_statistics(tmp_path / "c.safetensors").linears
    for group in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                  ("mlp.gate_proj", "mlp.up_proj")):  # fmt: skip
        for layer in range(2):
            names = {linears[f"model.layers.{layer}.{linear}"] for linear in group}
            assert names == {f"model.layers.{layer}.{group[0]}"}


def test_collecting_leaves_the_model_as_it_was(tiny: Base, tmp_path: Path) -> None:
    import torch

    model = tuned(tiny).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    collect(model, SAMPLES, tmp_path / "c.safetensors")
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_untied_head_is_known_without_being_run(tiny: Base, tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=4, tie_word_embeddings=False, pad_token_id=0,
        )
    )  # fmt: skip
    model.lm_head.forward = None  # calling it would fail
    collect(model, [[1, 2, 3], [4, 5]], tmp_path / "c.safetensors")
    statistics = read_statistics(tmp_path / "c.safetensors")
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([[4, 5]])).last_hidden_state[0].double()
    (block,) = (
        statistics.moments("lm_head", "held_out")
        if statistics.counts("lm_head")[1] == 2
        else statistics.moments("lm_head", "calibration")
    )
    np.testing.assert_allclose(block, (hidden.T @ hidden / 2).numpy(), rtol=1e-4, atol=1e-5)


def test_a_quarter_of_the_tokens_is_general() -> None:
    samples = [[1, *range(10, 10 + n)] for n in (40, 25, 30)]
    texts = [list(range(100, 100 + n)) for n in (9, 12, 20, 7)]
    found = beside(samples, texts)
    assert sum(map(len, found)) == 98 // 3  # of 98 + 32
    assert all(text[0] == 1 for text in found)
    assert all(list(text[1:]) in [t[: len(text) - 1] for t in texts] for text in found)
    assert found == beside(samples, texts)
    assert all(text[0] >= 100 for text in beside([[1, 2], [3, 4, 5, 6]], texts))  # no common start
    assert sum(map(len, beside([[1] * 5000], texts))) == sum(map(len, texts)) + len(texts)


def test_the_general_text_calibrates_and_does_not_judge(tiny: Base, tmp_path: Path) -> None:
    from ft2ollama.data.tokenizer import Tokenizer

    general = general_text(Tokenizer(tiny.folder))
    assert len(general) > 20
    assert min(map(len, general)) > 20
    model = tuned(tiny)
    alone = collect(model, SAMPLES, tmp_path / "a.safetensors")
    found = collect(model, SAMPLES, tmp_path / "b.safetensors", general=general)
    assert (found.conversations, found.tokens) == (8, alone.tokens * 4 // 3)
    first, second = (read_statistics(tmp_path / f"{name}.safetensors") for name in "ab")
    name = "model.layers.1.self_attn.q_proj"
    assert second.counts(name)[0] == first.counts(name)[0] + alone.tokens // 3
    assert second.counts(name)[1] == first.counts(name)[1]
    for one, other in zip(first.moments(name, "held_out"), second.moments(name, "held_out"),
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_limits() -> None:
    assert sum(map(len, within(SAMPLES, 128, 40))) <= 40
    assert len(within(SAMPLES, 3, 10_000)) == 3
    assert [len(sample) for sample in within(SAMPLES, 128, 8)] == [4, 4]
    calibration, held_out = parted(SAMPLES)
    assert (len(calibration), len(held_out)) == (6, 2)
    assert [len(part) for part in parted(SAMPLES[:2])] == [1, 1]
    assert sorted(map(tuple, calibration + held_out)) == sorted(map(tuple, SAMPLES))
    long = [[0] * 900, [0] * 800, [0] * 700, [0] * 3000]
    assert [[len(s) for s in batch] for batch in batches(long)] == [[3000], [900, 800], [700]]
    assert affordable_tokens(1_000) == 2048
    assert affordable_tokens(10**9) == 16_384


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"export_quant": "Q8_0"}, False),
        ({"export_quant": "Q4_K_M"}, True),
        ({"export_quant": "Q4_K_M", "export_mode": "exact"}, False),
        ({"export_quant": "Q8_0", "export_mode": "calibrated"}, True),
        ({"export_quant": "Q4_K_M", "export_as": "adapter"}, False),
    ],
)
def test_when_statistics_are_collected(changes: dict[str, Any], wanted: bool) -> None:
    config = Config(model_name_or_path="x", dataset="y.json", **changes)
    assert wants_statistics(config, config.export_quant) == wanted


@pytest.fixture
def trained(plan: Callable[..., Plan], tmp_path: Path) -> tuple[Run, Plan]:
    from ft2ollama.train.trainer import train

    made = plan(export_quant="Q4_0", proof_replies=0)
    run = create_run("calibrated", "", folder=tmp_path / "run")
    train(made, run, dtype="float32", device="cpu", report=lambda event: None)
    return run, made


def test_training_writes_them_and_the_export_uses_them(trained: tuple[Run, Plan]) -> None:
    run, plan = trained
    stage = run.stage_record("train")
    assert "calibration.safetensors" in stage["outputs"]
    assert stage["calibration"]["conversations"] == 24
    exact = export(run, plan.base, quant="Q4_0", mode="exact")
    assert exact.calibrated == ""
    made = export(run, plan.base, quant="Q4_0")
    assert made.sha256 != exact.sha256
    assert made.calibrated.startswith("calibrated: ")
    manifest = json.loads(made.path.with_suffix(".json").read_text())
    assert manifest["mode"] == "calibrated"
    assert {"tensor", "type", "mode", "exact", "imatrix", "calibrated"} == set(
        manifest["calibrated"][0]
    )
    assert not export(run, plan.base, quant="Q4_0").fresh
    calibrate_run(run, plan, dtype="float32", device="cpu")
    export(run, plan.base, quant="Q4_0")  # the training's fused layers add up in another order
    calibrate_run(run, plan, dtype="float32", device="cpu")
    assert not export(run, plan.base, quant="Q4_0").fresh  # the same statistics to the bit
    calibrate_run(run, replace(plan, train=plan.train[:9]), dtype="float32", device="cpu")
    assert export(run, plan.base, quant="Q4_0").fresh


def test_the_calibrated_file_is_nearer_in_llama_cpp(trained: tuple[Run, Plan]) -> None:
    """Both files of the trained model against its F32 file, on training prompts."""
    pytest.importorskip("xllamacpp")
    run, plan = trained
    files = {}
    for name, quant, mode in (("full", "F32", "exact"), ("exact", "Q4_0", "exact")):
        files[name] = export(run, plan.base, quant=quant, mode=mode).path
    files["exact"] = files["exact"].rename(files["exact"].with_name("exact.gguf"))
    files["calibrated"] = export(run, plan.base, quant="Q4_0", force=True).path
    prompts = [sample.ids[: 6 + i] for i, sample in enumerate(plan.train[:4])]
    said = {}
    for name, path in files.items():
        runtime = LlamaCpp(path, exact=True)
        said[name] = [runtime.logprobs(ids, 49152) for ids in prompts]
    mean = {
        name: np.mean([kl(p, q) for p, q in zip(said["full"], said[name], strict=True)])
        for name in ("exact", "calibrated")
    }
    assert mean["calibrated"] < 0.8 * mean["exact"]
