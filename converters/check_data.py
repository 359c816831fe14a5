"""What a GGUF file's bytes say: are the tensors laid out as the runtime wants, are they numbers.

In: a file that has been read. Out: one line per problem. Values are streamed, so a file of any
size is checked in the memory of a few chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from converters.jobs import available_threads, in_order
from converters.metadata import KV
from converters.reader import GgufFile, TensorInfo
from converters.writer import MAX_NAME

_CHUNK = 1 << 22  # about as many bytes at a time

# Where a block keeps its float16 scales, in bytes (ggml/src/ggml-common.h, struct block_*).
_SCALES: dict[Kind, tuple[int, ...]] = {
    Kind.Q4_0: (0,),
    Kind.Q4_1: (0, 2),
    Kind.Q5_0: (0,),
    Kind.Q5_1: (0, 2),
    Kind.Q8_0: (0,),
    Kind.Q8_1: (0, 2),
    Kind.Q2_K: (80, 82),
    Kind.Q3_K: (108,),
    Kind.Q4_K: (0, 2),
    Kind.Q5_K: (0, 2),
    Kind.Q6_K: (208,),
    Kind.IQ4_NL: (0,),
    Kind.IQ4_XS: (0,),
    Kind.IQ2_XXS: (0,),
    Kind.IQ2_XS: (0,),
    Kind.IQ2_S: (0,),
    Kind.IQ3_XXS: (0,),
    Kind.IQ3_S: (0,),
    Kind.IQ1_S: (0,),
    Kind.TQ1_0: (52,),
    Kind.TQ2_0: (64,),
}
# Exponent bits of each float: all ones is infinity or NaN.
_EXPONENT = {Kind.F16: ("<u2", 0x7C00), Kind.BF16: ("<u2", 0x7F80), Kind.F32: ("<u4", 0x7F800000)}


def layout_problems(file: GgufFile) -> Iterator[str]:
    """Tensors that overlap, leave gaps or have names the runtime cuts off.

    ggml/src/gguf.cpp refuses a file whose tensors do not follow each other, each padded to the
    alignment.
    """
    expected = file.data_start
    for info in file.tensors.values():
        if info.offset != expected:
            side = "overlaps the tensor before it" if info.offset < expected else "leaves a gap"
            yield f"{info.name}: at byte {info.offset}, {side} (expected {expected})"
        expected = info.offset + -(-info.n_bytes // file.alignment) * file.alignment
        if len(info.name.encode("utf-8", "surrogateescape")) > MAX_NAME:
            yield f"{info.name}: the name is longer than {MAX_NAME} bytes"


def type_problems(file: GgufFile, expected: list[KV]) -> Iterator[str]:
    """Keys whose type is not the one the runtime reads; it throws on those (llama-model-loader)."""
    found = {pair.key: pair for pair in file.pairs}
    for wanted in expected:
        pair = found.get(wanted.key)
        if pair is not None and (pair.type, pair.item) != (wanted.type, wanted.item):
            yield f"{pair.key}: {_type_name(pair)}, the runtime reads {_type_name(wanted)}"


def _type_name(pair: KV) -> str:
    return f"{pair.type.name} of {pair.item.name}" if pair.item is not None else pair.type.name


def value_problems(file: GgufFile, threads: int | None = None) -> Iterator[str]:
    """Tensors with NaN or infinity among their values, or among the scales of their blocks."""
    bad: dict[str, int] = {}
    with closing(in_order(_jobs(file), threads or available_threads())) as counts:
        for name, count in counts:
            bad[name] = bad.get(name, 0) + count
    for name in filter(bad.get, bad):
        info = file.tensors[name]
        what = "values" if info.type in _EXPONENT else "block scales"
        yield f"{name}: {bad[name]} {what} are NaN or infinite ({info.type.name})"


def _jobs(file: GgufFile) -> Iterator[tuple[str, Callable[[], int]]]:
    for info in file.tensors.values():
        if info.type in _EXPONENT or info.type in _SCALES:
            size = GGML_QUANT_SIZES[info.type][1]
            step = _CHUNK // size * size
            for start in range(0, info.n_bytes, step):
                piece = min(step, info.n_bytes - start)
                yield info.name, partial(_not_finite, file, info, start, piece)


def _not_finite(file: GgufFile, info: TensorInfo, start: int, size: int) -> int:
    """How many floats or scales in these bytes are not finite."""
    raw = info.read(file.path, start, size)
    if info.type in _EXPONENT:
        dtype, mask = _EXPONENT[info.type]
        return _count(raw.view(dtype), mask)
    blocks = raw.reshape(-1, GGML_QUANT_SIZES[info.type][1])
    scales = [np.ascontiguousarray(blocks[:, at : at + 2]).view("<u2") for at in _SCALES[info.type]]
    return _count(np.concatenate(scales), 0x7C00)


def _count(bits: npt.NDArray[np.unsignedinteger[Any]], mask: int) -> int:
    return int(np.count_nonzero((bits & mask) == mask))
