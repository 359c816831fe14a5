"""Calibration statistics: which inputs a linear layer meets, as second moments.

A statistics file is one safetensors file. Per input (q, k and v share one, gate and up too) it
holds the sums of x x^T over tokens, within blocks of columns (feedback.column_blocks), from two
disjoint sets of conversations: `calibration` decides how weights are rounded, `held_out` judges
whether that helped.
A block is symmetric, so its lower triangle is kept, row by row: half a block's width per column.

    <input>.calibration  F32 [sum of w (w + 1) / 2 over blocks of w columns]
    <input>.held_out     F32, the same
    <input>.counts       F32 [2], tokens in each
    __metadata__: format = "ft2ollama.moments.2", linears = JSON {linear: input},
                  columns = JSON {input: n_cols}, experts = JSON {input: n_experts}, if any

Every expert of a mixture meets other inputs. Second moments of each would be many times the size of
the model's other statistics, so the stack of a layer's experts has sums of squares only:

    <input>.calibration  F32 [n_experts * n_cols]
    <input>.held_out     F32, the same
    <input>.counts       F32 [2 * n_experts], tokens of calibration by expert, then of held out

Names are Hugging Face module names. llama.cpp's own form is in imatrix.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from converters.errors import ConvertError
from converters.names import gguf_name, name_map
from converters.quants.feedback import column_blocks
from converters.safetensors_file import StoredRows, open_file, read_metadata
from converters.transforms import F32, Index
from converters.writer import replacing

FORMAT = "ft2ollama.moments.2"
PARTS = ("calibration", "held_out")
ALL = "all"  # both of them
_OTHER_COLUMNS = ("ssm_out.weight",)  # qwen3.5: value heads are reordered on conversion


class Importance(Protocol):
    """What is known of the inputs of a model's linear layers, by GGUF tensor name."""

    @property
    def is_judged(self) -> bool:
        """Whether there are second moments, and those of held-out inputs too."""

    def knows(self, tensor: str) -> bool:
        """Whether the inputs of this tensor are known."""

    def experts(self, tensor: str) -> int:
        """How many experts' inputs are told apart; 0: one set of inputs for all rows."""

    def columns(self, tensor: str) -> int:
        """The number of its input columns."""

    def input_of(self, tensor: str) -> str:
        """A name that tensors with the same input share."""

    def diagonal(self, tensor: str) -> F32:
        """Mean square of each input column: [n_cols], or [n_experts, n_cols]."""

    def held_out_squares(self, tensor: str) -> F32:
        """Sums of squares over held-out inputs: [n_experts, n_cols]. Experts only."""

    def moments(self, tensor: str, part: str) -> list[F32]:
        """Mean of x x^T per block of columns: [w, w] each. part: one of PARTS, or ALL."""


@dataclass(frozen=True)
class Statistics:
    """An opened statistics file. linears: linear -> input; read lazily, an input at a time.

    n_experts: input -> experts, of those inputs that are an expert stack's.
    """

    path: Path
    linears: dict[str, str]
    stored: dict[str, StoredRows]
    n_cols: dict[str, int]
    n_experts: dict[str, int] = field(default_factory=dict)

    def counts(self, name: str) -> tuple[float, float]:
        """Tokens behind an input: calibration, held out; of a stack's experts together."""
        first, second = self.stored[f"{name}.counts"].all().reshape(2, -1).sum(axis=1)
        return float(first), float(second)

    def expert_counts(self, name: str) -> F32:
        """Calibration tokens by expert: [n_experts]."""
        return self.stored[f"{name}.counts"].all()[: self.n_experts[name]]

    def expert_sums(self, name: str, part: str) -> F32:
        """Sums of squares by expert: [n_experts, n_cols]."""
        return self.stored[f"{name}.{part}"].all().reshape(self.n_experts[name], -1)

    def moments(self, name: str, part: str) -> list[F32]:
        """Mean of x x^T of an input per block of columns: [w, w] each."""
        parts = PARTS if part == ALL else (part,)
        flat = self.stored[f"{name}.{parts[0]}"].all()
        for other in parts[1:]:
            flat += self.stored[f"{name}.{other}"].all()
        count = sum(self.counts(name)[PARTS.index(one)] for one in parts)
        flat /= np.float32(max(1.0, count))
        return unpacked(flat, self.n_cols[name])

    def diagonal(self, name: str) -> F32:
        """Mean square of each column of an input: [n_cols], or [n_experts, n_cols]."""
        if name in self.n_experts:
            return mean_squares(self.expert_sums(name, PARTS[0]), self.expert_counts(name))
        flat = self.stored[f"{name}.calibration"].all()
        places = np.concatenate(list(_diagonals(self.n_cols[name])))
        squares: F32 = flat[places] / np.float32(max(1.0, self.counts(name)[0]))
        return squares


def mean_squares(sums: F32, counts: F32) -> F32:
    """Mean squares of [n, n_cols] sums; where nothing was counted every column weighs 1.

    Source: llama.cpp tools/quantize/quantize.cpp, load_imatrix. counts: [n] or [1].
    """
    counts = counts.reshape(-1, 1)
    means: F32 = np.where(counts > 0, sums / np.maximum(counts, np.float32(1)), np.float32(1))
    return means


@dataclass(frozen=True)
class ByTensor:
    """Statistics under the names of one architecture's GGUF tensors."""

    statistics: Statistics
    inputs: dict[str, str]

    @property
    def is_judged(self) -> bool:
        """See Importance; so for the next seven."""
        names = set(self.inputs.values())
        return bool(names) and all(min(self.statistics.counts(name)) > 0 for name in names)

    def knows(self, tensor: str) -> bool:  # noqa: D102
        return tensor in self.inputs

    def experts(self, tensor: str) -> int:  # noqa: D102
        return self.statistics.n_experts.get(self.inputs[tensor], 0)

    def columns(self, tensor: str) -> int:  # noqa: D102
        return self.statistics.n_cols[self.inputs[tensor]]

    def input_of(self, tensor: str) -> str:  # noqa: D102
        return self.inputs[tensor]

    def diagonal(self, tensor: str) -> F32:  # noqa: D102
        return self.statistics.diagonal(self.inputs[tensor])

    def held_out_squares(self, tensor: str) -> F32:  # noqa: D102
        return self.statistics.expert_sums(self.inputs[tensor], PARTS[1])

    def moments(self, tensor: str, part: str) -> list[F32]:  # noqa: D102
        return self.statistics.moments(self.inputs[tensor], part)


def by_tensor(statistics: Statistics, architecture: str, n_blocks: int) -> ByTensor:
    """The same statistics under GGUF names; refuses those of another kind of model.

    Layers that GGUF does not have (a vision tower) are left out, and those whose columns are in
    another order there.
    """
    names = name_map(architecture, n_blocks)
    inputs = {}
    for linear, name in statistics.linears.items():
        tensor = gguf_name(names, f"{linear}.weight")
        if tensor is not None and not tensor.endswith(_OTHER_COLUMNS):
            inputs[tensor] = name
    if not inputs:
        raise ConvertError(
            "the calibration file is for another model",
            next(iter(statistics.linears), ""),
            f"none of its {len(statistics.linears)} layers is in a {architecture} model of "
            f"{n_blocks} blocks",
            "collect the statistics on this model",
        )
    return ByTensor(statistics, inputs)


def read_statistics(path: Path) -> Statistics:
    """Open a statistics file; every name and size is checked, no moments are read."""
    facts, stored = read_metadata(path), open_file(path)
    try:
        if facts.get("format") != FORMAT:
            raise ValueError(f"format is {facts.get('format')!r}, not {FORMAT!r}")
        linears = {str(k): str(v) for k, v in json.loads(facts["linears"]).items()}
        n_cols = {str(k): int(v) for k, v in json.loads(facts["columns"]).items()}
        n_experts = {str(k): int(v) for k, v in json.loads(facts.get("experts", "{}")).items()}
        for name in set(linears.values()):
            _require_sizes(stored, name, _sizes(n_cols[name], n_experts.get(name, 0)))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConvertError(
            f"{path.name} holds no calibration statistics",
            "",
            str(error),
            "collect them again: ft2ollama export --calibrate DATA",
        ) from error
    return Statistics(path, linears, stored, n_cols, n_experts)


def _sizes(n_cols: int, n_experts: int) -> dict[str, int]:
    """Floats per array of one input."""
    if n_experts:
        return dict.fromkeys(PARTS, n_experts * n_cols) | {"counts": 2 * n_experts}
    return {part: packed_size(n_cols) for part in PARTS} | {"counts": 2}


def _require_sizes(stored: Mapping[str, StoredRows], name: str, sizes: Mapping[str, int]) -> None:
    for part, size in sizes.items():
        rows = stored[f"{name}.{part}"]
        if rows.shape != (size,) or rows.dtype != "F32":
            raise ValueError(f"{name}.{part} is {rows.dtype} {list(rows.shape)}, not F32 [{size}]")


def write_statistics(
    path: Path,
    linears: Mapping[str, str],
    n_cols: Mapping[str, int],
    arrays: Callable[[str], tuple[F32, F32, Sequence[float]]],
    n_experts: Mapping[str, int] | None = None,
) -> None:
    """Write a statistics file, whole or not at all.

    linears: linear -> input. n_cols: input -> columns. arrays(input): packed sums of both parts
    (or, of an input in n_experts, sums of squares by expert), and their token counts; asked for one
    input at a time.
    """
    n_experts = n_experts or {}
    header: dict[str, object] = {
        "__metadata__": {
            "format": FORMAT,
            "linears": json.dumps(dict(linears)),
            "columns": json.dumps(dict(n_cols)),
            **({"experts": json.dumps(dict(n_experts))} if n_experts else {}),
        }
    }
    at = 0
    for name, width in n_cols.items():
        for part, size in _sizes(width, n_experts.get(name, 0)).items():
            header[f"{name}.{part}"] = {
                "dtype": "F32",
                "shape": [size],
                "data_offsets": [at, at + 4 * size],
            }
            at += 4 * size
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with replacing(path, 8 + len(text) + at) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in n_cols:
            first, second, counts = arrays(name)
            for array in (first, second, np.array(counts, np.float32)):
                file.write(np.ascontiguousarray(array, "<f4").data)


def packed_size(n_cols: int) -> int:
    """Floats of the packed moments of so many columns."""
    return sum(width * (width + 1) // 2 for width in column_blocks(n_cols))


def packed(blocks: Sequence[F32]) -> F32:
    """Symmetric blocks [w, w] -> their lower triangles, row by row."""
    flat: F32 = np.concatenate([block[_triangle(len(block))] for block in blocks])
    return flat


@cache
def _triangle(width: int) -> tuple[Index, Index]:
    rows, columns = np.tril_indices(width)
    return rows, columns


def unpacked(flat: F32, n_cols: int) -> list[F32]:
    """The inverse of `packed`."""
    blocks, at = [], 0
    for width in column_blocks(n_cols):
        size = width * (width + 1) // 2
        block = np.zeros((width, width), np.float32)
        rows, columns = _triangle(width)
        block[rows, columns] = block[columns, rows] = flat[at : at + size]
        blocks.append(block)
        at += size
    return blocks


def _diagonals(n_cols: int) -> Iterator[Index]:
    start = 0
    for width in column_blocks(n_cols):
        steps = np.arange(width)
        yield start + steps * (steps + 3) // 2
        start += width * (width + 1) // 2
