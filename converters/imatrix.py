"""An importance matrix in llama.cpp's own form: mean squares of each tensor's inputs, GGUF names.

In: an imatrix GGUF, as llama-imatrix writes it, or our statistics. Out: what the quantizer asks
(`importance.Importance`), or an imatrix GGUF that llama-quantize takes. Experts have a row each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType as Kind

from converters import metadata
from converters.errors import ConvertError
from converters.importance import (
    PARTS,
    ByTensor,
    Importance,
    Statistics,
    by_tensor,
    mean_squares,
    read_statistics,
)
from converters.reader import GgufFile, read_gguf
from converters.transforms import F32
from converters.writer import Tensor, write

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Imatrix:
    """llama.cpp's importance matrix: GGUF tensor name -> mean squares, [n_mat, n_cols]."""

    squares: dict[str, F32]

    is_judged = False

    def knows(self, tensor: str) -> bool:
        """See Importance; so for the next six."""
        return tensor in self.squares

    def experts(self, tensor: str) -> int:  # noqa: D102
        n_sets = len(self.squares[tensor])
        return n_sets if n_sets > 1 else 0

    def columns(self, tensor: str) -> int:  # noqa: D102
        return int(self.squares[tensor].shape[1])

    def input_of(self, tensor: str) -> str:  # noqa: D102
        return tensor

    def diagonal(self, tensor: str) -> F32:  # noqa: D102
        squares = self.squares[tensor]
        return squares if len(squares) > 1 else squares[0]

    def held_out_squares(self, tensor: str) -> F32:  # noqa: D102
        raise ConvertError("an imatrix has no held-out inputs", tensor)

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
    means = mean_squares(sums, counts)
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
        n_sets = max(1, importance.experts(tensor))
        sums = partial(_sums_of_squares, importance.statistics, name)
        count = partial(_token_count, importance.statistics, name)
        tensors += [
            Tensor(f"{tensor}.in_sum2", (n_sets, n_cols), Kind.F32, sums),
            Tensor(f"{tensor}.counts", (n_sets, 1), Kind.F32, count),
        ]
    write(path, pairs, tensors)


def _tokens(importance: ByTensor) -> int:
    counts = [importance.statistics.counts(name)[0] for name in importance.inputs.values()]
    return round(max(counts, default=0))


def _sums_of_squares(statistics: Statistics, name: str) -> Iterator[Bytes]:
    if name in statistics.n_experts:
        yield statistics.expert_sums(name, PARTS[0]).reshape(-1).view(np.uint8)
        return
    count = np.float32(max(1.0, statistics.counts(name)[0]))
    yield (statistics.diagonal(name) * count).view(np.uint8)


def _token_count(statistics: Statistics, name: str) -> Iterator[Bytes]:
    if name in statistics.n_experts:
        yield statistics.expert_counts(name).view(np.uint8)
        return
    yield np.array([statistics.counts(name)[0]], np.float32).view(np.uint8)
