"""How much of a training is in a written GGUF: its weights against base + adapter, read anew.

Two figures per tensor, over some of its rows:

error   |file - reference| / |reference|: what the type's rounding costs; far more when the file was
        made from another base, or its rows stand in another order.
dose    <file - base, update> / <update, update>, with update = reference - base: 1 when the whole
        update is there, 0 when the adapter was not applied, 2 when it was scaled twice. Rounding
        does not know the update, so the dose is right even where 4-bit rounding is ten times as
        large as the update itself; `noise` is its standard error.

The reference comes from the same rules as the writer's (archs/, trained), but nothing is rounded,
encoded or cached on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converters.errors import ConvertError, foreign
from converters.model_file import trained_weights
from converters.model_tensors import ModelTensors, open_model
from converters.reader import GgufFile, read_gguf
from converters.transforms import F32, Rows, n_rows, row_shape

_PIECES = 8  # places in a tensor that are looked at
_ROWS = 8  # rows at each of them
_MOST = 1 << 16  # elements of a tensor with one element per row


@dataclass(frozen=True)
class Measured:
    """One tensor.  dose and noise are None where the training changed nothing to measure."""

    name: str
    type: str
    error: float
    dose: float | None = None
    noise: float | None = None


@foreign("the model folder or the file")
def measure(path: Path, base: Path, adapter: Path | None = None) -> list[Measured]:
    """Measure a model GGUF or a LoRA GGUF that was made from `base` and a PEFT folder.

    Without `adapter` the file is held against `base` itself. Raises ConvertError when the file
    lacks a tensor or has one of another shape.
    """
    file = read_gguf(path)
    model = open_model(base)
    trained = trained_weights(adapter, model, text_only=False)
    reference = ModelTensors(model.arch, trained.config, trained.weights).rows()
    before = model.rows()
    if str(file.values.get("general.type", "model")) == "adapter":
        return list(_pairs(file, reference, before))
    return list(_tensors(file, reference, before))


def pooled_dose(found: list[Measured]) -> tuple[float, float] | None:
    """(dose, standard error) of the whole file: tensors weighted by how sure each one is."""
    known = [(one.dose, max(one.noise, 1e-6)) for one in found
             if one.dose is not None and one.noise is not None]  # fmt: skip
    if not known:
        return None
    weight = sum(noise**-2 for _, noise in known)
    return sum(dose * noise**-2 for dose, noise in known) / weight, weight**-0.5


def _tensors(
    file: GgufFile, reference: Mapping[str, Rows], before: Mapping[str, Rows]
) -> Iterator[Measured]:
    for name, rows in reference.items():
        if name not in file.tensors or file.tensors[name].shape != rows.shape:
            have = file.tensors[name].shape if name in file.tensors else "no such tensor"
            raise ConvertError(
                f"{file.path.name} is not a file of this model", name, f"{rows.shape}, not {have}"
            )
        written, wanted = _sample(file.rows(name)), _sample(rows)
        base = before.get(name)
        update = None
        if base is not None and base.shape == rows.shape:
            update = wanted - _sample(base)
        yield _measured(name, file.tensors[name].type.name, written, wanted, update)


def _pairs(
    file: GgufFile, reference: Mapping[str, Rows], before: Mapping[str, Rows]
) -> Iterator[Measured]:
    """Each pair's update, as the runtime adds it, against the reference's."""
    alpha = float(str(file.values["adapter.lora.alpha"]))
    for name in [one.removesuffix(".lora_a") for one in file.tensors if one.endswith(".lora_a")]:
        a, b = file.dequantize(f"{name}.lora_a"), file.dequantize(f"{name}.lora_b")
        if name == "token_embd.weight":  # the factors change places, see adapter_file
            a, b = b.T, a
        scale = alpha / a.shape[0] if alpha else 1.0
        update = _sample(reference[name]) - _sample(before[name])
        kind = file.tensors[f"{name}.lora_a"].type.name
        yield _measured(name, kind, (scale * _picked(b) @ a).astype(np.float32), update, update)


def _measured(name: str, kind: str, written: F32, wanted: F32, update: F32 | None) -> Measured:
    """update: what training added, in the same rows; written may be an update alone."""
    difference = written.astype(np.float64) - wanted
    error = _norm(difference) / max(_norm(wanted), 1e-30)
    size = 0.0 if update is None else _norm(update)
    if update is None or size == 0:
        return Measured(name, kind, error)
    dose = 1 + float((difference * update).sum()) / size**2
    rest = difference - (dose - 1) * update
    noise = _norm(rest) / math.sqrt(max(1, difference.size)) / size
    return Measured(name, kind, error, dose, noise)


def _norm(values: F32 | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).sum()))


def _sample(rows: Rows) -> F32:
    """Some rows of a tensor: _PIECES places, evenly spread, the first and last rows among them."""
    parts = [rows.read(start, stop) for start, stop in _places(rows.shape)]
    return np.concatenate(parts).reshape(-1, *row_shape(rows.shape))


def _picked(array: F32) -> F32:
    return np.concatenate([array[start:stop] for start, stop in _places(array.shape)])


def _places(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    count = n_rows(shape)
    if len(shape) == 1:
        return [(0, min(count, _MOST))]
    if count <= _PIECES * _ROWS:
        return [(0, count)]
    starts = np.linspace(0, count - _ROWS, _PIECES).astype(int)
    return [(int(start), int(start) + _ROWS) for start in starts]
