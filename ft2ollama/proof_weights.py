"""Are the trained weights in the exported file, and does the server store that very file?

The file is read back and held against base + adapter (`converters.measure`): every tensor within
its type's rounding error, and the update in it once, not half, not twice. This finds an adapter
that was not applied, another base, a wrong scale, rows in another order, a merge into 4-bit
weights.

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
    from converters import GgufFile, Measured

# Relative error of normally distributed weights (benchmarks/RESULTS.md; calibrated rounding costs a
# fifth more in this figure) times 1.5, times 2 where it is small: outliers coarsen a block.
_ERROR = {
    "F32": 1e-5, "F16": 2e-3, "BF16": 5e-3, "Q8_0": 0.012, "Q6_K": 0.035, "Q5_K": 0.06,
    "Q5_1": 0.06, "Q5_0": 0.07, "Q4_K": 0.12, "Q4_1": 0.12, "Q4_0": 0.14,
    "IQ4_NL": 0.13, "IQ4_XS": 0.13, "Q3_K": 0.25, "Q2_K": 0.48,
}  # fmt: skip
_OTHER = 0.5
# On a base that came from 4-bit weights, 4-bit rounding takes back updates below half a step.
_DOSE = (0.5, 1.5)
_NOT_WEIGHTS = ("general.",)  # names, dates and file types do not change what is computed


@dataclass(frozen=True)
class WeightsCheck:
    """One file: how it was compared and what was found.

    equal: None when the stored file could not be read.  tensors: how many were compared.
    dose: how much of the training is in the file, 1.0 all of it; only of `recomputed`.
    """

    file: str
    method: Literal["recomputed", "digest", "tensors", "not readable"]
    equal: bool | None
    tensors: int = 0
    difference: str = ""
    dose: float | None = None


def recompute_weights(path: Path, base: Path, adapter: Path | None) -> WeightsCheck:
    """Hold a GGUF against base + adapter, tensor by tensor, over some rows of each."""
    from converters import ConvertError, measure, pooled_dose

    try:
        found = measure(path, base, adapter)
    except ConvertError as error:
        return WeightsCheck(path.name, "recomputed", False, 0, str(error))
    pooled = pooled_dose(found)
    dose = None if pooled is None else pooled[0]
    wrong = [one for one in found if one.error > bound(one)]
    difference = ""
    if wrong:
        worst = max(wrong, key=lambda one: one.error / bound(one))
        difference = (
            f"{len(wrong)} of {len(found)} tensors are not base + adapter; {worst.name} "
            f"({worst.type}) is {worst.error:.2%} off, its rounding explains {bound(worst):.2%}"
        )
    elif dose is not None and not _DOSE[0] < dose < _DOSE[1]:
        difference = f"the file holds {dose:.2f} of the training, not 1.00"
    return WeightsCheck(path.name, "recomputed", not difference, len(found), difference, dose)


def bound(one: Measured) -> float:
    """Largest relative error that the type's rounding explains; an adapter's update is exact."""
    return _ERROR.get(one.type, _OTHER)


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
