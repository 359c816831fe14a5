"""Kernels that run: machine code from this machine's cache, or compiled now and kept there.

A compiled kernel is an object file. LLVM alone loads it, in milliseconds and without numba, whose
import and first call take a third of a second of CPU and 60 MB. The cache is NUMBA_CACHE_DIR if
that is set, else `$XDG_CACHE_HOME/ft2ollama/numba` or `~/.cache/ft2ollama/numba`: a package folder
is often read-only, and two users of one installation must not share it. If no folder can be
written, every process compiles.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import Any, NamedTuple

import llvmlite  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from llvmlite import binding

from converters.quants.lanes_width import CPU

_VOID, _INT = ctypes.c_void_p, ctypes.c_int64
_SCALARS = {"int": _INT, "bool": ctypes.c_int8, "float": ctypes.c_double, "float32": ctypes.c_float}
_SETTINGS = ("CPU_NAME", "CPU_FEATURES", "ENABLE_AVX", "OPT")  # those that change the code
_loading = Lock()


class _Code(NamedTuple):
    """What a file of the cache holds. takes: what describes its arguments, see `_described`."""

    takes: str
    symbol: str
    code: bytes


class Kernel:
    """A kernel by the module and the name it has there; called like the function.

    Arrays must be C-contiguous, aligned and writable, and of the types of the first call: another
    type is a TypeError. Calls release the GIL.
    """

    def __init__(self, module: str, name: str) -> None:
        self.name = name
        self._module = module
        self._takes = ""
        self._call: Callable[..., int] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it need not be compiled any more, here or ever."""
        return self._call is not None or _path(self.name).exists()

    def __call__(self, *arguments: Any) -> None:
        """Run it."""
        call = self._call or self._load(arguments)
        if _described(arguments) != self._takes:
            raise TypeError(f"{self.name} takes {self._takes}, not {_described(arguments)}")
        if call(_result, _raised, *_flat(arguments)):
            raise RuntimeError(f"{self.name} failed")

    def _load(self, arguments: Sequence[Any]) -> Callable[..., int]:
        with _loading:
            if self._call is None:
                made = _read(self.name)
                if made is None or made.takes != _described(arguments):
                    made = self._compile(arguments)
                self._takes = made.takes
                self._call = _function(made, arguments)
            return self._call

    def _compile(self, arguments: Sequence[Any]) -> _Code:
        compiler = import_module("converters.quants.kernel_compiler")
        function = getattr(import_module(f"converters.quants.{self._module}"), self.name)
        made = _Code(_described(arguments), *compiler.machine_code(function, arguments))
        _write(self.name, made)
        return made


def cache_folder() -> Path:
    """The folder for machine code; it need not exist."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ft2ollama" / "numba"


def require_compiler() -> None:
    """ImportError where kernels could not be compiled. Imports numba only if none has been yet."""
    if find_spec("numba") is None:
        raise ImportError("numba is not installed")
    if not any(_folder().glob("*.kernel")):
        import_module("numba")


def _described(arguments: Sequence[Any]) -> str:
    """The types of arguments, as text."""
    return " ".join(
        [
            f"{a.dtype.char}{a.ndim}" if type(a) is np.ndarray else type(a).__name__
            for a in arguments
        ]
    )


def _flat(arguments: Sequence[Any]) -> list[Any]:
    """Arguments as numba's native calls take them: a tuple's items, an array's own fields."""
    flat: list[Any] = []
    for a in arguments:
        if type(a) is np.ndarray:
            flat += (None, None, a.size, a.itemsize, a.ctypes.data, *a.shape, *a.strides)
        elif isinstance(a, tuple):
            flat += a
        else:
            flat.append(a)
    return flat


def _types(arguments: Sequence[Any]) -> list[Any]:
    """The C types of `_flat`."""
    types: list[Any] = []
    for a in arguments:
        if type(a) is np.ndarray:
            types += [_VOID, _VOID, _INT, _INT, _VOID, *[_INT] * (2 * a.ndim)]
        else:
            items = a if isinstance(a, tuple) else (a,)
            types += [_SCALARS[type(item).__name__] for item in items]
    return types


_result, _raised = ctypes.byref(_VOID()), ctypes.byref(_VOID())  # kernels return None: a null


def _function(made: _Code, arguments: Sequence[Any]) -> Callable[..., int]:
    engine = _engine()
    engine.add_object_file(binding.ObjectFileRef.from_data(made.code))
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, _VOID, _VOID, *_types(arguments))
    return kind(engine.get_function_address(made.symbol))


@cache
def _engine() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    triple = binding.get_process_triple() + ("-elf" if os.name == "nt" else "")  # as numba has it
    machine = binding.Target.from_triple(triple).create_target_machine()
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


@cache
def _folder() -> Path:
    """A folder of its own for everything that machine code depends on."""
    here = Path(__file__).parent
    sources = [here / "fits.py", here / "kernel_compiler.py", *sorted(here.glob("lanes*.py"))]
    parts = (
        [source.read_bytes() for source in sources],
        llvmlite.__version__,  # numba's own version goes with it
        platform.python_version(),
        sys.implementation.cache_tag,
        binding.get_host_cpu_name(),
        sorted(CPU.items()),
        [os.environ.get(f"NUMBA_{name}") for name in _SETTINGS],
    )
    return cache_folder() / hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _path(name: str) -> Path:
    return _folder() / f"{name}.kernel"


def _read(name: str) -> _Code | None:
    """A kernel from the cache; None if it is not there or not whole."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        head, code = _path(name).read_bytes().split(b"\n", 1)
        known = json.loads(head)
        if hashlib.sha256(code).hexdigest() == known["sha256"]:
            return _Code(known["takes"], known["symbol"], code)
    return None


def _write(name: str, made: _Code) -> None:
    """Keep a kernel where that is possible; another process may do the same at the same time."""
    digest = hashlib.sha256(made.code).hexdigest()
    head = json.dumps({"takes": made.takes, "symbol": made.symbol, "sha256": digest})
    with suppress(OSError):  # then the next process compiles it again
        _folder().mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=_folder(), suffix=".part", delete=False) as file:
            file.write(head.encode() + b"\n" + made.code)
        Path(file.name).replace(_path(name))
