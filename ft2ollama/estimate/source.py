"""A model reference -> its shape, without weights and, for a hub id, with config.json alone.

In: what `model_name_or_path` says. Out: `Known`. Raises UsageError or MachineError
with the way out.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ft2ollama.base import unpacked_folder
from ft2ollama.errors import MachineError, UsageError
from ft2ollama.estimate.shape import Shape, shape_of_config, shape_of_gguf
from ft2ollama.files import remembered_sha256, sha256_file

_WITHOUT = "ft2ollama estimate --params 7B     # a typical model of that size"
_QUICK = 300_000_000  # bytes that are hashed in under half a second


@dataclass(frozen=True)
class Known:
    """stored: bytes of the weights on this disk, 0 when they are not here.  unpacked: bytes a GGUF
    still has to become in the cache.  folder: has the tokenizer and the chat template, or None."""

    shape: Shape
    stored: float = 0.0
    unpacked: float = 0.0
    folder: Path | None = None


def find(ref: str, hub: str = "huggingface") -> Known:
    """Look at the model that `ref` names."""
    if ref.startswith("ollama:"):
        return _of_ollama(ref.removeprefix("ollama:"))
    path = Path(ref).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UsageError(f"model file {ref} does not exist", str(path.absolute()), _WITHOUT)
        return _of_gguf(path.absolute(), path.stem)
    if path.is_dir():
        return _of_folder(path.absolute(), path.absolute().name)
    if ref.count("/") != 1 or ref.startswith((".", "/", "~")):
        raise UsageError(f"model_name_or_path: nothing called {ref!r} here", "no such folder",
                         f"give a folder, a .gguf file or a hub id; or {_WITHOUT}")  # fmt: skip
    return _of_hub(ref, hub)


def _of_folder(folder: Path, name: str) -> Known:
    config = folder / "config.json"
    if not config.is_file():
        raise UsageError(f"{folder} has no config.json", "so its size is not known", _WITHOUT)
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    whole = (folder / "tokenizer.json").is_file()
    shape = shape_of_config(_read(config), name)
    return Known(shape, float(stored), folder=folder if whole else None)


def _read(config: Path) -> dict[str, Any]:
    try:
        found = json.loads(config.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{config} is not JSON", str(error), "fetch it again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{config} is not an object", f"a {type(found).__name__}", _WITHOUT)
    return found


def _of_gguf(path: Path, name: str) -> Known:
    size = path.stat().st_size
    digest = sha256_file(path) if size < _QUICK else remembered_sha256(path)
    folder = unpacked_folder(digest) if digest else None
    if folder is not None and (folder / "source.json").is_file():
        return _of_folder(folder, name)
    shape = replace(shape_of_gguf(path), name=name)
    return Known(shape, float(size), unpacked=4.0 * shape.weights)


def _of_ollama(name: str) -> Known:
    from ft2ollama.ollama_api import Ollama

    blob = Ollama().show(name).blob
    if blob is None:
        raise MachineError(
            f"the weights of {name} are not readable on this machine",
            "Ollama keeps them in a store that this process cannot open",
            _WITHOUT,
        )
    return _of_gguf(blob, name)


def _of_hub(ref: str, hub: str) -> Known:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    name = ref.split("/")[1]
    cached = try_to_load_from_cache(ref, "config.json") if hub == "huggingface" else None
    if isinstance(cached, str):
        return _of_folder(Path(cached).parent, name)
    try:
        if hub == "modelscope":
            from modelscope.hub.file_download import model_file_download

            config = Path(model_file_download(ref, "config.json"))
        else:
            config = Path(hf_hub_download(ref, "config.json"))
    except Exception as error:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        where = "ModelScope" if hub == "modelscope" else endpoint
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MachineError(
            f"config.json of {ref} is not here and could not be fetched from {where}", why, _WITHOUT
        ) from error
    return Known(shape_of_config(_read(config), name))
