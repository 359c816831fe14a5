"""Where a line of models is worked on: its lock, the folders of its cycles, its server.

One line is one alias in Ollama. The lock is held for the whole of a retrain, also by the child
processes that train and export: a start after a kill does not meet a training that still runs.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ft2ollama.errors import MachineError
from ft2ollama.loop.ledger import Ledger
from ft2ollama.ollama_api import Ollama
from ft2ollama.paths import data_dir

Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Everything a step needs beside the cycle. lock: a file descriptor that children inherit."""

    ledger: Ledger
    server: Ollama
    lock: int
    say: Say = lambda _: None

    def folder(self, run_id: str) -> Path:
        """The files of a cycle."""
        return cycles_folder() / run_id

    def training(self, run_id: str) -> Path:
        """Its run folder, which has the cycle's id: by that the version in Ollama is called."""
        return self.folder(run_id) / run_id


def cycles_folder() -> Path:
    """The folder of all cycles."""
    return data_dir() / "cycles"


@contextmanager
def line_lock(line: str) -> Iterator[int | None]:
    """The lock of a line as a file descriptor, or None when another run has it.

    The kernel gives it back when the last process that holds it ends, by kill -9 too.
    """
    try:
        import fcntl
    except ImportError:
        raise MachineError(
            "retrain needs a Unix system", "file locks that children share", "use WSL on Windows"
        ) from None
    data_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(data_dir() / f"{slug(line)}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield handle
    finally:
        os.close(handle)


def slug(line: str) -> str:
    """A line's name as a file name; names that only differ in special characters stay apart."""
    text = re.sub(r"[^A-Za-z0-9._-]", "-", line)
    return text if text == line else f"{text}-{sha256(line.encode()).hexdigest()[:8]}"


def actor() -> str:
    """Who moves the name: the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without the user's name
        return ""
