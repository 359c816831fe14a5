"""What an exporter could do wrong, done on purpose: other weights, other rows, another scale."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from converters import read_gguf
from ft2ollama.base import Base


def with_alpha(adapter: Path, alpha: int, folder: Path) -> Path:
    shutil.copytree(adapter, folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": alpha}))
    return folder


def another_base(base: Base, folder: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> Path:
    shutil.copytree(base.folder, folder)
    path = folder / "model.safetensors"
    weights = {name: change(name, weight) for name, weight in load_file(path).items()}
    save_file(weights, path)
    return folder


def in_four_bits(name: str, weight: np.ndarray) -> np.ndarray:
    """Blocks of 64 on sixteen levels, as bitsandbytes keeps a base in QLoRA."""
    if weight.ndim < 2 or "embed" in name:
        return weight
    blocks = weight.reshape(-1, 32)
    size = np.abs(blocks).max(1, keepdims=True) / 7.5
    return (np.round(blocks / size) * size).reshape(weight.shape).astype(weight.dtype)


def move_rows(path: Path, *names: str) -> None:
    """One name: put its rows into another order. Two names: exchange their data."""
    file = read_gguf(path)
    raw = [file.raw(name).copy() for name in names]
    if len(names) == 1:
        rows = raw[0].reshape(file.tensors[names[0]].shape[0], -1)
        raw = [rows.reshape(4, 2, len(rows) // 8, -1).swapaxes(1, 2).reshape(-1)]
    with path.open("r+b") as out:
        for name, data in zip(names, raw[::-1], strict=True):
            out.seek(file.tensors[name].offset)
            out.write(data.tobytes())
