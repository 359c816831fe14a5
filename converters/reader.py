"""Reads a GGUF file: pairs, tensor infos, and tensors as lazily mapped bytes.

Out: `GgufFile`. Every length is checked against the file's size before it is used, because these
files also come from other people. Layout: ggml docs/gguf.md; versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from converters.errors import ConvertError
from converters.metadata import KV
from converters.quants.layout import decode
from converters.quants.types import FILE_TYPES
from converters.safetensors_file import read_into
from converters.transforms import F32, n_rows, row_shape
from converters.writer import ALIGNMENT, MAGIC, SCALARS

Bytes = npt.NDArray[np.uint8]
_MOST = 1 << 22  # items of an array; the largest vocabularies have a quarter of a million tokens


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies. shape is numpy order; offset is absolute."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int

    @property
    def n_bytes(self) -> int:
        """Encoded size."""
        block, size = GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // block * size

    def read(self, path: Path, start: int, size: int) -> Bytes:
        """`size` of its encoded bytes from byte `start` on."""
        raw = np.empty(size, np.uint8)
        if not read_into(path, self.offset + start, raw):
            raise ConvertError(
                f"{path.name} ends inside a tensor", self.name, "the file shrank while read"
            )
        return raw


@dataclass(frozen=True)
class StoredRows:
    """A tensor of a GGUF file as float32 row ranges. Positioned reads keep memory at one chunk."""

    path: Path
    info: TensorInfo

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.info.shape

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop, dequantized."""
        if len(self.shape) == 1 and GGML_QUANT_SIZES[self.info.type][0] > 1:
            whole = decode(self.info.read(self.path, 0, self.info.n_bytes), self.info.type)
            return whole[start:stop]  # here a row is an element, and blocks hold many
        per_row = self.info.n_bytes // max(1, n_rows(self.shape))
        raw = self.info.read(self.path, start * per_row, (stop - start) * per_row)
        return decode(raw, self.info.type).reshape(stop - start, *row_shape(self.shape))


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file that has been read up to its data section."""

    path: Path
    version: int
    pairs: tuple[KV, ...]
    tensors: dict[str, TensorInfo]
    data_start: int
    alignment: int

    @cached_property
    def values(self) -> dict[str, object]:
        """Key -> value."""
        return {pair.key: pair.value for pair in self.pairs}

    @property
    def file_type(self) -> str:
        """Name of general.file_type, such as Q4_K_M; "" when it is unset or none of ours."""
        number = self.values.get("general.file_type")
        return next((one.name for one in FILE_TYPES.values() if one.id == number), "")

    @cached_property
    def _data(self) -> Bytes:
        return np.memmap(self.path, np.uint8, "r")

    def raw(self, name: str) -> Bytes:
        """The encoded bytes of a tensor, mapped and read-only: flat uint8."""
        info = self._info(name)
        return self._data[info.offset : info.offset + info.n_bytes]

    def dequantize(self, name: str) -> F32:
        """The whole tensor as float32, in its shape."""
        info = self._info(name)
        return np.array(decode(self.raw(name), info.type), np.float32).reshape(info.shape)

    def rows(self, name: str) -> StoredRows:
        """The tensor as row ranges."""
        return StoredRows(self.path, self._info(name))

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise ConvertError(f"{self.path.name} has no such tensor", name)
        return self.tensors[name]


class _Cursor:
    """Reads little-endian values from the start of the file, never past its end."""

    def __init__(self, path: Path) -> None:
        self.data = np.memmap(path, np.uint8, "r").data
        self.at = 0

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"the header runs past the end of the file at byte {self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def text(self) -> str:
        # bytes that are no UTF-8 come back as they were when the writer encodes the text again
        return str(self.take(self.u64()), "utf-8", "surrogateescape")

    def value(self, kind: GGUFValueType) -> object:
        if kind == GGUFValueType.STRING:
            return self.text()
        code = "<" + SCALARS[kind]
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def array(self, item: GGUFValueType, count: int) -> list[object]:
        if count > _MOST:
            raise ValueError(f"an array of {count} items at byte {self.at}")
        if item == GGUFValueType.STRING:
            return [self.text() for _ in range(count)]
        code = f"<{count}{SCALARS[item]}"
        return list(struct.unpack(code, self.take(struct.calcsize(code))))


def read_gguf(path: Path) -> GgufFile:
    """Read header, pairs and tensor infos; ConvertError if the file is not sound GGUF."""
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise ConvertError(f"{path.name} is missing", "", f"looked in {path.parent}") from error
    except (ValueError, KeyError, struct.error, OverflowError) as error:
        raise ConvertError(
            f"{path.name} is not a readable GGUF file", "", str(error), "make or download it again"
        ) from error


def _read(path: Path) -> GgufFile:
    if path.stat().st_size < 24:
        raise ValueError("shorter than a GGUF header")
    cursor = _Cursor(path)
    if bytes(cursor.take(4)) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = cursor.u32()
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version}; versions 2 and 3 are read")
    n_tensors, n_pairs = cursor.u64(), cursor.u64()
    pairs = tuple(_read_pair(cursor) for _ in range(n_pairs))
    twice = [key for key, count in Counter(pair.key for pair in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is there twice")
    alignment = next((p.value for p in pairs if p.key == "general.alignment"), ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"general.alignment is {alignment!r}")
    infos = [_read_info(cursor) for _ in range(n_tensors)]
    start = -(-cursor.at // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for info in infos:
        placed = TensorInfo(info.name, info.shape, info.type, start + info.offset)
        _check_place(placed, info.offset, alignment, len(cursor.data))
        if tensors.setdefault(info.name, placed) is not placed:
            raise ValueError(f"{info.name} is there twice")
    return GgufFile(path, version, pairs, tensors, start, alignment)


def _read_pair(cursor: _Cursor) -> KV:
    key, kind = cursor.text(), GGUFValueType(cursor.u32())
    if kind != GGUFValueType.ARRAY:
        return KV(key, kind, cursor.value(kind))
    item = GGUFValueType(cursor.u32())
    return KV(key, kind, cursor.array(item, cursor.u64()), item)


def _read_info(cursor: _Cursor) -> TensorInfo:
    name, n_dims = cursor.text(), cursor.u32()
    if not 1 <= n_dims <= 4:
        raise ValueError(f"{name} has {n_dims} dimensions")
    dims = [cursor.u64() for _ in range(n_dims)]
    if 0 in dims:
        raise ValueError(f"{name} has a dimension of 0")
    kind = GGMLQuantizationType(cursor.u32())
    return TensorInfo(name, tuple(reversed(dims)), kind, cursor.u64())


def _check_place(info: TensorInfo, offset: int, alignment: int, size: int) -> None:
    block, _ = GGML_QUANT_SIZES[info.type]
    if info.shape[-1] % block:
        raise ValueError(f"{info.name}: rows of {info.shape[-1]} are no multiple of {block}")
    if offset % alignment:
        raise ValueError(f"{info.name}: offset {offset} is not aligned to {alignment}")
    if info.offset + info.n_bytes > size:
        raise ValueError(f"{info.name}: ends at byte {info.offset + info.n_bytes} of {size}")
