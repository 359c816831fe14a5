"""Reading, translating and overriding."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ft2ollama.config import Config, Loaded, load_config

Load = Callable[..., Loaded]
NEEDED = "model_name_or_path: base\ndataset: train.json\n"  # lines 1 and 2


def test_defaults(load: Load) -> None:
    config = load(NEEDED).config
    assert (config.lora_rank, config.lora_alpha, config.resolved_lora_alpha) == (16, None, 32)
    assert (config.learning_rate, config.num_train_epochs, config.seed) == (2e-4, 3.0, 42)
    assert (config.per_device_train_batch_size, config.cutoff_len) == (8, 2048)
    assert (config.export_quant, config.export_as, config.lora_target) == (
        "auto",
        "model",
        ("all",),
    )
    assert config.dataset_dir == Path("data")
    assert config.output_dir is None
    assert config.resolved_num_ctx == 4096
    assert load(NEEDED + "cutoff_len: 8192").config.resolved_num_ctx == 8192
    assert load(NEEDED + "cutoff_len: 8192\nnum_ctx: 2048").config.resolved_num_ctx == 2048


def test_a_config_made_in_code_is_checked_too() -> None:
    with pytest.raises(ValidationError, match="lora_rnak"):
        Config.model_validate({"model_name_or_path": "a", "dataset": "b", "lora_rnak": 8})
    with pytest.raises(ValidationError, match="mask_history: true leaves earlier turns out"):
        Config(model_name_or_path="a", dataset=("b",), mask_history=True, train_on_prompt=True)


def test_frozen(load: Load) -> None:
    config = load(NEEDED).config
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(NEEDED).config = config  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("learning_rate: 1e-4", "learning_rate", 1e-4),
        ("learning_rate: 1E-4", "learning_rate", 1e-4),
        ("learning_rate: 1.0e-4", "learning_rate", 1e-4),
        ("learning_rate: .0001", "learning_rate", 1e-4),
        ("learning_rate: '1e-4'", "learning_rate", 1e-4),
        ("max_samples: 1e3", "max_samples", 1000),
        ("max_samples: 1_000", "max_samples", 1000),
        ("max_samples: null", "max_samples", None),
        ("max_samples:", "max_samples", None),
        ("max_samples: ~", "max_samples", None),
        ("use_rslora: yes", "use_rslora", True),
        ("use_rslora: Off", "use_rslora", False),
        ("export_quant: q8_0", "export_quant", "Q8_0"),
        ("export_quant: bf16", "export_quant", "BF16"),
        ("ollama_name: 007", "ollama_name", "007"),
        ("ollama_name: no", "ollama_name", "no"),
        ("ollama_name: library/faq:v1", "ollama_name", "library/faq:v1"),
        ("run_name: 2026-11-22", "run_name", "2026-11-22"),
        ("run_name: 1e5", "run_name", "1e5"),
        ("template: null", "template", None),
        ("template: 'null'", "template", "null"),
        ("default_system: ''", "default_system", ""),
        (
            "default_system: |\n  你是小杉。\n  Be brief.\n",
            "default_system",
            "你是小杉。\nBe brief.\n",
        ),
        ("lora_target: q_proj, v_proj,", "lora_target", ("q_proj", "v_proj")),
        ("lora_target: [q_proj, v_proj]", "lora_target", ("q_proj", "v_proj")),
        ("val_size: 1", "val_size", 1.0),
        ("max_length: 512", "cutoff_len", 512),
        ("custom_dataset_info: /a/b/dataset_info.json", "dataset_dir", Path("/a/b")),
        ("custom_dataset_info: /a/b/mine.json", "dataset_dir", Path("/a/b/mine.json")),
        ("bf16: true", "compute_dtype", "bfloat16"),
        ("pure_bf16: true", "pure_bf16", True),
        ("fp16: true", "compute_dtype", "float16"),
        ("quantization_bit: '4'", "quantization_bit", 4),
        (
            "additional_target: embed_tokens, lm_head",
            "additional_target",
            ("embed_tokens", "lm_head"),
        ),
        ("additional_target:", "additional_target", None),
        ("lora_rank_pattern: {down_proj: 32}", "lora_rank_pattern", {"down_proj": 32}),
        ("lr_scheduler_kwargs: {num_cycles: 0.5}", "lr_scheduler_kwargs", {"num_cycles": 0.5}),
        ("bf16: false", "compute_dtype", "auto"),
        ("bf16: true\nfp16: false", "compute_dtype", "bfloat16"),
        ("bf16: true\ncompute_dtype: bfloat16", "compute_dtype", "bfloat16"),
        ("template: qwen3_nothink", "template", "qwen3_nothink"),
        ("template: chatml", "template", "chatml"),
        ("ollama_parameters:", "ollama_parameters", {}),
        (
            "ollama_parameters: {temperature: 0.2, top_k: 1, stop: [a, b], use_mmap: no}",
            "ollama_parameters",
            {"temperature": 0.2, "top_k": 1, "stop": ("a", "b"), "use_mmap": False},
        ),
    ],
)
def test_value(load: Load, line: str, key: str, value: Any) -> None:
    found = getattr(load(NEEDED + line).config, key)
    assert found == value
    assert type(found) is type(value)


def test_home_folder(load: Load) -> None:
    assert load(NEEDED + "output_dir: ~/runs").config.output_dir == Path.home() / "runs"
    assert load(NEEDED, "proof_prompts=~/q.jsonl").config.proof_prompts == Path.home() / "q.jsonl"


def test_dataset_is_a_list_or_has_commas(load: Load) -> None:
    for written in ("a.json, b.json", "[a.json, b.json]", "\n- a.json\n- b.json"):
        loaded = load(f"model_name_or_path: 1.5\ndataset: {written}")
        assert loaded.config.dataset == ("a.json", "b.json")
        assert loaded.config.model_name_or_path == "1.5"


def test_byte_order_mark_and_windows_lines(load: Load) -> None:
    loaded = load(b"\xef\xbb\xbf" + (NEEDED + "seed: 7\n").replace("\n", "\r\n").encode())
    assert (loaded.config.seed, loaded.origins["seed"]) == (7, "train.yaml:3")


@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json(load: Load, indent: int | str | None, *, ascii_only: bool) -> None:
    values = {
        "model_name_or_path": "base",
        "dataset": ["a.json", "数据.json"],
        "learning_rate": 1e-05,
        "default_system": 'Say "hi" \\ 😀\n\ttab / 你好',
        "lora_alpha": None,
        "use_rslora": True,
        "ollama_parameters": {"temperature": 0, "stop": ["\u2028<|im_end|>"]},
    }
    loaded = load(json.dumps(values, indent=indent, ensure_ascii=ascii_only), name="c.json")
    values["dataset"] = ("a.json", "数据.json")
    values["ollama_parameters"] = {"temperature": 0, "stop": ("\u2028<|im_end|>",)}
    assert {key: getattr(loaded.config, key) for key in values} == values


def test_origins(load: Load) -> None:
    loaded = load(NEEDED + "bf16: true\nlora_rank: 4\nseed: 1\n", "seed=2", "lora_dropout=0.1")
    assert loaded.origins["model_name_or_path"] == "train.yaml:1"
    assert loaded.origins["compute_dtype"] == "train.yaml:3 (transformers key bf16)"
    assert loaded.origins["lora_rank"] == "train.yaml:4"
    assert loaded.origins["seed"] == "override"
    assert loaded.origins["lora_dropout"] == "override"
    assert loaded.origins["hub"] == "default"
    assert set(loaded.origins) == set(Config.model_fields)


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["lora_rank=4"], "lora_rank", 4),
        (["--lora_rank=4"], "lora_rank", 4),
        (["lora_rank=4", "lora_rank=5"], "lora_rank", 5),
        (["learning_rate=1e-4"], "learning_rate", 1e-4),
        (["lora_target=[q_proj,v_proj]"], "lora_target", ("q_proj", "v_proj")),
        (["lora_target=q_proj,v_proj"], "lora_target", ("q_proj", "v_proj")),
        (["max_samples=null"], "max_samples", None),
        (["max_samples="], "max_samples", None),
        (["default_system=Answer: yes # or no"], "default_system", "Answer: yes # or no"),
        (["default_system=[x"], "default_system", "[x"),
        (["default_system=a=b"], "default_system", "a=b"),
        (['default_system="a\\nb"'], "default_system", "a\nb"),
        (["template=null"], "template", None),
        (["model_name_or_path=ollama:qwen2.5:0.5b"], "model_name_or_path", "ollama:qwen2.5:0.5b"),
        (["compute_dtype=float32", "bf16=false"], "compute_dtype", "float32"),
        (["ollama_parameters.top_p=0.5"], "ollama_parameters", {"temperature": 1, "top_p": 0.5}),
        (["ollama_parameters={top_p: 0.5}"], "ollama_parameters", {"top_p": 0.5}),
        (
            ["ollama_parameters.top_p=0.5", "ollama_parameters={top_k: 1}"],
            "ollama_parameters",
            {"top_k": 1},
        ),
        (["ollama_parameters.temperature=0.5"], "ollama_parameters", {"temperature": 0.5}),
    ],
)
def test_override(load: Load, words: list[str], key: str, value: Any) -> None:
    text = (
        "lora_rank: abc\nmax_samples: 5\ntemplate: chatml\nollama_parameters: {temperature: 1}\n"
        "use_dora: true\ncompute_dtype: float16\n"
    )
    loaded = load(NEEDED + text, "lora_rank=3", "use_dora=false", "compute_dtype=auto", *words)
    assert getattr(loaded.config, key) == value
    assert loaded.origins[key] == "override"


def test_an_override_in_another_tools_words(load: Load) -> None:
    loaded = load(NEEDED + "compute_dtype: float16\n", "bf16=true")
    assert loaded.config.compute_dtype == "bfloat16"
    assert loaded.origins["compute_dtype"] == "override (transformers key bf16)"
    assert loaded.notes == (
        "override bf16=true: read as compute_dtype: bfloat16; the number format has one key here",
    )


def test_an_override_beats_the_other_name_of_the_key(load: Load) -> None:
    loaded = load(NEEDED + "bf16: true\n", "compute_dtype=float32")
    assert loaded.config.compute_dtype == "float32"
    assert loaded.notes == ()


def test_overrides_alone() -> None:
    loaded = load_config(None, ["model_name_or_path=a", "dataset=b"])
    assert loaded.config == Config(model_name_or_path="a", dataset=("b",))


def test_what_has_no_effect_is_told(load: Load) -> None:
    loaded = load(NEEDED + "warmup_steps: 10\nplot_loss: true\n", "max_steps=10", "do_train=true")
    assert loaded.notes == (
        "train.yaml:4: plot_loss: ignored: the loss curve is always drawn",
        "override do_train=true: ignored: the train command trains",
        "max_steps: 10 ends the run; num_train_epochs does not count",
        "warmup_steps: 10 is the whole run of max_steps 10; the learning rate only rises",
    )


TUTORIAL = """\
### model
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: identity,my_faq
template: qwen
cutoff_len: 1024
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
dataloader_num_workers: 4

### output
output_dir: saves/qwen/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none  # choices: [none, wandb, tensorboard]

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null

### eval
val_size: 0.1
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 500
"""


def test_a_llama_factory_tutorial(load: Load) -> None:
    loaded = load(TUTORIAL, name="qwen_lora_sft.yaml")
    config = loaded.config
    assert config.dataset == ("identity", "my_faq")
    assert (config.lora_rank, config.resolved_lora_alpha, config.learning_rate) == (8, 16, 1e-4)
    assert (config.warmup_ratio, config.val_size, config.save_steps) == (0.1, 0.1, 500)
    assert (config.compute_dtype, config.template) == ("bfloat16", "qwen")
    assert (config.dataloader_num_workers, config.ddp_timeout, config.trackers) == (
        4,
        180000000,
        (),
    )
    assert (config.eval_strategy, config.eval_steps) == ("steps", 500)
    assert (config.per_device_eval_batch_size, config.resumes_from) == (1, "")
    file = "qwen_lora_sft.yaml"
    assert loaded.notes == (
        f"{file}:6: do_train: ignored: the train command trains",
        f"{file}:13: template: qwen is LLaMA-Factory's name for the model's own chat template, "
        "which is used if the model brings one",
        f"{file}:16: overwrite_cache: ignored: tokens are kept by the content of data and settings",
        f"{file}:24: plot_loss: ignored: the loss curve is always drawn",
        f"{file}:25: overwrite_output_dir: ignored: every run has its own folder; none is "
        "overwritten unasked",
        f"{file}:36: bf16: read as compute_dtype: bfloat16; the number format has one key here",
    )


def test_notes_repeat_no_value_of_an_ignored_key(load: Load) -> None:
    notes = load(NEEDED + "hub_token: hf_secret\nms_hub_token: hf_secret\n").notes
    assert len(notes) == 2
    assert "hf_secret" not in "".join(notes)


def test_cold_import_is_light() -> None:
    code = (
        "import sys, ft2ollama.config\n"
        "print('pydantic' in sys.modules, 'yaml' in sys.modules)\n"
        "from ft2ollama.config import load_config\n"
        "load_config(None, ['model_name_or_path=a', 'dataset=b'])\n"
        "print([m for m in ('torch', 'transformers', 'peft', 'numpy', 'rich', 'click', 'gguf')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["False False", "[]", ""]


def test_unknown_name_of_the_package() -> None:
    import ft2ollama.config

    with pytest.raises(AttributeError, match="no attribute 'load_conifg'"):
        ft2ollama.config.load_conifg  # noqa: B018
