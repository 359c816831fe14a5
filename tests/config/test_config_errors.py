"""Every mistake a config can have, with the exact text that the user sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ft2ollama.config import load_config
from ft2ollama.errors import ConfigError, ExitCode

Fail = Callable[..., ConfigError]
NEEDED = "model_name_or_path: base\ndataset: train.json\n"  # lines 1 and 2
KEYS = "every key with its range: python -m ft2ollama.config.docs"


def why(fail: Fail, lines: str, *overrides: str) -> str:
    """The `why` of a config whose lines from the third on are `lines`."""
    return fail(NEEDED + lines, *overrides).why


def test_everything_at_once_in_the_order_of_the_file(fail: Fail) -> None:
    error = fail(
        "lora_rnak: 8\n"
        "dataset: [a.json, {b: c}]\n"
        "learning_rate: fast\n"
        "lora_alpha: 16\n"
        "lora_alpha: 8\n"
        "use_galore: true\n"
        "mask_history: true\n"
        "train_on_prompt: true\n"
        "ollama_parameters: {temprature: 1, temperature: hot}\n",
        "seed=-1",
        "nonsense",
    )
    assert str(error) == (
        "train.yaml has 11 problems\n"
        "  train.yaml: model_name_or_path: is required: a folder, a .gguf file, a hub id or "
        "ollama:NAME\n"
        "  train.yaml:1:1: lora_rnak: no such key; did you mean lora_rank?\n"
        "  train.yaml:2:19: dataset: item 2 must be text, not a mapping\n"
        "  train.yaml:3:16: learning_rate: must be a number, above 0 and at most 1, not 'fast'\n"
        "  train.yaml:5:1: lora_alpha: given twice, first in line 4\n"
        "  train.yaml:6:1: use_galore: refused: optimizers are chosen by transformers' names; "
        "remove the key and set optim\n"
        "  train.yaml:7:15: mask_history: true leaves earlier turns out and train_on_prompt: true "
        "learns them; keep one of the two\n"
        "  train.yaml:9:33: ollama_parameters.temprature: Ollama has no such parameter; did you "
        "mean temperature?\n"
        "  train.yaml:9:49: ollama_parameters.temperature: must be a number, not 'hot'\n"
        "  override seed=-1: must be a whole number from 0 to 4294967295, not -1\n"
        "  override nonsense: must be key=value\n"
        f"  fix: {KEYS}"
    )
    assert error.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("lora_rank: abc", "3:12: lora_rank: must be a whole number from 1 to 1024, not 'abc'"),
        ("lora_rank: 0", "3:12: lora_rank: must be a whole number from 1 to 1024, not 0"),
        ("lora_rank: 2.5", "3:12: lora_rank: must be a whole number from 1 to 1024, not 2.5"),
        ("lora_rank: true", "3:12: lora_rank: must be a whole number from 1 to 1024, not true"),
        (
            "lora_rank:",
            "3:11: lora_rank: must be a whole number from 1 to 1024, not null; "
            "without the key it is 16",
        ),
        ("lora_rank: [8]", "3:12: lora_rank: must be a whole number from 1 to 1024, not a list"),
        (
            "learning_rate: 1e-4x",
            "3:16: learning_rate: must be a number, above 0 and at most 1, not '1e-4x'",
        ),
        (
            "learning_rate: 1e999",
            "3:16: learning_rate: must be a number, above 0 and at most 1, not inf",
        ),
        (
            "lora_dropout: 1.0",
            "3:15: lora_dropout: must be a number, at least 0 and below 1, not 1",
        ),
        ("use_rslora: maybe", "3:13: use_rslora: must be true or false, not 'maybe'"),
        ("hub: github", "3:6: hub: must be one of huggingface, modelscope, not 'github'"),
        ("export_mode: best",
         "3:14: export_mode: must be one of auto, exact, imatrix, calibrated, not 'best'"),
        ("stage: sft2", "3:8: stage: must be sft, not 'sft2'"),
        ("template: ''", "3:11: template: must be text, not ''"),
        ("output_dir: {a: b}", "3:13: output_dir: must be a path, not a mapping"),
        (
            "lora_target: []",
            "3:14: lora_target: must be a name or a list of names, not an empty list",
        ),
        ("lora_target: [q, null]", "3:18: lora_target: item 2 must be text, not null"),
        (
            "finetuning_type: QLoRA",
            "3:18: finetuning_type: QLoRA is not possible: it is lora on a 4-bit base; write lora, "
            "and quantization_bit: 4",
        ),
        (
            "stage: dpo",
            "3:8: stage: dpo is not possible: preference training comes with a later version; "
            "write sft",
        ),
        ("max_steps: 0", "3:12: max_steps: must be -1 (no limit) or at least 1, not 0"),
        (
            "val_size: 1.5",
            "3:11: val_size: is a share below 1 or a whole count of conversations, not 1.5",
        ),
        (
            "lora_target: all,q_proj",
            "3:14: lora_target: all already covers the others; give all, or the names alone",
        ),
        (
            "ollama_name: 我的模型",
            "3:14: ollama_name: '我的模型' is not a valid Ollama model name: '我' is not allowed "
            "in the model: only letters a-z, digits and - _ .; use my-model",
        ),
        (
            "ollama_name: faq:cloud",
            "3:14: ollama_name: 'faq:cloud' cannot be published: newer Ollama reads the tag "
            "'cloud' as the place where the model runs, not as a name; use faq",
        ),
        (
            "template: ../chatml",
            "3:11: template: is part of a folder name: no blanks, slashes or :*?\"<>| in it, not "
            "'../chatml'",
        ),
        (
            "ollama_parameters: 5",
            "3:20: ollama_parameters: must be a mapping such as {temperature: 0.2}, not 5",
        ),
        (
            "ollama_parameters: {num_ctx: 8192}",
            "3:30: ollama_parameters.num_ctx: has its own key here; write num_ctx outside "
            "ollama_parameters",
        ),
        (
            "ollama_parameters: {mirostat: 1}",
            "3:31: ollama_parameters.mirostat: Ollama no longer uses it; remove it",
        ),
        (
            "ollama_parameters: {stop: [a, 1]}",
            "3:27: ollama_parameters.stop: must be text or a list of texts, not a list",
        ),
        ("lora-rank: 8", "3:1: lora-rank: no such key; did you mean lora_rank?"),
        ("LoraRank: 8", "3:1: LoraRank: no such key; did you mean lora_rank?"),
        ("lr: 1", "3:1: lr: no such key; did you mean learning_rate?"),
        ("lora_r: 8", "3:1: lora_r: no such key; did you mean lora_rank?"),
        ("zzz: 8", "3:1: zzz: no such key"),
        (
            "overwrite_cahce: true",
            "3:1: overwrite_cahce: no such key; did you mean overwrite_cache (LLaMA-Factory's "
            "key, ignored here)?",
        ),
        (
            "lora:\n  lora_rank: 8",
            "3:1: lora: no such key; keys are not grouped here, write those below it at the left "
            "margin",
        ),
        ("<<: {a: 1}", "3:1: <<: keys are not merged here; write them out"),
        (
            "rope_scaling: yarn",
            "3:1: rope_scaling: refused: the positions stay as the model knows them, and as Ollama "
            "computes them; remove the key",
        ),
        ("bf16: maybe", "3:7: bf16: must be true or false, not 'maybe'"),
        (
            "max_length: abc",
            "3:13: max_length: (here cutoff_len) must be a whole number from 16 to 1048576, not "
            "'abc'",
        ),
        (
            "custom_dataset_info: my.yaml",
            "3:22: custom_dataset_info: must be a .json file such as data/dataset_info.json, "
            "not 'my.yaml'",
        ),
        (
            "compute_dtype: float32\nbf16: true",
            "4:1: bf16: says compute_dtype: bfloat16, but compute_dtype in line 3 says float32",
        ),
        (
            "warmup_ratio: 0.1\nwarmup_steps: 5",
            "3:15: warmup_ratio: 0.1 and warmup_steps 5 say the same thing twice; keep one of the "
            "two",
        ),
        (
            "lr_scheduler_type: constant\nwarmup_steps: 5",
            "3:20: lr_scheduler_type: constant has no warm-up, but warmup_steps is 5; write "
            "constant_with_warmup",
        ),
        (
            "max_samples: 8\nval_size: 8",
            "4:11: val_size: 8 leaves nothing to train on: max_samples allows 8 conversations",
        ),
        ("hub: !!python/name:os.system x", "3:6: hub: the tag !!python/name:os.system has no "
         "meaning here"),
        ("hub: !secret x", "3:6: hub: the tag !secret has no meaning here"),
        ("dataset_dir: &x [*x]", "3:14: dataset_dir: an alias (*name) holds itself"),
        ("ollama_parameters: {seed: 1, seed: 2}", "3:30: ollama_parameters: seed: given twice"),
    ],
)  # fmt: skip
def test_one_line_is_wrong(fail: Fail, line: str, text: str) -> None:
    error = fail(NEEDED + line + "\n")
    assert error.what == "train.yaml has 1 problem"
    assert error.why == f"train.yaml:{text}"
    assert error.fix


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("lora_rank=abc", "must be a whole number from 1 to 1024, not 'abc'"),
        ("lora_rank=", "must be a whole number from 1 to 1024, not null; without the key it is 16"),
        ("lora_rnak=8", "no such key; did you mean lora_rank?"),
        ("lora_rank", "must be key=value"),
        ("=8", "must be key=value"),
        ("lora_target=[q_proj", "expected ',' or ']', but got '<stream end>'"),
        ("ollama_parameters.temprature=1",
         "Ollama has no such parameter; did you mean temperature?"),
        ("lora_rank.x=1", "only ollama_parameters has parts"),
        ("load_in_4bit=true", "refused: a quantized base has LLaMA-Factory's key here; remove the "
         "key and set quantization_bit: 4 or 8"),
        ("train_on_prompt=1.5", "must be true or false, not 1.5"),
        ("val_size=!x 1", "the tag !x has no meaning here"),
        ("template=''", "must be text, not ''"),
    ],
)  # fmt: skip
def test_override_is_wrong(fail: Fail, word: str, text: str) -> None:
    error = fail(NEEDED, word)
    assert error.what == "train.yaml has 1 problem"
    assert error.why == f"override {word}: {text}"
    assert error.fix


def test_rules_between_keys_are_told_beside_other_problems(fail: Fail) -> None:
    text = why(fail, "lora_rank: abc\nmask_history: true\ntrain_on_prompt: true\n")
    assert text.splitlines() == [
        "train.yaml:3:12: lora_rank: must be a whole number from 1 to 1024, not 'abc'",
        "train.yaml:4:15: mask_history: true leaves earlier turns out and train_on_prompt: true "
        "learns them; keep one of the two",
    ]


def test_a_rule_is_silent_when_one_of_its_keys_is_wrong(fail: Fail) -> None:
    assert why(fail, "mask_history: true\ntrain_on_prompt: perhaps\n") == (
        "train.yaml:4:18: train_on_prompt: must be true or false, not 'perhaps'"
    )


def test_a_rule_is_silent_when_a_stand_in_would_break_it(fail: Fail) -> None:
    error = fail("model_name_or_path: a\ndataset: [a, b, {c: d}]\nmax_samples: 8\nval_size: 8\n")
    assert error.why == "train.yaml:2:17: dataset: item 3 must be text, not a mapping"


def test_a_misspelt_required_key_is_one_problem(fail: Fail) -> None:
    assert fail("model_name_or_pth: x\ndataset: a\n").why == (
        "train.yaml:1:1: model_name_or_pth: no such key; did you mean model_name_or_path?"
    )


def test_nothing_given() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["dataset=a.json"])
    assert str(caught.value) == (
        "the config has 1 problem\n"
        "  command line: model_name_or_path: is required: a folder, a .gguf file, a hub id or "
        "ollama:NAME\n"
        "  fix: model_name_or_path=Qwen/Qwen2.5-0.5B-Instruct"
    )


def test_a_secret_is_not_repeated(fail: Fail) -> None:
    assert "hf_secret" not in str(fail(NEEDED + "hub_token: hf_secret\nlora_rank: x\n"))


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("lora_rank: x", "lora_rank: 16  (the default)"),
        ("dataset: ''", "dataset: train.jsonl  (an example)"),
        ("lora_rnak: 8", "write lora_rank"),
        ("use_galore: true", "remove use_galore"),
        ("zzz: 1", KEYS),
    ],
)
def test_the_fix_of_a_single_problem(fail: Fail, line: str, fix: str) -> None:
    key = line.split(":")[0]
    needed = "".join(f"{one}\n" for one in NEEDED.splitlines() if not one.startswith(f"{key}:"))
    assert fail(needed + line).fix == fix
