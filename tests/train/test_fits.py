"""Keys that name what the model has not: told at their place, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ft2ollama.base import Base
from ft2ollama.config import load_config
from ft2ollama.errors import ConfigError
from ft2ollama.train.fits import require_fit

pytestmark = pytest.mark.filterwarnings("ignore")
LINEAR = "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
FREEZE = "finetuning_type: freeze\n"


def problem(base: Base, folder: Path, lines: str) -> ConfigError:
    path = folder / "train.yaml"
    path.write_text(f"model_name_or_path: {base.folder}\ndataset: x.json\n{lines}\n")
    loaded = load_config(path)
    with pytest.raises(ConfigError) as caught:
        require_fit(loaded.config, base.folder, loaded.origins)
    return caught.value


@pytest.mark.parametrize(
    ("lines", "why", "fix"),
    [
        ("lora_target: q_prj, v_proj", "3: lora_target: q_prj names no layer of this model; did "
         "you mean q_proj?", "lora_target=q_proj"),
        ("lora_target: c_attn", f"3: lora_target: c_attn names no layer of this model; its linear "
         f"layers: {LINEAR}", "lora_target=all, or lora_target=down_proj"),
        ("lora_target: layers.[01].q_proj", "3: lora_target: layers.[01].q_proj names no layer of "
         f"this model; its linear layers: {LINEAR}", "lora_target=all, or lora_target=down_proj"),
        ("lora_rank_pattern: {qproj: 8}", "3: lora_rank_pattern: qproj matches no layer of this "
         f"model: {LINEAR}", "lora_rank_pattern={}"),
        ("additional_target: embed_token", "3: additional_target: embed_token names no module of "
         "this model; did you mean embed_tokens?", "additional_target=embed_tokens"),
        (FREEZE + "freeze_trainable_layers: 3", "4: freeze_trainable_layers: 3: this model has 2 "
         "layers", "freeze_trainable_layers=2, or finetuning_type=full"),
        (FREEZE + "freeze_trainable_layers: -5", "4: freeze_trainable_layers: -5: this model has "
         "2 layers", "freeze_trainable_layers=-2, or finetuning_type=full"),
        (FREEZE + "freeze_trainable_modules: attention", "4: freeze_trainable_modules: attention "
         "is no part of its layers; there are input_layernorm, mlp, post_attention_layernorm, "
         "self_attn", "freeze_trainable_modules=input_layernorm"),
        (FREEZE + "freeze_extra_modules: lmhead", "4: freeze_extra_modules: lmhead is no module "
         "outside them; did you mean lm_head?", "freeze_extra_modules=lm_head"),
    ],
)  # fmt: skip
def test_a_name_that_the_model_has_not(
    tiny: Base, tmp_path: Path, lines: str, why: str, fix: str
) -> None:
    error = problem(tiny, tmp_path, lines)
    assert error.why == f"train.yaml:{why}"
    assert error.fix == fix
    assert error.what == "1 key of the config does not fit the model"


def test_all_at_once_and_overrides(tiny: Base, tmp_path: Path) -> None:
    error = problem(tiny, tmp_path, "lora_target: x_proj\nadditional_target: y\n")
    assert error.what == "2 keys of the config do not fit the model"
    assert [line.split(": ")[0] for line in error.why.splitlines()] == [
        "train.yaml:3", "train.yaml:4",
    ]  # fmt: skip


def test_an_adapter_of_another_model(tiny: Base, tmp_path: Path, make_other: Any) -> None:
    error = problem(tiny, tmp_path, f"adapter_name_or_path: {make_other}")
    assert error.why.startswith("train.yaml:3: adapter_name_or_path: other is no adapter for this")
    assert error.fix == "give the base it was trained on as model_name_or_path"


@pytest.fixture
def make_other(tmp_path: Path) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=64))  # fmt: skip
    folder = tmp_path / "other"
    get_peft_model(model, LoraConfig(target_modules="all-linear")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "lines",
    ["lora_target: q_proj,v_proj", r"lora_target: ['model\.layers\.1\..*_proj']",
     "lora_target: all", "lora_rank_pattern: {'0.self_attn.q_proj': 8}",
     "additional_target: norm,lm_head",
     FREEZE + "freeze_trainable_modules: mlp\nfreeze_extra_modules: embed_tokens,lm_head,norm"],
)  # fmt: skip
def test_names_that_it_has(tiny: Base, tmp_path: Path, lines: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(f"model_name_or_path: {tiny.folder}\ndataset: x.json\n{lines}\n")
    loaded = load_config(path)
    require_fit(loaded.config, tiny.folder, loaded.origins)
