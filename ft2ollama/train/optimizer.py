"""The optimizer: its keys as transformers' TrainingArguments take them, and LoRA+ by peft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from ft2ollama.config import Config


def optimizer_arguments(config: Config) -> dict[str, Any]:
    """Keyword arguments of TrainingArguments."""
    return {
        "optim": config.optim,
        "adam_beta1": config.adam_beta1,
        "adam_beta2": config.adam_beta2,
        "adam_epsilon": config.adam_epsilon,
        "neftune_noise_alpha": config.neftune_noise_alpha,
        "lr_scheduler_kwargs": dict(config.lr_scheduler_kwargs),
    }


def own_optimizer(config: Config, model: Any, arguments: TrainingArguments) -> Any:
    """The LoRA+ optimizer where the config asks for it; None leaves it to the Trainer.

    The class and its settings are those the Trainer would take, the groups peft's: matrices A at
    learning_rate, B at loraplus_lr_ratio times that, adapters of embeddings at their own rate.
    """
    if config.loraplus_lr_ratio is None:
        return None
    from peft.optimizers import create_loraplus_optimizer
    from transformers import Trainer

    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    rate = settings.pop("lr")
    return create_loraplus_optimizer(
        model,
        kind,
        lr=rate,
        loraplus_lr_ratio=config.loraplus_lr_ratio,
        loraplus_lr_embedding=config.loraplus_lr_embedding,
        loraplus_weight_decay=config.weight_decay,
        **settings,
    )
