"""Safetensors folders as float32 `Rows`, without torch and without the safetensors package.

In: a folder with `model.safetensors` or shards and their index, or one file. Out: names, shapes and
row readers. Rows are read with positioned reads and not through mmap, so that the resident memory
of an export is one chunk and not the whole checkpoint.
Format: 8-byte little-endian header length, JSON header, data (safetensors README, "Format").
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.errors import ConvertError, Unsupported
from converters.transforms import F32, n_rows, row_shape

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_ITEM_SIZE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MAX_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class StoredRows:
    """One tensor of a safetensors file. `offset` is absolute; `dtype` is the format's name."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def read(self, start: int, stop: int) -> F32:
        """Rows start..stop as float32; a row is one vector along the last axis."""
        row = row_shape(self.shape)
        raw = self._raw(start * math.prod(row), (stop - start) * math.prod(row))
        return _to_float32(raw, self.dtype).reshape(-1, *row)

    def all(self) -> F32:
        """The whole tensor as float32; for small tensors (adapters, norms)."""
        return self.read(0, n_rows(self.shape)).reshape(self.shape or (1,))

    def _raw(self, first: int, count: int) -> npt.NDArray[np.uint8]:
        size = _item_size(self)
        raw = np.empty(count * size, np.uint8)
        if not read_into(self.path, self.offset + first * size, raw):
            raise ConvertError(
                f"{self.path.name} ends inside a tensor", self.name, "the file shrank while read"
            )
        return raw


def read_into(path: Path, offset: int, out: npt.NDArray[np.uint8]) -> bool:
    """Fill `out` from the file; False if the file ends before. Releases the GIL while it reads.

    Read and not mapped: mapped pages count as this process's memory for as long as the system
    likes, read ones only as cache.
    """
    view = out.data
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while view:
            count = file.readinto(view)
            if not count:
                return False
            view = view[count:]
    return True


def _item_size(rows: StoredRows) -> int:
    if rows.dtype not in _ITEM_SIZE:
        raise Unsupported(
            f"weights of type {rows.dtype} cannot be converted",
            rows.name,
            "a checkpoint saved in a quantized form has lost the weights a merge needs",
            "start from the float checkpoint (bfloat16, float16 or float32)",
        )
    return _ITEM_SIZE[rows.dtype]


def _to_float32(raw: npt.NDArray[np.uint8], dtype: str) -> F32:
    if dtype == "BF16":  # the upper half of a float32
        wide = raw.view("<u2").astype(np.uint32)
        return np.left_shift(wide, np.uint32(16), out=wide).view(np.float32)
    kind = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]
    return raw.view(kind).astype(np.float32, copy=False)


def open_file(path: Path) -> dict[str, StoredRows]:
    """Header of one file: name -> rows. Reads no weights; every range is checked here."""
    header, data_start = _header(path)
    size = path.stat().st_size
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name] = _stored(path, name, entry, data_start, size)
    _require_apart(path, tensors.values())
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The texts in `__metadata__` of one file's header; empty if there are none."""
    found = _header(path)[0].get("__metadata__", {})
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _require_apart(path: Path, tensors: Iterable[StoredRows]) -> None:
    """Two tensors that share bytes are a damaged or hostile header (safetensors refuses it too)."""
    end = 0
    for rows in sorted(tensors, key=lambda rows: rows.offset):
        size = _ITEM_SIZE.get(rows.dtype, 0) * math.prod(rows.shape)
        if size and rows.offset < end:
            raise ConvertError(f"{path.name} is damaged: tensors overlap", rows.name)
        end = max(end, rows.offset + size)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER, os.fstat(file.fileno()).st_size):
                raise ValueError(f"header length {length}")
            header = json.loads(file.read(length), object_pairs_hook=_once)
        if not isinstance(header, dict):
            raise ValueError("the header is not an object")
    except FileNotFoundError as error:
        raise ConvertError(f"{path.name} is missing", "", f"looked in {path.parent}") from error
    except OSError as error:
        raise ConvertError(f"{path.name or path} cannot be read", "", str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ConvertError(
            f"{path.name} is not a safetensors file", "", str(error), "save or download it again"
        ) from error
    return header, 8 + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _stored(
    path: Path, name: str, entry: Mapping[str, Any], data_start: int, size: int
) -> StoredRows:
    try:
        dtype, shape = str(entry["dtype"]), tuple(map(index, entry["shape"]))
        begin, end = map(index, entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConvertError(f"{path.name} has a broken header entry", name, repr(error)) from error
    item = _ITEM_SIZE.get(dtype)
    fits = 0 <= begin <= end <= size - data_start and all(n >= 0 for n in shape)
    if not fits or (item is not None and end - begin != item * math.prod(shape)):
        raise ConvertError(
            f"{path.name} is truncated or damaged",
            name,
            f"bytes {begin}..{end} of {size - data_start} for {dtype} {list(shape)}",
            "save or download it again",
        )
    return StoredRows(path, name, dtype, shape, data_start + begin)


def has_weights(folder: Path) -> bool:
    """Whether the folder holds safetensors weights (and not only a config)."""
    return (folder / INDEX).is_file() or (folder / SINGLE).is_file()


def open_folder(folder: Path) -> dict[str, StoredRows]:
    """All tensors of a model folder: name -> rows. Every shard's header is read and checked."""
    if (folder / INDEX).is_file():
        return dict(_shards(folder))
    if (folder / SINGLE).is_file():
        return open_file(folder / SINGLE)
    pickles = sorted(p.name for p in folder.glob("*.bin"))
    raise ConvertError(
        "the base folder has no safetensors weights",
        "",
        f"found only {', '.join(pickles)}, which is pickle" if pickles else f"looked in {folder}",
        "model.save_pretrained(folder) with a current transformers writes model.safetensors",
    )


def _shards(folder: Path) -> Iterator[tuple[str, StoredRows]]:
    try:
        weight_map = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        by_file: dict[str, list[str]] = {}
        for name, file in weight_map.items():
            by_file.setdefault(file, []).append(name)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConvertError(f"{INDEX} is damaged", "", repr(error)) from error
    for file, names in sorted(by_file.items()):
        if Path(file).name != file:
            raise ConvertError(f"{INDEX} points outside its folder", "", file)
        tensors = open_file(folder / file)
        for name in names:
            if name not in tensors:
                raise ConvertError(f"{file} lacks a tensor that {INDEX} lists", name)
            yield name, tensors[name]
