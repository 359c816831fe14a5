"""Every foreign key of the table, and that the table forgets none."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.config import Config, Loaded
from ft2ollama.config.compat import FOREIGN, SYNONYMS
from ft2ollama.config.expects import spelled
from ft2ollama.errors import ConfigError

Load = Callable[..., Loaded]
Fail = Callable[..., ConfigError]
NEEDED = "model_name_or_path: base\ndataset: train.json\n"

# LLaMA-Factory's keys as its documentation and tutorials list them.
_DOCUMENTED = """
template dataset eval_dataset dataset_dir media_dir cutoff_len train_on_prompt mask_history
streaming buffer_size mix_strategy interleave_probs overwrite_cache preprocessing_batch_size
preprocessing_num_workers max_samples eval_num_beams ignore_pad_token_for_loss val_size
eval_on_each_dataset packing neat_packing tool_format default_system enable_thinking
preserve_thinking tokenized_path data_shared_file_system model_name_or_path adapter_name_or_path
adapter_folder cache_dir use_fast_tokenizer resize_vocab split_special_tokens add_tokens
add_special_tokens new_special_tokens_config init_special_tokens model_revision low_cpu_mem_usage
rope_scaling flash_attn shift_attn mixture_of_depths use_unsloth use_unsloth_gc enable_liger_kernel
disable_gradient_checkpointing use_reentrant_gc upcast_layernorm upcast_lmhead_output
infer_backend infer_dtype trust_remote_code print_param_status quantization_method quantization_bit
quantization_type double_quantization quantization_device_map lora_rank lora_alpha lora_dropout
lora_target additional_target loraplus_lr_ratio use_rslora use_dora pissa_init pissa_iter
pissa_convert create_new_adapter stage finetuning_type pure_bf16 early_stopping_steps plot_loss
compute_accuracy disable_shuffling include_effective_tokens_per_second use_swanlab use_galore
use_apollo use_badam export_dir export_size export_device export_quantization_bit
export_quantization_dataset export_quantization_nsamples export_quantization_maxlen
export_legacy_format export_hub_model_id do_sample temperature top_p top_k max_new_tokens
repetition_penalty skip_special_tokens do_train dataloader_num_workers output_dir logging_steps
save_steps overwrite_output_dir save_only_model report_to per_device_train_batch_size
gradient_accumulation_steps learning_rate num_train_epochs lr_scheduler_type warmup_ratio bf16
ddp_timeout per_device_eval_batch_size eval_strategy eval_steps max_steps seed deepspeed
custom_dataset_info max_length group_by_length logging_dir save_safetensors
"""

ASKING: dict[str, Any] = {
    "dataset": "x", "metric_for_best_model": "eval_accuracy",
}  # fmt: skip


def _keys(action: str) -> list[str]:
    return [name for name, one in FOREIGN.items() if one.action == action]


def test_no_llama_factory_key_is_forgotten() -> None:
    known = set(FOREIGN) | set(Config.model_fields)
    assert [name for name in _DOCUMENTED.split() if name not in known] == []


@pytest.mark.oracle
def test_no_transformers_key_is_forgotten() -> None:
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    module = ast.parse((Path(spec.origin).parent / "training_args.py").read_text("utf-8"))
    (body,) = (
        node.body
        for node in module.body
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments"
    )
    fields = [
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert len(fields) > 90
    known = set(FOREIGN) | set(Config.model_fields)
    assert [name for name in fields if name not in known and not name.startswith("_")] == []


def test_table_and_schema_do_not_overlap() -> None:
    assert set(FOREIGN).isdisjoint(Config.model_fields)
    assert set(SYNONYMS).isdisjoint(Config.model_fields)
    assert set(SYNONYMS).isdisjoint(FOREIGN)
    assert set(SYNONYMS.values()) <= set(Config.model_fields)
    assert {one.to for one in FOREIGN.values()} - {""} <= set(Config.model_fields)


@pytest.mark.parametrize("name", ["qwen", "Llama3"])
def test_a_llama_factory_name_stays_and_is_explained(load: Load, name: str) -> None:
    loaded = load(f"{NEEDED}template: {name}\n")
    assert loaded.config.template == name
    assert loaded.notes == (
        f"train.yaml:3: template: {name} is LLaMA-Factory's name for the model's own chat "
        "template, which is used if the model brings one",
    )
    assert load(f"{NEEDED}template: chatml\n").notes == ()


@pytest.mark.parametrize("name", _keys("ignored"))
def test_ignored(load: Load, name: str) -> None:
    loaded = load(f"{NEEDED}{name}: 7\n")
    assert loaded.notes == (f"train.yaml:3: {name}: ignored: {FOREIGN[name].why}",)
    assert loaded.config == load(NEEDED).config


@pytest.mark.parametrize("name", _keys("refused"))
def test_refused(fail: Fail, load: Load, name: str) -> None:
    value = ASKING.get(name, "true")
    error = fail(f"{NEEDED}{name}: {value}\n")
    assert error.why == f"train.yaml:3:1: {name}: refused: {FOREIGN[name].why}"
    assert error.fix == f"remove {name}"
    for harmless in ("null", "''", *map(str, FOREIGN[name].harmless)):
        loaded = load(f"{NEEDED}{name}: {harmless}\n")
        assert len(loaded.notes) == 1
        assert loaded.notes[0].startswith(f"train.yaml:3: {name}: ignored: ")
        assert loaded.notes[0].endswith(" asks for nothing")
        assert loaded.config == load(NEEDED).config


@pytest.mark.parametrize(
    "line",
    ["split_batches: false", "use_mca: null", "use_galore: false",
     "load_in_4bit: ", "label_smoothing_factor: 0.0", "swanlab_api_key: ''",
     "rope_scaling: none", "optim_args: {}"],
)  # fmt: skip
def test_a_refused_key_may_say_what_is_done_anyway(load: Load, line: str) -> None:
    (note,) = load(NEEDED + line).notes
    assert note.endswith(" asks for nothing")


@pytest.mark.parametrize("name", _keys("renamed"))
def test_renamed(load: Load, name: str) -> None:
    value, ours = {
        "bf16": ("true", "bfloat16"),
        "fp16": ("true", "float16"),
        "max_length": ("64", 64),
        "max_seq_length": ("64", 64),
        "custom_dataset_info": ("a/dataset_info.json", Path("a")),
        "activation_checkpointing": ("true", True),
        "use_liger_kernel": ("true", True),
        "group_by_length": ("false", "random"),
        "disable_shuffling": ("true", "sequential"),
        "evaluation_strategy": ("steps", "steps"),
    }[name]
    foreign = FOREIGN[name]
    loaded = load(f"{NEEDED}{name}: {value}\n")
    assert getattr(loaded.config, foreign.to) == ours
    assert loaded.origins[foreign.to] == f"train.yaml:3 ({foreign.source} key {name})"
    said = spelled(ours)
    assert loaded.notes == (f"train.yaml:3: {name}: read as {foreign.to}: {said}; {foreign.why}",)
    assert load(f"{NEEDED}{name}:\n").notes == (
        f"train.yaml:3: {name}: ignored: null asks for nothing",
    )


def test_reasons_read_as_sentences() -> None:
    for name, one in FOREIGN.items():
        assert one.why[0].islower() or one.why.split()[0] in ("AdamW", "Ollama", "4-bit", "FP8"), (
            name
        )
        assert not one.why.endswith("."), name
        assert one.action != "refused" or "remove the key" in one.why, name


@pytest.mark.parametrize(("word", "ours"), SYNONYMS.items())
def test_synonyms_are_suggested(fail: Fail, word: str, ours: str) -> None:
    error = fail(f"{NEEDED}{word}: 1\n")
    assert error.why == f"train.yaml:3:1: {word}: no such key; did you mean {ours}?"
