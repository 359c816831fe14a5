"""The trainers of benchmarks/train_gpu.py: ours, TRL's SFTTrainer and unsloth, on the same work.

All load the same nf4 weights and the same adapter, see the same rows in the same order and take the
same steps. Each prints a line of JSON per step: loss, seconds; and its peak memory at the end.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_work import RATE, SEED, Shape, device, rows, synchronize, tell


def arguments(shape: Shape, steps: int, **more: Any) -> dict[str, Any]:
    """What decides the result, the same for all."""
    return {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": shape.rows,
        "gradient_accumulation_steps": 1, "max_steps": steps, "learning_rate": RATE,
        "lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": 1.0,
        "weight_decay": 0.0, "seed": SEED, "logging_steps": 1, "save_strategy": "no",
        "report_to": [], "disable_tqdm": True, "use_cpu": device() == "cpu",
        "optim": "adamw_torch_fused", **more,
    }  # fmt: skip


def load(folder: Path) -> Any:
    """The nf4 base with the common adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(
        folder / "nf4", dtype=torch.bfloat16, device_map=device(), attn_implementation="sdpa"
    )
    base.config.use_cache = False
    return PeftModel.from_pretrained(base, str(folder / "adapter"), is_trainable=True)


def watch(trainer: Any) -> None:
    """Print every step."""
    import torch
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            synchronize()
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize()
            self.took = time.perf_counter() - self.began

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                tell(step=state.global_step, loss=float(logs["loss"]), seconds=self.took)

    trainer.add_callback(Watch())
    trainer.train()
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        tell(
            allocated_gb=torch.cuda.max_memory_allocated() / 1e9,
            reserved_gb=torch.cuda.max_memory_reserved() / 1e9,
            used_gb=(total - free) / 1e9,
        )


def sequential(trainer: Any, dataset: Any = None) -> Any:
    """Rows in the order of the data."""
    from torch.utils.data import SequentialSampler

    return SequentialSampler(dataset if dataset is not None else trainer.train_dataset)


def ours(shape: Shape, folder: Path, steps: int, work: str, variant: str) -> None:
    """speed_up and learned_loss in transformers' Trainer, as `ft2ollama train` uses them.

    variant: auto, all (every layer recomputed), plain (no fused layers, padding).
    """
    from transformers import Trainer, TrainingArguments

    from ft2ollama.config import Config
    from ft2ollama.train.loss import learned_loss
    from ft2ollama.train.packing import pack_rows
    from ft2ollama.train.speed import speed_up

    fast = variant != "plain"
    config = Config(
        model_name_or_path="x", dataset=("x",), packing=work == "W2", fused_lora=fast,
        padding_free=fast, per_device_train_batch_size=shape.rows,
        gradient_checkpointing=True if variant == "all" else None,
    )  # fmt: skip

    class Ours(Trainer):
        _get_train_sampler = sequential

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = 0
        ) -> Any:
            return learned_loss(model, inputs, num_items_in_batch)

    data: list[dict[str, Any]] = list(rows(shape, work, steps))
    if work == "W2":
        data = pack_rows(data, shape.row, shape.hidden)
    model = load(folder)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    chosen = speed_up(model, config, data)
    tell(notes=list(chosen.notes), collator=type(chosen.collator).__name__)
    settings = TrainingArguments(remove_unused_columns=False, **arguments(shape, steps))
    watch(Ours(model, settings, data_collator=chosen.collator, train_dataset=data))


def trl(shape: Shape, folder: Path, steps: int, work: str, variant: str) -> None:
    """TRL's SFTTrainer.  variant: default, or off (no gradient checkpointing)."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    class Sequential(SFTTrainer):
        _get_train_sampler = sequential

    more = {"gradient_checkpointing": False} if variant == "off" else {}
    settings = SFTConfig(
        **arguments(shape, steps, dataset_kwargs={"skip_prepare_dataset": True}, **more),
        max_length=None,
    )
    data = Dataset.from_list(rows(shape, work, steps))
    watch(Sequential(load(folder), settings, train_dataset=data, processing_class=tokenizer()))


def unsloth(shape: Shape, folder: Path, steps: int, work: str, variant: str) -> None:
    """unsloth's model in TRL's trainer.  variant: default, or off (no gradient checkpointing)."""
    import torch
    from datasets import Dataset
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from trl import SFTConfig, SFTTrainer
    from unsloth import FastLanguageModel  # before transformers: it patches them

    model, _ = FastLanguageModel.from_pretrained(
        str(folder / "nf4"), max_seq_length=shape.row, dtype=torch.bfloat16, load_in_4bit=True
    )
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = FastLanguageModel.get_peft_model(
        model, r=16, lora_alpha=32, target_modules=names, random_state=SEED,
        use_gradient_checkpointing=False if variant == "off" else "unsloth",
    )  # fmt: skip
    set_peft_model_state_dict(model, load_file(folder / "adapter" / "adapter_model.safetensors"))

    class Sequential(SFTTrainer):
        _get_train_sampler = sequential

    settings = SFTConfig(
        **arguments(shape, steps, dataset_kwargs={"skip_prepare_dataset": True}, bf16=True),
        max_length=shape.row,
    )
    data = Dataset.from_list(rows(shape, work, steps))
    watch(Sequential(model, args=settings, train_dataset=data, processing_class=tokenizer()))


def tokenizer() -> Any:
    """TRL wants one; the rows are tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({f"<{i}>": i for i in range(8)}, unk_token="<0>"))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<0>", eos_token="<2>")


TRAINERS = {"ours": ours, "trl": trl, "unsloth": unsloth}
