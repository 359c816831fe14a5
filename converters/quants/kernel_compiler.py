"""Kernels: functions that numba turns into machine code which needs nothing of numba to run.

In: a function of arrays and numbers, and arguments as it will get them. Out: an object file and the
name of the function in it. Used once per machine and kernel; `kernels` keeps the result and runs
it. A kernel allocates nothing and raises nothing, so its code calls nothing outside but what every
C library has: room for its tiles comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import binding  # type: ignore[import-untyped, unused-ignore]


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with the settings that keep ggml's bytes; for kernels and for what they call.

    fastmath stays off: it changes one block in fifty. _nrt: arrays are not counted, so there is no
    runtime to call. Nothing is forced inline: that doubles the time to compile, and gains no speed
    where arguments are pointers and vectors.
    """
    njit: Any = numba.njit  # its type does not list these options
    compiled: Callable[..., Any] = njit(
        nogil=True,
        fastmath=False,
        error_model="numpy",
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        _nrt=False,
    )(function)
    return compiled


def machine_code(compiled: Any, arguments: Sequence[Any]) -> tuple[str, bytes]:
    """The name of a kernel's function in its object file, and the file."""
    signature = tuple(map(numba.typeof, arguments))
    compiled.compile(signature)
    made = compiled.overloads[signature]
    _require_alone(compiled.inspect_llvm(signature))
    _, _, (code, _) = made.library.serialize_using_object_code()
    return made.fndesc.llvm_func_name, code


def _require_alone(text: str) -> None:
    """A function that is missing ends the whole process when the code is loaded."""
    functions = binding.parse_assembly(text).functions
    missing = [f.name for f in functions if f.is_declaration and not f.name.startswith("llvm.")]
    if missing:
        raise AssertionError(f"a kernel calls {', '.join(missing)}")
