"""A trained model -> the run folder: `adapter/` (PEFT files) or `model/` (a Hugging Face folder).

`model/` is written when an adapter for the base does not tell the whole model: full and freeze
trainings, trainings on top of merged adapters, and QLoRA with `qlora_merge_into: quantized`.
Trained weights are stored as they were trained (float32, with pure_bf16 bfloat16), so the export
rounds once, from what was trained. Folders are whole or absent.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.runs import Run
from ft2ollama.train.quantized import weights_behind

_MODEL_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "*.jinja", "vocab.*",
                "merges.txt", "generation_config.json")  # fmt: skip


def save_trained(
    model: Any, config: Config, base: Base, run: Run, *, state: dict[str, Any] | None = None
) -> list[Path]:
    """Write what was trained; returns the files.

    state: the gathered weights of a model that is sharded over processes; not for merged ones.
    """
    for folder in (run.adapter, run.model):
        shutil.rmtree(folder, ignore_errors=True)
    if config.finetuning_type != "lora":
        _save_model(model, base, run.model, state)
    elif config.quantization_bit is not None or not config.is_whole:
        _save_adapter(model, base, run.adapter, state)
        if config.is_whole:
            _save_model(_on_quantized(model, base.folder, run.adapter), base, run.model)
    else:
        _save_model(model.float().merge_and_unload(), base, run.model)
    folders = [folder for folder in (run.adapter, run.model) if folder.is_dir()]
    return sorted(path for folder in folders for path in folder.iterdir() if path.is_file())


def _save_adapter(model: Any, base: Base, folder: Path, state: dict[str, Any] | None) -> None:
    """PEFT files; the base goes by the user's name for it, not a cache path."""
    part = _part(folder)
    for config in model.peft_config.values():
        config.base_model_name_or_path = base.ref
    model.save_pretrained(part, state_dict=state, safe_serialization=True)
    (part / "README.md").unlink(missing_ok=True)  # PEFT's model card template, with empty fields
    part.replace(folder)


def _save_model(model: Any, base: Base, folder: Path, state: dict[str, Any] | None = None) -> None:
    """Weights and config by transformers; the tokenizer's files are the base's own, unchanged."""
    part = _part(folder)
    model.config.use_cache = True
    model.save_pretrained(part, state_dict=state)
    for pattern in _MODEL_FILES:
        for path in base.folder.glob(pattern):
            shutil.copy(path, part)
    part.replace(folder)


def _on_quantized(model: Any, folder: Path, adapter: Path) -> Any:
    """What was trained on: the weights behind the quantized ones, with the adapter merged."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    with torch.no_grad():
        for name, weight in weights_behind(model).items():
            plain.get_submodule(name).weight.copy_(weight)
    return PeftModel.from_pretrained(plain, str(adapter)).merge_and_unload()


def _part(folder: Path) -> Path:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    return part
