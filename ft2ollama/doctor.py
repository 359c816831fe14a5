"""What this machine can do, and the fix for each "no".

In: nothing.  Out: a list of `Finding`s; `state` is ok, warn (works, but slower or less) or no.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ft2ollama import __version__, machine
from ft2ollama.errors import MachineError, UserError
from ft2ollama.paths import cache_dir
from ft2ollama.runs import runs_root

_NEEDED = ("torch", "transformers", "peft", "accelerate", "gguf", "numpy", "ollama", "tokenizers")


@dataclass(frozen=True)
class Finding:
    """state: ok, warn or no.  fix: what to type when it is not ok."""

    what: str
    state: str
    value: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at everything a fine-tune needs."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python, _packages, _converters, _cores, _memory, _device, _bf16, _bitsandbytes, _disk,
        _ollama,
    )  # fmt: skip
    return [check() for check in checks]


def _python() -> Finding:
    version = platform.python_version()
    return Finding(
        "Python",
        "ok",
        f"{version}, ft2ollama {__version__}, {platform.system()} {platform.machine()}",
    )


def _packages() -> Finding:
    found, missing = [], []
    for name in _NEEDED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "packages", "no", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}"
        )
    return Finding("packages", "ok", ", ".join(found))


def _converters() -> Finding:
    import converters
    from ft2ollama.export import require_ours

    try:
        require_ours(converters)
    except MachineError as error:
        return Finding("GGUF writer", "no", error.why, error.fix)
    return Finding("GGUF writer", "ok", "our own: no llama.cpp, compiler or network needed")


def _cores() -> Finding:
    cores = machine.cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    value = f"{cores} cores, load {load:.1f}"
    if load > cores:
        return Finding(
            "processor", "warn", value, "the machine is busy: steps will take longer than usual"
        )
    return Finding("processor", "ok", value)


def _memory() -> Finding:
    total, free = machine.memory()
    value = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if free < 3e9:
        return Finding("memory", "warn", value, "the demo needs 3 GB: close other programs")
    return Finding("memory", "ok", value)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        props = torch.cuda.get_device_properties(0)
        return Finding("GPU", "ok", f"{props.name}, {props.total_memory / 1e9:.0f} GB")
    value = f"none seen by torch {torch.__version__}: LoRA runs on the CPU"
    if shutil.which("nvidia-smi"):
        return Finding(
            "GPU", "warn", value, "install a CUDA build of torch: https://pytorch.org/get-started"
        )
    return Finding("GPU", "warn", value, "none needed for models up to about 1 B parameters")


def _bf16() -> Finding:
    from ft2ollama.train.model import choose_device, choose_dtype

    dtype, why = choose_dtype("auto", choose_device())
    state = "ok" if dtype == "bfloat16" else "warn"
    return Finding(
        "training weights",
        state,
        f"{dtype}: {why}",
        "" if state == "ok" else "float32 needs twice the memory",
    )


def _bitsandbytes() -> Finding:
    try:
        return Finding("bitsandbytes", "ok", metadata.version("bitsandbytes"))
    except metadata.PackageNotFoundError:
        return Finding(
            "bitsandbytes", "warn", "not installed: no 4-bit training", "pip install bitsandbytes"
        )


def _disk() -> Finding:
    parts, low = [], False
    for name, folder in (("runs", runs_root().absolute()), ("cache", cache_dir())):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = machine.free_disk(folder)
        low = low or free < 5e9 or not os.access(existing, os.W_OK)
        parts.append(f"{name} {_home(folder)}: {free / 1e9:.0f} GB free")
    fix = "FT2OLLAMA_RUNS and FT2OLLAMA_CACHE name other folders" if low else ""
    return Finding("disk", "warn" if low else "ok", "; ".join(parts), fix)


def _ollama() -> Finding:
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.ollama_server import find_binary

    try:
        server = Ollama()
        version = server.version()
    except UserError as error:
        binary = find_binary()
        if binary is None:
            fix = "install it (https://ollama.com/download); `ft2ollama demo` brings one of its own"
            return Finding("Ollama", "no", "not installed, and nothing answers", fix)
        return Finding("Ollama", "no", error.what, f"{_home(binary)} serve")
    return Finding("Ollama", "ok", f"{version} at {server.host}, {len(server.models())} models")


def _home(path: Path) -> str:
    home = str(Path.home())
    text = str(path)
    return "~" + text[len(home) :] if text.startswith(home + os.sep) else text
