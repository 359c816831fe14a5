"""Training and export as processes of their own: what they leak of memory and CUDA ends with them.

In: words of the command line.  Out: nothing, or an error with the child's exit code. People see the
child's progress on stderr; its JSON events go to a file of the cycle.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ft2ollama.errors import (
    ExitCode,
    GateError,
    Interrupted,
    JobError,
    MachineError,
    UsageError,
    UserError,
)
from ft2ollama.loop.place import Place

_KINDS: dict[int, type[UserError]] = {
    ExitCode.USAGE: UsageError,
    ExitCode.GATE: GateError,
    ExitCode.MACHINE: MachineError,
    ExitCode.INTERRUPTED: Interrupted,
}


def run_child(place: Place, words: Sequence[str], folder: Path) -> None:
    """`ft2ollama WORDS`, whose runs are those of `folder`. Raises the error of its exit code.

    Ctrl-C reaches the child as well; it saves what it has, and only then this ends.
    """
    environment = {name: value for name, value in os.environ.items() if "_CRASH_" not in name}
    environment["FT2OLLAMA_RUNS"] = str(folder)
    command = [sys.executable, "-m", "ft2ollama", "--json", *words]
    with (folder / f"{words[0]}.events.jsonl").open("ab") as events:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=events, env=environment,
            pass_fds=(place.lock,),
        )  # fmt: skip
        try:
            code = child.wait()
        except KeyboardInterrupt:
            child.wait()
            code = ExitCode.INTERRUPTED
        except BaseException:
            child.terminate()
            child.wait()
            raise
    if code:
        raise _error(words[0], code, folder)


def _error(step: str, code: int, folder: Path) -> UserError:
    kind = _KINDS.get(code, JobError)
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if kind is Interrupted:
        return Interrupted(f"{step} was interrupted", "what was done is kept")
    return kind(
        f"{step} ended with {how}",
        "its own words are above",
        f"see {folder}, mend the cause, and run the same command again",
    )
