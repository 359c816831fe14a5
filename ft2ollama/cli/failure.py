"""The one place where errors become three lines and an exit code."""

from __future__ import annotations

import sys
import traceback

import click

from ft2ollama.errors import ExitCode, Interrupted, JobError, MachineError, UsageError, UserError
from ft2ollama.files import full_disk


def run_and_exit_code(cli: click.Command, args: list[str] | None) -> int:
    """Run `cli`; print what went wrong, if anything did."""
    from ft2ollama.cli.output import current

    try:
        return _run(cli, args)
    except BaseException as error:  # noqa: BLE001 - everything ends here, as three lines
        told = as_user_error(error)
        if _shall_tell(told):
            current().failure(told, traceback.format_exc())
        return int(told.code)
    finally:
        current().close()


def _shall_tell(error: UserError) -> bool:
    """Of several processes that train together the first one to fail tells why."""
    from ft2ollama.train.distributed import EndedElsewhere, team

    return not isinstance(error, EndedElsewhere) and team().is_first_to_fail(int(error.code))


def _run(cli: click.Command, args: list[str] | None) -> int:
    try:
        result = cli.main(args, prog_name="ft2ollama", standalone_mode=False)
        return result if isinstance(result, int) else int(ExitCode.DONE)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)
    except BrokenPipeError:  # `ft2ollama runs | head`
        sys.stderr.close()
        return int(ExitCode.DONE)


def as_user_error(error: BaseException) -> UserError:
    """Any exception as what, why and fix."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return Interrupted("stopped by Ctrl-C", "", "run the same command again")
    if full := full_disk(error):
        return MachineError("the disk is full", full, "free some space and run the command again")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch
        return MachineError(
            "out of memory",
            str(error),
            "per_device_train_batch_size=1 cutoff_len=512, or a smaller model",
        )
    converted = _convert_error(error)
    if converted is not None:
        return converted
    if isinstance(error, PermissionError):
        return MachineError(
            f"no permission: {error.filename}",
            str(error.strerror),
            "choose a folder you may write to",
        )
    why = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return JobError(
        "this should not have happened", why, "run again with -vv and report the traceback"
    )


def _convert_error(error: BaseException) -> UserError | None:
    if type(error).__module__ != "converters.errors":
        return None
    import converters

    if not isinstance(error, converters.ConvertError):
        return None
    what = error.what + (f" ({error.tensor})" if error.tensor else "")
    usage = isinstance(error, (converters.Unsupported, converters.DoesNotFit))
    kind: type[UserError] = UsageError if usage else JobError
    if isinstance(error.__cause__, OSError) or "disk" in error.what.lower():
        kind = MachineError
    merge = isinstance(error, converters.NeedsMerge)
    return kind(what, error.why, "ft2ollama export --as model" if merge else error.fix)
