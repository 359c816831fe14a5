"""A tiny random Llama with SmolLM2's real tokenizer: a training of it takes about a second."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.base import Base, resolve_base
from ft2ollama.config import Config
from ft2ollama.train.plan import Plan, make_plan

TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 49152,
    "initializer_range": 0.1,
    "tie_word_embeddings": True,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, smollm2: Base) -> Base:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LlamaForCausalLM(LlamaConfig(**TINY)).save_pretrained(folder)
    for path in smollm2.folder.glob("*token*"):
        shutil.copy(path, folder)
    return resolve_base(str(folder))


def write_rows(path: Path) -> Path:
    """24 short conversations."""
    talks = [
        {"instruction": f"What is {i} times {i}?", "output": f"It is {i * i}." * (1 + i % 3)}
        for i in range(24)
    ]
    path.write_text(json.dumps(talks))
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.json")


@pytest.fixture
def plan(tiny: Base, rows: Path) -> Callable[..., Plan]:
    """plan(learning_rate=..., ...) for the tiny model."""

    def make(**changes: Any) -> Plan:
        settings: dict[str, Any] = {
            "model_name_or_path": str(tiny.folder),
            "dataset": str(rows),
            "template": "chatml",
            "lora_rank": 4,
            "learning_rate": 1e-2,
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "proof_replies": 2,
        }
        return make_plan(Config(**{**settings, **changes}), tiny)

    return make
