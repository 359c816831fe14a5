"""The config as transformers' TrainingArguments."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainingArguments

from ft2ollama.train.methods import precision
from ft2ollama.train.optimizer import optimizer_arguments
from ft2ollama.train.plan import Plan


def training_arguments(
    plan: Plan, folder: Path, device: str, dtype: str = "float32"
) -> TrainingArguments:
    """folder: of the checkpoints. dtype: of the arithmetic."""
    config = plan.config
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_steps or round(config.warmup_ratio * plan.steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        **optimizer_arguments(config),
        **precision(config, dtype),
        seed=config.seed,
        train_sampling_strategy="group_by_length",
        logging_strategy="steps",
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,  # a loss that is not a number must be seen
        eval_strategy="epoch" if plan.validation else "no",
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        save_total_limit=config.save_total_limit,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=device != "cpu",
        use_cpu=device == "cpu",
        disable_tqdm=True,
        report_to=[],
        log_level="error",
    )
