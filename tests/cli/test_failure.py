"""Every exception becomes what, why and fix with the right exit code."""

from __future__ import annotations

import errno

import click
import pytest

import converters
from ft2ollama.cli.failure import as_user_error
from ft2ollama.errors import ExitCode, GateError, UserError


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "code", "what"),
    [
        (GateError("no", "why", "fix"), ExitCode.GATE, "no"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "stopped by Ctrl-C"),
        (click.Abort(), ExitCode.INTERRUPTED, "stopped by Ctrl-C"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), ExitCode.MACHINE, "disk is full"),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            ExitCode.MACHINE,
            "full",
        ),
        (
            chained(ValueError("x"), OSError(errno.EDQUOT, "quota")),
            ExitCode.MACHINE,
            "disk is full",
        ),
        (MemoryError(), ExitCode.MACHINE, "out of memory"),
        (PermissionError(13, "Permission denied", "/x"), ExitCode.MACHINE, "no permission: /x"),
        (converters.DoesNotFit("it does not fit", "q_proj", "w", "f"), ExitCode.USAGE, "q_proj"),
        (converters.Unsupported("DoRA", "", "w", "f"), ExitCode.USAGE, "DoRA"),
        (converters.ConvertError("NaN in weights", "a", "w", "f"), ExitCode.FAILED, "NaN"),
        (ZeroDivisionError("division by zero"), ExitCode.FAILED, "should not have happened"),
    ],
)
def test_kinds(error: BaseException, code: ExitCode, what: str) -> None:
    told = as_user_error(error)
    assert isinstance(told, UserError)
    assert told.code == code
    assert what in told.what
    assert told.fix


def test_an_adapter_that_needs_merging_names_our_option() -> None:
    told = as_user_error(converters.NeedsMerge("DoRA", "", "why", "python -m converters model"))
    assert isinstance(told, UserError)
    assert told.fix == "ft2ollama export --as model"
    assert told.code == ExitCode.USAGE
