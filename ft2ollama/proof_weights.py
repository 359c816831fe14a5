"""Does the server store the very weights that were exported?

A server up to 0.24 keeps an uploaded GGUF byte for byte: its digest is ours. Newer servers pass the
file through llama-quantize, which may change the order of keys and tensors; then the stored file,
where this process may read it, is compared tensor by tensor. A server elsewhere whose digest
differs cannot be read: that is said, and it is no failure, because the upload itself was checked by
its hash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ft2ollama.ollama_api import Ollama

if TYPE_CHECKING:
    from converters import GgufFile

_NOT_WEIGHTS = ("general.",)  # names, dates and file types do not change what is computed


@dataclass(frozen=True)
class WeightsCheck:
    """One file: how it was compared and what was found.

    equal: None when the stored file could not be read.  tensors: how many were compared.
    """

    file: str
    method: Literal["digest", "tensors", "not readable"]
    equal: bool | None
    tensors: int = 0
    difference: str = ""


def prove_weights(
    server: Ollama, model: str, files: list[tuple[Path, str]]
) -> tuple[WeightsCheck, ...]:
    """Compare what `model` is made of with `files`: (path, sha256), an adapter second."""
    shown = server.show(model)
    stored = [(shown.digest, shown.blob), *((_digest(path), path) for path in shown.adapters)]
    if len(stored) != len(files):
        names = ", ".join(path.name for path, _ in files)
        return (
            WeightsCheck(
                names, "digest", False, 0, f"{len(files)} file(s) sent, {len(stored)} stored"
            ),
        )
    return tuple(
        _check(path, sha256, digest, blob)
        for (path, sha256), (digest, blob) in zip(files, stored, strict=True)
    )


def _check(path: Path, sha256: str, digest: str | None, blob: Path | None) -> WeightsCheck:
    if digest == sha256:
        return WeightsCheck(path.name, "digest", True)
    if blob is None or not blob.is_file():
        return WeightsCheck(
            path.name, "not readable", None, 0, "the server rewrote the file, and is elsewhere"
        )
    return compare_files(path, blob)


def compare_files(ours: Path, stored: Path) -> WeightsCheck:
    """Tensor by tensor and key by key, whatever their order."""
    from converters import ConvertError, read_gguf

    try:
        a, b = read_gguf(ours), read_gguf(stored)
        difference = _difference(a, b)
    except ConvertError as error:
        return WeightsCheck(ours.name, "tensors", False, 0, f"{stored.name}: {error}")
    return WeightsCheck(ours.name, "tensors", not difference, len(a.tensors), difference)


def _difference(ours: GgufFile, stored: GgufFile) -> str:
    for name in [*ours.tensors, *(name for name in stored.tensors if name not in ours.tensors)]:
        if name not in ours.tensors or name not in stored.tensors:
            return f"{name} is {'stored' if name in stored.tensors else 'sent'} only"
        a, b = ours.tensors[name], stored.tensors[name]
        if (a.shape, a.type) != (b.shape, b.type):
            return f"{name}: {a.type.name} {a.shape} sent, {b.type.name} {b.shape} stored"
        if ours.raw(name).tobytes() != stored.raw(name).tobytes():
            return f"{name}: its bytes differ"
    for key, value in ours.values.items():
        if not key.startswith(_NOT_WEIGHTS) and stored.values.get(key) != value:
            return f"{key}: {str(value)[:60]} sent, {str(stored.values.get(key))[:60]} stored"
    return ""


def _digest(path: Path) -> str | None:
    found = re.search(r"sha256-([0-9a-f]{64})$", path.name)
    return found.group(1) if found else None
