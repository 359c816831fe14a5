"""Every failure a user can cause or mend, with its exit code.

An error has three parts, printed as three lines: what went wrong, why (with the values), and
`fix:` something to paste. It is raised where the fact is known and caught once, in `cli/output.py`.

    UserError
    ├── UsageError      2  wrong option, wrong argument
    │   ├── ConfigError 2  wrong config file or key=value
    │   └── DataError   2  wrong training data
    ├── JobError        1  the job itself failed
    ├── GateError       3  a check said no; nothing was published
    ├── MachineError    4  the machine lacks something: Ollama, disk, memory, network
    └── Interrupted   130  Ctrl-C; what was saved and how to go on
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; the README's table is checked against this."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    GATE = 3
    MACHINE = 4
    INTERRUPTED = 130


class UserError(Exception):
    """What is wrong, why (with the values), and the fix to type."""

    code = ExitCode.FAILED

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines += [f"  {line}" for line in self.why.splitlines()]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(UserError):
    """A wrong option, argument or combination of them."""

    code = ExitCode.USAGE


class ConfigError(UsageError):
    """The config file or a key=value override is wrong; lists every problem at once."""


class DataError(UsageError):
    """The training data is wrong; names file and line or row."""


class JobError(UserError):
    """The work itself failed."""

    code = ExitCode.FAILED


class GateError(UserError):
    """A proof or check failed, so nothing was published."""

    code = ExitCode.GATE


class MachineError(UserError):
    """The machine lacks something: an Ollama server, disk space, memory, a network."""

    code = ExitCode.MACHINE


class Interrupted(UserError):
    """The user pressed Ctrl-C; `fix` is the command that resumes."""

    code = ExitCode.INTERRUPTED
