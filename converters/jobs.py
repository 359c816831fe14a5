"""Work in pieces: a tensor as jobs of about a million elements, jobs on threads, results in order.

A job is a call that reads some rows, merges and encodes them. NumPy, BLAS and the kernels release
the GIL there, so plain threads use every core without a copy of anything. Only a few jobs are ever
in flight: memory is what those hold, whatever the model's size. Results come in the order of the
jobs, so the file is written front to back and hashed on the way.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType

from converters.quants.quantize import encode
from converters.quants.search import seconds_to_compile
from converters.transforms import CHUNK_ELEMENTS, F32, Rows, n_rows, row_shape

Bytes = npt.NDArray[np.uint8]
Job = Callable[[], Bytes]
Encoder = Callable[[F32, GGMLQuantizationType, str, int], Bytes]  # the last: the first row
T = TypeVar("T")
R = TypeVar("R")

_MOST_THREADS = 16  # by then the disk is the limit, and every thread holds a chunk
_PIECE = 1 << 19  # elements merged and encoded at a time within a job: few calls, little memory
_AHEAD = 2  # jobs per thread in flight: one that runs, one that waits
_BLAS = ("scipy_openblas", "openblas")  # prefixes in numpy's own wheels and elsewhere
_BLAS_SUFFIXES = ("64_", "")


def available_threads() -> int:
    """The CPUs this process may run on, at most 16."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(usable or 1, _MOST_THREADS))


def encoded(
    rows: Rows, kind: GGMLQuantizationType, name: str, encoder: Encoder | None = None
) -> Iterator[Job]:
    """The whole tensor as jobs that make its encoded bytes, in order.

    encoder: in place of `encode`; it gets a whole chunk, because rows are the lanes of its kernel,
    and the number of its first row, because experts differ.
    """
    for start, stop in _ranges(rows, 0, n_rows(rows.shape), CHUNK_ELEMENTS):
        if encoder:
            yield partial(_encode_chunk, rows, start, stop, kind, name, encoder)
        else:
            yield partial(_encode, rows, start, stop, kind, name)


def _encode(rows: Rows, start: int, stop: int, kind: GGMLQuantizationType, name: str) -> Bytes:
    pieces = [
        encode(rows.read(low, high), kind, name) for low, high in _ranges(rows, start, stop, _PIECE)
    ]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _encode_chunk(
    rows: Rows, start: int, stop: int, kind: GGMLQuantizationType, name: str, encoder: Encoder
) -> Bytes:
    return encoder(rows.read(start, stop), kind, name, start)


def _ranges(rows: Rows, start: int, stop: int, elements: int) -> Iterator[tuple[int, int]]:
    """start..stop in ranges of about so many elements."""
    step = max(1, elements // max(1, math.prod(row_shape(rows.shape))))
    for low in range(start, stop, step):
        yield low, min(stop, low + step)


def announce_compiling(
    kinds: Iterable[GGMLQuantizationType], say: Callable[[str], None] | None, mode: str = "exact"
) -> None:
    """Load the kernels these types need; `say` so if they have to be compiled first.

    That happens once per machine, and a person who waits should know why.
    """
    seconds = seconds_to_compile(
        kinds, with_importance=mode == "imatrix", with_feedback=mode == "calibrated"
    )
    if seconds and say:
        say(f"compiling the quantizer's kernels, once per machine: about {seconds:.0f} s of CPU")


def in_order(jobs: Iterable[tuple[T, Callable[[], R]]], threads: int) -> Generator[tuple[T, R]]:
    """Run tagged jobs on `threads` threads; yields each tag with its result, in order.

    The first failing job raises here; what has not started then, or when the generator is closed
    (Ctrl-C), never runs.
    """
    pool = ThreadPoolExecutor(threads, "chunk")
    window: deque[tuple[T, Future[R]]] = deque()
    try:
        with one_blas_thread():
            for tag, job in jobs:
                window.append((tag, pool.submit(job)))
                if len(window) > _AHEAD * threads:
                    yield _taken(window)
            while window:
                yield _taken(window)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _taken(window: deque[tuple[T, Future[R]]]) -> tuple[T, R]:
    tag, future = window.popleft()
    return tag, future.result()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy's OpenBLAS on the calling thread; our own threads use the other cores.

    Its threads would fight ours for the same cores, and spin while they wait. Another BLAS
    (Accelerate, MKL) is left alone.
    """
    number, set_number = _openblas()
    before = number()
    set_number(1)
    try:
        yield
    finally:
        set_number(before)


def _openblas() -> tuple[Callable[[], int], Callable[[int], object]]:
    """OpenBLAS's own two functions, found through the NumPy module that is linked to it."""
    try:
        library = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    except (ImportError, OSError):
        return (lambda: 1), (lambda _: None)
    for prefix in _BLAS:
        for suffix in _BLAS_SUFFIXES:
            getter = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
            setter = getattr(library, f"{prefix}_set_num_threads{suffix}", None)
            if getter and setter:
                return getter, setter
    return (lambda: 1), (lambda _: None)
