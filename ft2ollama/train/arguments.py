"""The config as transformers' TrainingArguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ft2ollama.config import Config
from ft2ollama.train.methods import precision
from ft2ollama.train.optimizer import optimizer_arguments
from ft2ollama.train.plan import Plan

EVALUATIONS = 10  # of a training with eval_strategy: steps and no eval_steps


def training_arguments(
    plan: Plan, folder: Path, device: str, dtype: str, run_id: str
) -> TrainingArguments:
    """folder: of the checkpoints.  dtype: of the arithmetic.  run_id: its name for trackers."""
    config = plan.config
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_steps or round(config.warmup_ratio * plan.steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        **optimizer_arguments(config, device),
        **precision(config, dtype),
        seed=config.seed,
        data_seed=config.data_seed,
        full_determinism=config.full_determinism,
        train_sampling_strategy=config.train_sampling_strategy,
        torch_empty_cache_steps=config.torch_empty_cache_steps,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_num_workers=config.dataloader_num_workers,
        dataloader_pin_memory=device != "cpu",
        use_cpu=device == "cpu",
        disable_tqdm=True,
        log_level="error",
        run_name=run_id,
        **_logging(config),
        **_saving(config, held_out=bool(plan.validation), steps=plan.steps),
        **_processes(config),
    )


def _logging(config: Config) -> dict[str, Any]:
    return {
        "logging_strategy": "steps",
        "logging_steps": config.logging_steps,
        "logging_first_step": config.logging_first_step,
        "logging_nan_inf_filter": False,  # a loss that is not a number must be seen
        "report_to": list(config.trackers),
    }


def _saving(config: Config, *, held_out: bool, steps: int) -> dict[str, Any]:
    """When is measured and saved; which checkpoints stay is the engine's affair."""
    measured = (config.eval_strategy or "epoch") if held_out else "no"
    every = config.eval_steps or max(1, steps // EVALUATIONS)
    saved, save_every = config.resolved_save_strategy, config.save_steps
    if saved == "eval":
        saved, save_every = measured, every
    elif saved == "steps" and not save_every:
        saved = "no"
    return {
        "eval_strategy": measured,
        "eval_steps": every,
        "eval_on_start": config.eval_on_start and held_out,
        "per_device_eval_batch_size": config.per_device_eval_batch_size
        or config.per_device_train_batch_size,
        "save_strategy": saved,
        "save_steps": save_every or 500,
        "save_only_model": config.save_only_model,
        "load_best_model_at_end": config.load_best_model_at_end and held_out,
        "metric_for_best_model": "eval_loss" if held_out else None,
        "greater_is_better": False if held_out else None,
        "restore_callback_states_from_checkpoint": True,
    }


def _processes(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ddp_timeout": config.ddp_timeout,
        "ddp_find_unused_parameters": False,  # every adapter is used in every step
        "average_tokens_across_devices": True,
    }
    if config.deepspeed:
        found["deepspeed"] = str(config.deepspeed)
    if config.sharded:
        plain = config.fsdp in ("true", "True", "yes")
        found["fsdp"] = True if plain else config.fsdp
        found["fsdp_config"] = str(config.fsdp_config) if config.fsdp_config else None
    return found
