"""Calibration statistics: which inputs a linear layer meets, as second moments and as an imatrix.

A statistics file is one safetensors file. Per input (q, k and v share one, gate and up too) it
holds the sums of x x^T over tokens, within blocks of 256 columns, from two disjoint sets of
conversations: `calibration` decides how weights are rounded, `held_out` judges whether that helped.
A block is symmetric, so its lower triangle is kept, row by row: about 128 floats per column.

    <input>.calibration  F32 [sum of w (w + 1) / 2 over blocks of w columns]
    <input>.held_out     F32, the same
    <input>.counts       F32 [2], tokens in each
    __metadata__: format = "ft2ollama.moments.1", linears = JSON {linear: input},
                  columns = JSON {input: n_cols}

Names are Hugging Face module names. An imatrix is llama.cpp's own form (tools/imatrix): only the
diagonal, under GGUF tensor names; both directions are here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType as Kind

from converters import metadata
from converters.errors import ConvertError
from converters.names import gguf_name, name_map
from converters.quants.feedback import column_blocks
from converters.reader import GgufFile, read_gguf
from converters.safetensors_file import StoredRows, open_file, read_metadata
from converters.transforms import F32, Index
from converters.writer import Tensor, replacing, write

Bytes = npt.NDArray[np.uint8]

FORMAT = "ft2ollama.moments.1"
PARTS = ("calibration", "held_out")
_OTHER_COLUMNS = ("ssm_out.weight",)  # qwen3.5: value heads are reordered on conversion


class Importance(Protocol):
    """What is known of the inputs of a model's linear layers, by GGUF tensor name."""

    @property
    def is_judged(self) -> bool:
        """Whether there are second moments, and those of held-out inputs too."""

    def knows(self, tensor: str) -> bool:
        """Whether the inputs of this tensor are known, as one set for all its rows."""

    def columns(self, tensor: str) -> int:
        """The number of its input columns."""

    def input_of(self, tensor: str) -> str:
        """A name that tensors with the same input share."""

    def diagonal(self, tensor: str) -> F32:
        """Mean square of each input column: [n_cols]."""

    def moments(self, tensor: str, part: str) -> list[F32]:
        """Mean of x x^T per block of columns: [w, w] each."""


@dataclass(frozen=True)
class Statistics:
    """An opened statistics file. linears: linear -> input; read lazily, an input at a time."""

    path: Path
    linears: dict[str, str]
    stored: dict[str, StoredRows]
    n_cols: dict[str, int]

    def counts(self, name: str) -> tuple[float, float]:
        """Tokens behind an input: calibration, held out."""
        first, second = self.stored[f"{name}.counts"].all()
        return float(first), float(second)

    def moments(self, name: str, part: str) -> list[F32]:
        """Mean of x x^T of an input per block of columns: [w, w] each."""
        flat = self.stored[f"{name}.{part}"].all()
        flat /= np.float32(max(1.0, self.counts(name)[PARTS.index(part)]))
        return unpacked(flat, self.n_cols[name])

    def diagonal(self, name: str) -> F32:
        """Mean square of each column of an input: [n_cols]."""
        flat = self.stored[f"{name}.calibration"].all()
        places = np.concatenate(list(_diagonals(self.n_cols[name])))
        squares: F32 = flat[places] / np.float32(max(1.0, self.counts(name)[0]))
        return squares


@dataclass(frozen=True)
class ByTensor:
    """Statistics under the names of one architecture's GGUF tensors."""

    statistics: Statistics
    inputs: dict[str, str]

    @property
    def is_judged(self) -> bool:
        """See Importance; so for the next five."""
        names = set(self.inputs.values())
        return bool(names) and all(min(self.statistics.counts(name)) > 0 for name in names)

    def knows(self, tensor: str) -> bool:  # noqa: D102
        return tensor in self.inputs

    def columns(self, tensor: str) -> int:  # noqa: D102
        return self.statistics.n_cols[self.inputs[tensor]]

    def input_of(self, tensor: str) -> str:  # noqa: D102
        return self.inputs[tensor]

    def diagonal(self, tensor: str) -> F32:  # noqa: D102
        return self.statistics.diagonal(self.inputs[tensor])

    def moments(self, tensor: str, part: str) -> list[F32]:  # noqa: D102
        return self.statistics.moments(self.inputs[tensor], part)


@dataclass(frozen=True)
class Imatrix:
    """llama.cpp's importance matrix: GGUF tensor name -> mean squares, [n_mat, n_cols]."""

    squares: dict[str, F32]

    is_judged = False

    def knows(self, tensor: str) -> bool:
        """See Importance; so for the next four."""
        return tensor in self.squares and len(self.squares[tensor]) == 1

    def columns(self, tensor: str) -> int:  # noqa: D102
        return int(self.squares[tensor].shape[1])

    def input_of(self, tensor: str) -> str:  # noqa: D102
        return tensor

    def diagonal(self, tensor: str) -> F32:  # noqa: D102
        row: F32 = self.squares[tensor][0]
        return row

    def moments(self, tensor: str, part: str) -> list[F32]:  # noqa: D102
        raise ConvertError("an imatrix has no second moments", tensor, part)


def open_importance(path: Path, architecture: str, n_blocks: int) -> Importance:
    """A statistics file or an imatrix GGUF, by its first bytes, under GGUF tensor names."""
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise ConvertError(
            "the calibration file cannot be read", "", f"{path.name}: {error.strerror}"
        ) from error
    if is_gguf:
        return read_imatrix(path)
    return by_tensor(read_statistics(path), architecture, n_blocks)


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
        for name in set(linears.values()):
            _require_sizes(stored, name, n_cols[name])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConvertError(
            f"{path.name} holds no calibration statistics",
            "",
            str(error),
            "collect them again: ft2ollama export --calibrate DATA",
        ) from error
    return Statistics(path, linears, stored, n_cols)


def _require_sizes(stored: Mapping[str, StoredRows], name: str, n_cols: int) -> None:
    expected = {part: packed_size(n_cols) for part in PARTS} | {"counts": 2}
    for part, size in expected.items():
        rows = stored[f"{name}.{part}"]
        if rows.shape != (size,) or rows.dtype != "F32":
            raise ValueError(f"{name}.{part} is {rows.dtype} {list(rows.shape)}, not F32 [{size}]")


def write_statistics(
    path: Path,
    linears: Mapping[str, str],
    n_cols: Mapping[str, int],
    arrays: Callable[[str], tuple[F32, F32, tuple[float, float]]],
) -> None:
    """Write a statistics file, whole or not at all.

    linears: linear -> input. n_cols: input -> columns. arrays(input): packed sums of both parts,
    and their token counts; asked for one input at a time.
    """
    header: dict[str, object] = {
        "__metadata__": {
            "format": FORMAT,
            "linears": json.dumps(dict(linears)),
            "columns": json.dumps(dict(n_cols)),
        }
    }
    at = 0
    for name, width in n_cols.items():
        for part, size in (*((part, packed_size(width)) for part in PARTS), ("counts", 2)):
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


def read_imatrix(path: Path) -> Imatrix:
    """An imatrix GGUF as llama-imatrix writes it; where a count is 0 the importance is 1.

    Source: llama.cpp common/imatrix-loader.cpp and tools/quantize/quantize.cpp, load_imatrix.
    """
    file = read_gguf(path)
    if file.values.get("general.type") != "imatrix":
        raise ConvertError(
            f"{path.name} is not an importance matrix",
            "",
            f"general.type is {file.values.get('general.type')!r}",
            "llama-imatrix -m model.gguf -f text.txt -o imatrix.gguf",
        )
    sums = [name.removesuffix(".in_sum2") for name in file.tensors if name.endswith(".in_sum2")]
    return Imatrix({name: _mean_squares(file, name) for name in sums})


def _mean_squares(file: GgufFile, name: str) -> F32:
    if f"{name}.counts" not in file.tensors:
        raise ConvertError(f"{file.path.name} has sums without counts", name)
    sums = file.dequantize(f"{name}.in_sum2")
    sums = sums.reshape(-1, sums.shape[-1])
    counts = np.rint(file.dequantize(f"{name}.counts")).reshape(-1, 1)
    if len(counts) != len(sums) and len(counts) != 1:
        raise ConvertError(
            f"{file.path.name} is damaged",
            name,
            f"{len(counts)} counts for {len(sums)} rows of sums",
        )
    means: F32 = np.where(counts > 0, sums / np.maximum(counts, np.float32(1)), np.float32(1))
    if not (np.isfinite(means).all() and (means >= 0).all()):
        raise ConvertError("the importance is not usable", name, "a sum is negative or not finite")
    return means


def write_imatrix(path: Path, importance: ByTensor) -> None:
    """The diagonals as an imatrix GGUF that llama-quantize --imatrix takes; no path, no text in it.

    Counts are tokens, one chunk stands for all of them. Tensors and keys: llama.cpp
    tools/imatrix/imatrix.cpp, save_imatrix.
    """
    pairs = [
        metadata.string("general.type", "imatrix"),
        metadata.strings("imatrix.datasets", ["calibration"]),
        metadata.u32("imatrix.chunk_count", 1),
        metadata.u32("imatrix.chunk_size", _tokens(importance)),
    ]
    tensors = []
    for tensor, name in importance.inputs.items():
        n_cols = importance.statistics.n_cols[name]
        sums = partial(_sums_of_squares, importance.statistics, name)
        count = partial(_token_count, importance.statistics, name)
        tensors += [
            Tensor(f"{tensor}.in_sum2", (1, n_cols), Kind.F32, sums),
            Tensor(f"{tensor}.counts", (1, 1), Kind.F32, count),
        ]
    write(path, pairs, tensors)


def _tokens(importance: ByTensor) -> int:
    counts = [importance.statistics.counts(name)[0] for name in importance.inputs.values()]
    return round(max(counts, default=0))


def _sums_of_squares(statistics: Statistics, name: str) -> Iterator[Bytes]:
    count = np.float32(max(1.0, statistics.counts(name)[0]))
    yield (statistics.diagonal(name) * count).view(np.uint8)


def _token_count(statistics: Statistics, name: str) -> Iterator[Bytes]:
    yield np.array([statistics.counts(name)[0]], np.float32).view(np.uint8)
