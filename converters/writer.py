"""Writes the GGUF container: header, pairs, tensor infos, aligned data.

In: pairs, and tensors as chunks or jobs that make them while we write. Out: one file under its
final name, or nothing. Sizes follow from shapes and types alone, so every offset is known before
the first weight is read; the jobs run on threads, and their results are written front to back and
hashed on the way. The `.part` file is synced before the rename: after a crash the final name holds
a whole file or does not exist.
Layout: GGUF version 3, ggml docs/gguf.md; written little-endian.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from converters.errors import ConvertError
from converters.jobs import Job, available_threads, in_order
from converters.metadata import KV

ALIGNMENT = 32
MAGIC = b"GGUF"
VERSION = 3
MAX_NAME = 63  # GGML_MAX_NAME is 64 with its closing zero byte

Progress = Callable[[int, int], None]
Bytes = npt.NDArray[np.uint8]

SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
_NOTHING = np.zeros(0, np.uint8)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Tensor:
    """A tensor to write. shape is numpy order.

    chunks() yields its bytes in order: arrays, or jobs that make them on one of our threads.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    chunks: Callable[[], Iterable[Bytes | Job]]

    @property
    def n_bytes(self) -> int:
        """Encoded size without padding."""
        block, size = GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // block * size


def canonical_order(name: str) -> tuple[int, str]:
    """Sort key of llama-quantize's output: whole-model tensors, then by block, then by name."""
    parts = name.split(".")
    block = int(parts[1]) if parts[0] == "blk" and parts[1].isdigit() else -1
    return block, name


def write(
    out: Path,
    pairs: Sequence[KV],
    tensors: Sequence[Tensor],
    progress: Progress | None = None,
    threads: int | None = None,
) -> tuple[str, int]:
    """Write the file; returns its sha256 and size. Tensors are put in canonical order.

    progress(done, total): bytes of the file, called on this thread. threads: default all CPUs; the
    bytes do not depend on it.
    """
    ordered = sorted(tensors, key=lambda t: canonical_order(t.name))
    head = header(pairs, ordered)
    total = len(head) + sum(_padded(t.n_bytes) for t in ordered)
    with replacing(out, total) as file:
        output = _Output(file, total, progress)
        output.put_header(head)
        with closing(in_order(_jobs(ordered), threads or available_threads())) as made:
            for finished, data in made:
                output.put(np.ascontiguousarray(data).reshape(-1).data)
                if finished:
                    output.close_tensor(finished)
    return output.digest.hexdigest(), total


def _jobs(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor | None, Job]]:
    """Every tensor's jobs, and at its end one tagged with the tensor itself."""
    for tensor in tensors:
        for chunk in tensor.chunks():
            yield None, chunk if callable(chunk) else partial(_same, chunk)
        yield tensor, partial(_same, _NOTHING)


def _same(data: Bytes) -> Bytes:
    return data


@contextmanager
def replacing(out: Path, size: int) -> Iterator[BinaryIO]:
    """A file under `out`'s name plus .part that becomes `out`, whole and synced, or vanishes.

    size: bytes to come; refused before the first one if the disk has no room for them.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(out.parent).free < size:
        raise _no_room(out.parent, size)
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise _no_room(out.parent, size) from error
        raise
    _sync_folder(out.parent)


def header(pairs: Sequence[KV], tensors: Sequence[Tensor]) -> bytes:
    """Everything before the data section, padded to the alignment."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(pairs))]
    parts += [_pair(pair) for pair in pairs]
    offset = 0
    for tensor in tensors:
        parts.append(_info(tensor, offset))
        offset += _padded(tensor.n_bytes)
    head = b"".join(parts)
    return head.ljust(_padded(len(head)), b"\0")


class _Output:
    """The file, its running sha256 and how far it has got."""

    def __init__(self, file: BinaryIO, total: int, progress: Progress | None) -> None:
        self.digest = hashlib.sha256()
        self._file, self._total, self._progress = file, total, progress
        self._done = self._start = 0

    def put_header(self, head: bytes) -> None:
        """Everything before the tensors."""
        self.put(head)
        self._start = self._done

    def put(self, data: bytes | memoryview) -> None:
        """Write, hash and report the next bytes."""
        self.digest.update(data)
        self._file.write(data)
        self._done += len(data)
        if self._progress:
            self._progress(self._done, self._total)

    def close_tensor(self, tensor: Tensor) -> None:
        """Check that what came since the last call is the tensor, and pad it."""
        size = self._done - self._start
        if size != tensor.n_bytes:
            raise ConvertError(
                "a tensor came out with the wrong size",
                tensor.name,
                f"{size} bytes, {tensor.n_bytes} announced",
            )
        self.put(bytes(_padded(size) - size))
        self._start = self._done


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")  # the inverse of what the reader does
    return struct.pack("<Q", len(data)) + data


def _pair(pair: KV) -> bytes:
    try:
        return _encoded_pair(pair)
    except (struct.error, TypeError, ValueError, OverflowError) as error:
        raise ConvertError(
            "a metadata value does not fit the format", pair.key, str(error)
        ) from error


def _encoded_pair(pair: KV) -> bytes:
    start = _text(pair.key) + struct.pack("<I", pair.type)
    if pair.type == GGUFValueType.ARRAY:
        assert pair.item is not None
        assert isinstance(pair.value, Sequence)
        start += struct.pack("<IQ", pair.item, len(pair.value))
        if pair.item == GGUFValueType.STRING:
            return start + b"".join(_text(item) for item in pair.value)
        return start + struct.pack(f"<{len(pair.value)}{SCALARS[pair.item]}", *pair.value)
    if pair.type == GGUFValueType.STRING:
        return start + _text(str(pair.value))
    return start + struct.pack("<" + SCALARS[pair.type], pair.value)


def _info(tensor: Tensor, offset: int) -> bytes:
    if len(_text(tensor.name)) - 8 > MAX_NAME:
        raise ConvertError(
            "a tensor name is too long for the format", tensor.name, f"over {MAX_NAME} bytes"
        )
    dims = tensor.shape[::-1]  # GGUF lists the fastest dimension first
    return _text(tensor.name) + struct.pack(
        f"<I{len(dims)}QIQ", len(dims), *dims, tensor.type, offset
    )


def _no_room(folder: Path, needed: int) -> ConvertError:
    free = shutil.disk_usage(folder).free
    return ConvertError(
        "not enough disk space for the GGUF file",
        "",
        f"{needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free in {folder}",
        "free some space, or write to another disk",
    )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
