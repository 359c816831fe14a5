"""The data section of a config -> what to train on and what to measure on.

In: the config.  Out: `Loaded` (everything that was read, with its problems) and `Parts`.
"""

from __future__ import annotations

import os

from ft2ollama.config import Config
from ft2ollama.data.load import Loaded, Reading, joined, load_dataset
from ft2ollama.data.mix import Mixing, Parts, divide
from ft2ollama.data.samples import Rules


def read_parts(config: Config) -> tuple[Loaded, Parts]:
    """Read, hold out, mix. Raises DataError that lists every problem of every file."""
    loaded = load_dataset(config.dataset, config.dataset_dir, reading=reading_of(config))
    held = None
    if config.eval_dataset:
        held = load_dataset(config.eval_dataset, config.dataset_dir, reading=reading_of(config))
    parts = divide(
        loaded,
        Mixing(config.mix_strategy, config.interleave_probs or (), config.seed),
        val_size=config.val_size,
        held=held,
        each=config.eval_on_each_dataset,
    )
    return joined(loaded, held), parts


def reading_of(config: Config) -> Reading:
    """How the config wants its data read."""
    return Reading(
        max_samples=_most(config),
        bad_rows=config.bad_rows,
        hub=config.hub,
        seed=config.seed,
        streaming=config.streaming,
    )


def rules_of(config: Config) -> Rules:
    """How the config wants a row rendered."""
    return Rules(
        cutoff_len=config.cutoff_len,
        cutoff_policy=config.cutoff_policy,
        train_on_prompt=config.train_on_prompt,
        mask_history=config.mask_history,
        thinking=config.enable_thinking,
        special_tokens_in_text=config.special_tokens_in_text,
        system=config.default_system or "",
    )


def _most(config: Config) -> int | None:
    """Conversations of each set: max_samples; when streaming also what max_steps will use."""
    if not config.streaming or config.max_steps < 1:
        return config.max_samples
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    step = config.per_device_train_batch_size * config.gradient_accumulation_steps * processes
    needed = config.max_steps * step
    held = int(config.val_size) if config.val_size >= 1 else round(needed * config.val_size)
    return min(config.max_samples or needed + held, needed + held)
