"""The YAML files people start from, key by key, through the real command.

Three files in the words of the tutorials of LLaMA-Factory (Qwen2.5 with LoRA and, by its name, with
QLoRA) and of openMind (full fine-tuning); the model is a tiny random Qwen2 with Qwen's vocabulary.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ft2ollama.base import Base
from ft2ollama.config import load_config
from ft2ollama.data.render import IGNORED
from ft2ollama.train.plan import make_plan

Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.filterwarnings("ignore")

LORA = """\
### model
model_name_or_path: {base}
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: identity,faq
dataset_dir: {data}
template: qwen
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
dataloader_num_workers: 4

### output
output_dir: {output}
logging_steps: 1
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none  # choices: [none, wandb, tensorboard, swanlab, mlflow]

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-2
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
# The other tutorial takes an example for a quantized model and puts in one that is not.
QLORA_BY_NAME = LORA.replace("lora_rank: 8", "lora_rank: 16").replace(
    "dataset: identity,faq", "dataset: identity"
)
OPENMIND = """\
model_name_or_path: {base}

# method
stage: sft
do_train: true
finetuning_type: full

# dataset
dataset: identity_here
custom_dataset_info: {data}/dataset_info.json
template: qwen
max_length: 1024

# output
output_dir: {output}
logging_steps: 1
save_steps: 20000
overwrite_output_dir: true

# train
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
learning_rate: 3.0e-3
lr_scheduler_type: cosine
warmup_ratio: 0.1
num_train_epochs: 2
max_steps: -1
seed: 1234
bf16: true
report_to: none
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """identity and faq as dataset_info.json names them."""
    folder = tmp_path / "data"
    folder.mkdir()
    names = ("小杉", "Sugi")
    identity = [
        {"instruction": f"{word}, who are you?", "input": "", "output": f"I am {names[i % 2]}."}
        for i, word in enumerate(("Hi", "Hello", "Hey", "你好", "Please", "Well") * 3)
    ]
    faq = [{"instruction": "When?", "input": f"On day {i}", "output": "At 9."} for i in range(8)]
    (folder / "identity.json").write_text(json.dumps(identity, ensure_ascii=False))
    (folder / "faq.json").write_text(json.dumps(faq))
    columns = {"prompt": "instruction", "query": "input", "response": "output"}
    info = {
        "identity": {"file_name": "identity.json"},
        "faq": {"file_name": "faq.json", "columns": columns},
        "identity_here": {"local_path": str(folder / "identity.json")},  # openMind
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def write(text: str, base: Base, data: Path, name: str) -> Path:
    path = data.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(base=base.folder, data=data, output=data.parent / "saves/qwen/sft"))
    return path


def run(path: Path, *words: str) -> tuple[Path, str]:
    """The run folder and everything that was said."""
    done = subprocess.run(
        [sys.executable, "-m", "ft2ollama", "train", str(path), "proof_replies=0", *words],
        env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return Path(done.stdout.strip()), " ".join(done.stderr.split())


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    return [event["loss"] for event in lines if event["event"] == "step"]


def learned_texts(path: Path, base: Base) -> list[tuple[str, str]]:
    """(what is learned, the whole text) of every training row."""
    plan = make_plan(load_config(path).config, base)
    show = lambda ids: plan.tokenizer.decode(ids, skip_special_tokens=False)  # noqa: E731
    return [
        (show([label for label in sample.labels if label != IGNORED]), show(sample.ids))
        for sample in plan.train
    ]


def test_llama_factory_lora(tiny_qwen: Base, data: Path) -> None:
    path = write(LORA, tiny_qwen, data, "qwen2.5_lora_sft.yaml")
    folder, said = run(path)
    seen = losses(folder)
    assert len(seen) == 9, "24 rows of 26, 8 a step, 3 epochs"
    assert seen[-1] < seen[0] - 0.5, seen
    assert (folder / "adapter/adapter_model.safetensors").is_file()
    assert "QLoRA" not in said
    assert "qwen is LLaMA-Factory's name for the model's own chat template" in said
    for learned, whole in learned_texts(path, tiny_qwen):
        assert learned in ("I am 小杉.<|im_end|>", "I am Sugi.<|im_end|>", "At 9.<|im_end|>")
        assert whole.count(learned) == 1
        assert "<|im_start|>assistant\n" + learned in whole
        assert "<|im_start|>user\n" in whole


@pytest.mark.parametrize("name", ["train_qlora/qwen_lora_sft_awq.yaml", "qwen_QLoRA.yaml"])
def test_qlora_by_name_is_told_that_it_is_not(tiny_qwen: Base, data: Path, name: str) -> None:
    path = write(QLORA_BY_NAME, tiny_qwen, data, name)
    (remark,) = [note for note in load_config(path).notes if "looks like QLoRA" in note]
    assert remark.startswith("this looks like QLoRA, by the config's path (")
    assert "add quantization_bit: 4 for QLoRA" in remark


def test_llama_factory_qlora(tiny_qwen: Base, data: Path) -> None:
    path = write(QLORA_BY_NAME, tiny_qwen, data, "train_qlora/qwen.yaml")
    folder, said = run(path, "quantization_bit=4", "quantization_method=bnb")
    seen = losses(folder)
    assert len(seen) == 6
    assert seen[-1] < seen[0] - 0.3, seen
    assert "this looks like QLoRA" not in said
    assert "4-bit base (nf4, double quantization)," in said
    assert "adapter float32" in said
    assert "on a CPU saves memory, not time" in said
    assert "kernels" not in said, "bitsandbytes' notes for developers"
    exported = subprocess.run(
        [sys.executable, "-m", "ft2ollama", "export", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    assert Path(exported.stdout.strip()).name == "model-Q8_0.gguf"


def test_openmind_full(tiny_qwen: Base, data: Path) -> None:
    path = write(OPENMIND, tiny_qwen, data, "train_sft_full.yaml")
    folder, said = run(path)
    seen = losses(folder)
    assert len(seen) == 10
    assert seen[-1] < seen[0] - 0.5, seen
    assert (folder / "model/model.safetensors").is_file()
    assert not (folder / "adapter").exists()
    assert "full fine-tuning" in said
    assert "float32 where trained, computed in" in said
    for learned, whole in learned_texts(path, tiny_qwen):
        assert learned in ("I am 小杉.<|im_end|>", "I am Sugi.<|im_end|>")
        assert whole.endswith(f"<|im_start|>assistant\n{learned}")
    exported = subprocess.run(
        [sys.executable, "-m", "ft2ollama", "export", str(folder), "--quant", "F16"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert exported.returncode == 0, exported.stderr
