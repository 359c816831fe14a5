"""Mistakes about the method: each one with its place in the file, its reason and a fix."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ft2ollama.config import Config, Loaded
from ft2ollama.errors import ConfigError

Load = Callable[..., Loaded]
Fail = Callable[..., ConfigError]
NEEDED = "model_name_or_path: base\ndataset: train.json\n"  # lines 1 and 2

MISTAKES = {
    "quantization_bit: 3": "3:19: quantization_bit: bitsandbytes has 4 and 8 bits, not 3; write 4, "
    "or remove the key",
    "quantization_bit: four": "3:19: quantization_bit: must be a whole number, not 'four'",
    "quantization_bit: true": "3:19: quantization_bit: must be a whole number, not true",
    "quantization_type: int4": "3:20: quantization_type: must be one of nf4, fp4, not 'int4'",
    "quantization_method: hqq": "3:22: quantization_method: hqq is not possible: only bitsandbytes "
    "is used; write bnb",
    "double_quantization: yep": "3:22: double_quantization: must be true or false, not 'yep'",
    "quantization_bit: 4\nfinetuning_type: full": "4:18: finetuning_type: full cannot train "
    "weights of 4 bits; write finetuning_type: lora, or remove quantization_bit",
    "finetuning_type: freeze\nquantization_bit: 8": "3:18: finetuning_type: freeze cannot train "
    "weights of 8 bits; write finetuning_type: lora, or remove quantization_bit",
    "quantization_bit: 4\npissa_init: true": "4:13: pissa_init: it changes the base weights, which "
    "are quantized; remove pissa_init or quantization_bit",
    "quantization_bit: 8\nuse_dora: true": "4:11: use_dora: DoRA needs the weights' lengths, which "
    "8 bits hide; write quantization_bit: 4",
    "quantization_bit: 4\nadapter_name_or_path: a,b": "4:23: adapter_name_or_path: adapters cannot "
    "be merged into quantized weights; give one, or remove quantization_bit",
    "finetuning_type: qlora": "3:18: finetuning_type: qlora is not possible: it is lora on a 4-bit "
    "base; write lora, and quantization_bit: 4",
    "finetuning_type: oft": "3:18: finetuning_type: oft is not possible: a GGUF file has no place "
    "for its matrices; write lora",
    "finetuning_type: lroa": "3:18: finetuning_type: must be one of lora, freeze, full, not 'lroa'",
    "load_in_4bit: true": "3:1: load_in_4bit: refused: a quantized base has LLaMA-Factory's key "
    "here; remove the key and set quantization_bit: 4 or 8",
    "finetuning_type: full\nuse_dora: true": "4:11: use_dora: belongs to finetuning_type lora, not "
    "full; remove it",
    "finetuning_type: freeze\nadditional_target: norm": "4:20: additional_target: belongs to "
    "finetuning_type lora, not freeze; remove it",
    "finetuning_type: full\nexport_as: adapter": "4:12: export_as: adapter has no place for what "
    "finetuning_type asks for; write export_as: model",
    "use_dora: true\nexport_as: adapter": "4:12: export_as: adapter has no place for what use_dora "
    "asks for; write export_as: model",
    "export_as: adapter\nadd_tokens: '<a>'": "3:12: export_as: adapter has no place for what "
    "add_tokens asks for; write export_as: model",
    "lora_target: q_(proj": "3:14: lora_target: 'q_(proj' is no regular expression: missing ), "
    "unterminated subpattern at position 2",
    "lora_rank_pattern: {down_proj: 0}": "3:20: lora_rank_pattern: down_proj: must be from 1 to "
    "1024, not 0",
    "lora_rank_pattern: [8]": "3:20: lora_rank_pattern: must be a mapping such as {down_proj: 32}, "
    "not a list",
    "lora_rank_pattern: {down_proj: big}": "3:20: lora_rank_pattern: must be a mapping such as "
    "{down_proj: 32}, not 'big'",
    "freeze_trainable_layers: 0": "3:26: freeze_trainable_layers: 0 trains nothing; write 2 for "
    "the last two layers, -2 for the first two",
    "freeze_trainable_modules: all,mlp": "3:27: freeze_trainable_modules: all already covers the "
    "others; give all, or the names alone",
    "bf16: true\nfp16: true": "4:1: fp16: says compute_dtype: float16, but bf16 in line 3 says "
    "bfloat16",
    "pure_bf16: true\nfp16: true": "3:12: pure_bf16: true trains in bfloat16, but compute_dtype is "
    "float16; keep one of the two",
    "compute_dtype: half": "3:16: compute_dtype: must be one of auto, float32, bfloat16, float16, "
    "not 'half'",
    "create_new_adapter: true": "3:21: create_new_adapter: there is no adapter to merge first; "
    "remove it, or give adapter_name_or_path",
    "adapter_folder: x": "3:1: adapter_folder: refused: an adapter is found by its own folder; "
    "remove the key and give the folder in adapter_name_or_path",
    "add_special_tokens: [<a>, <b>, <a>]": "3:21: add_special_tokens: '<a>' is given twice",
    "finetuning_type: freeze\nadd_tokens: '<a>'": "4:13: add_tokens: freeze leaves their rows "
    "untrained; write freeze_extra_modules: embed_tokens,lm_head",
    "new_special_tokens_config: t.yaml": "3:1: new_special_tokens_config: refused: new tokens are "
    "lists here; remove the key and set add_special_tokens",
    "adapter_name_or_path: a,b\nadditional_target: norm": "4:20: additional_target: cannot be "
    "merged together with adapter_name_or_path; remove one of the two",
    "rope_scaling: yarn": "3:1: rope_scaling: refused: the positions stay as the model knows them, "
    "and as Ollama computes them; remove the key",
    "flash_attn: fa9": "3:13: flash_attn: must be one of auto, disabled, sdpa, fa2, not 'fa9'",
    "optim: adamw_hf": "3:8: optim: adamw_hf is not possible: transformers dropped it; write "
    "adamw_torch",
    "loraplus_lr_ratio: 0": "3:20: loraplus_lr_ratio: must be a number, above 0, not 0",
    "loraplus_lr_ratio: 8\noptim: adafactor": "3:20: loraplus_lr_ratio: adafactor sets its own "
    "rates; write optim: adamw_torch",
    "adam_beta2: 1.0": "3:13: adam_beta2: must be a number, at least 0 and below 1, not 1",
    "lr_scheduler_kwargs: {num_cylces: 2}": "3:22: lr_scheduler_kwargs: cosine takes no "
    "num_cylces; did you mean num_cycles?",
    "lr_scheduler_type: linear\nlr_scheduler_kwargs: {power: 2}": "4:22: lr_scheduler_kwargs: "
    "linear takes no power; it takes: none",
    "lr_scheduler_type: cosine_with_min_lr": "3:20: lr_scheduler_type: cosine_with_min_lr needs "
    "min_lr or min_lr_rate; write {min_lr_rate: 0.1}",
    "label_smoothing_factor: 0.1": "3:1: label_smoothing_factor: refused: the loss is plain "
    "cross-entropy over the learned tokens; remove the key",
    "use_galore: true": "3:1: use_galore: refused: optimizers are chosen by transformers' names; "
    "remove the key and set optim",
}


@pytest.mark.parametrize("lines", MISTAKES)
def test_a_mistake(fail: Fail, lines: str) -> None:
    error = fail(NEEDED + lines + "\n")
    assert error.why == f"train.yaml:{MISTAKES[lines]}"
    assert error.what == "train.yaml has 1 problem"
    assert error.fix


def test_all_of_them_at_once(fail: Fail) -> None:
    error = fail(
        NEEDED + "quantization_bit: 4\nfinetuning_type: full\npissa_init: true\nuse_rslora: true\n"
        "pure_bf16: true\ncompute_dtype: float32\ncreate_new_adapter: true\n"
    )
    assert [line.split(": ")[1] for line in error.why.splitlines()] == [
        "finetuning_type", "pissa_init", "pure_bf16", "create_new_adapter", "create_new_adapter",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "name", "by"),
    [
        ("quantization_type: nf4", "a.yaml", "quantization_type"),
        ("double_quantization: true\nquantization_method: bnb", "a.yaml",
         "quantization_method, double_quantization"),
        ("output_dir: saves/qwen/qlora/sft", "a.yaml", "output_dir (qwen/qlora/sft)"),
        ("run_name: my-QLoRA", "a.yaml", "run_name (my-QLoRA)"),
        ("seed: 1", "qwen_qlora.yaml", "the config's path ("),
    ],
)  # fmt: skip
def test_what_looks_like_it_and_is_not(load: Load, lines: str, name: str, by: str) -> None:
    text = NEEDED + lines + "\n"
    (note,) = load(text, name=name).notes
    assert note.startswith(f"this looks like QLoRA, by {by}")
    assert "add quantization_bit: 4 for QLoRA, or quantization_bit: null" in note
    assert load(text + "quantization_bit: null\n", name=name).notes == ()
    assert "looks like" not in " ".join(load(text + "quantization_bit: 4\n", name=name).notes)


@pytest.mark.parametrize(
    "lines",
    ["output_dir: saves/qwen/lora/sft", "seed: 1", "# for QLoRA: quantization_bit: 4",
     "output_dir: /home/qlora/work/my/saves/lora"],
)  # fmt: skip
def test_what_does_not_look_like_it(load: Load, lines: str) -> None:
    assert load(NEEDED + lines + "\n").notes == ()


@pytest.mark.parametrize(
    ("lines", "note"),
    [
        ("finetuning_type: full", "learning_rate: 0.0002 is a rate for LoRA; finetuning_type full "
         "usually takes 1e-5"),
        ("adapter_name_or_path: a/b", "adapter_name_or_path: rank, alpha and targets are those of "
         "a/b, not of this config"),
        ("quantization_bit: 4", "quantization_bit: 4: the adapter is trained on rounded weights "
         "and exported on the original ones; qlora_merge_into: quantized exports it on what it was "
         "trained on"),
        ("pissa_init: true", "pissa_init: the base is rounded to compute_dtype after the adapter "
         "was taken out of it, the export does not round; compute_dtype: float32 leaves no "
         "difference"),
    ],
)  # fmt: skip
def test_what_may_surprise(load: Load, lines: str, note: str) -> None:
    assert load(NEEDED + lines).notes == (note,)


@pytest.mark.parametrize(
    ("settings", "whole"),
    [
        ({}, False),
        ({"finetuning_type": "full"}, True),
        ({"finetuning_type": "freeze"}, True),
        ({"adapter_name_or_path": "a"}, False),
        ({"adapter_name_or_path": "a,b"}, True),
        ({"adapter_name_or_path": "a", "create_new_adapter": True}, True),
        ({"quantization_bit": 4}, False),
        ({"quantization_bit": 4, "qlora_merge_into": "quantized"}, True),
        ({"qlora_merge_into": "quantized"}, False),
    ],
)
def test_when_a_run_holds_the_whole_model(settings: dict[str, object], whole: bool) -> None:
    config = Config.model_validate({"model_name_or_path": "x", "dataset": "x", **settings})
    assert config.is_whole is whole
