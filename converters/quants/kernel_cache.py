"""Where compiled kernels are kept, and whether they still have to be compiled.

numba keeps machine code beside the source if it may write there, and that is wrong for us twice: a
package folder is often read-only, and two users of one installation must not share it. So the code
goes to NUMBA_CACHE_DIR if that is set, else to `$XDG_CACHE_HOME/ft2ollama/numba` or
`~/.cache/ft2ollama/numba`. If no folder can be written, every process compiles.
An empty file per kernel tells a caller in time that the first export takes some seconds longer.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding  # type: ignore[import-untyped, unused-ignore]


def cache_folder() -> Path:
    """The folder for machine code; it need not exist."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ft2ollama" / "numba"


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with the settings that keep ggml's bytes, and keep the result on disk.

    fastmath stays off: it changes one block in fifty. nogil lets a thread pool run rows in
    parallel; parallel=True is slower per CPU second and quarrels with torch's OpenMP.
    """
    folder = _folder()
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)  # read once, when the decorator runs
    try:
        compiled: Callable[..., Any] = numba.njit(
            nogil=True, cache=_writable(folder), fastmath=False, error_model="numpy"
        )(function)
    finally:
        config.CACHE_DIR = before
    return compiled


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `kernel` does, for use inside kernels only: it is kept within theirs.

    Not in a file of its own, which would double the time to compile; and not forced inline, which
    would too and gains no speed where arguments are pointers and vectors.
    """
    njit: Any = numba.njit  # its type does not list the last option
    compiled: Callable[..., Any] = njit(
        nogil=True, fastmath=False, error_model="numpy", no_cpython_wrapper=True
    )(function)
    return compiled


def is_compiled(name: str) -> bool:
    """Whether machine code of this kernel is in the cache already."""
    return (_folder() / f"{name}.compiled").exists()


def mark_compiled(name: str) -> None:
    """Remember that a kernel has been compiled."""
    if _writable(_folder()):
        (_folder() / f"{name}.compiled").touch()


@cache
def _folder() -> Path:
    """A folder of its own for everything that machine code depends on.

    numba checks a kernel's own source file only, and kernels call helpers in other files.
    """
    sources = [Path(__file__), *sorted(Path(__file__).parent.glob("lanes*.py"))]
    parts = (
        [source.read_bytes() for source in sources],
        str(sources[0]),
        numba.__version__,
        platform.python_version(),
        sys.implementation.cache_tag,
        binding.get_host_cpu_name(),
        os.environ.get("NUMBA_CPU_NAME", ""),
    )
    return cache_folder() / hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
