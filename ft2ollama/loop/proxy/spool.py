"""Where records wait while the ledger cannot be written: a file of JSON lines, each fsynced.

In: records the store could not take.  Out: the same records, written to the ledger when it is back
(by the proxy, or by its next start). A record that is written twice is one: its rid is unique.
One file for all proxies of a data folder, under a lock; a line that a crash cut off was never
acknowledged and is left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock

from ft2ollama.files import fsync_folder
from ft2ollama.loop.records import Exchange, Feedback
from ft2ollama.paths import data_dir

Item = Exchange | Feedback
_BATCH = 200
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def spool_file() -> Path:
    """The spool of this user's data folder."""
    return data_dir() / "spool.jsonl"


class Spool:
    """Records of one source, (kind, uri), that wait for the ledger."""

    def __init__(self, path: Path, source: tuple[str, str]) -> None:
        self.path = path
        self._source = source

    def append(self, items: Sequence[Item]) -> None:
        """Write and fsync. Raises OSError when that fails; then nothing of it was kept."""
        lines = "".join(f"{_line(self._source, item)}\n" for item in items).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock(), os.fdopen(os.open(self.path, _APPEND, 0o600), "ab") as file:
            size = file.tell()
            try:
                # A line that a crash cut off must not swallow the next one.
                file.write((b"\n" if size else b"") + lines)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, size)
                raise
            if not size:
                fsync_folder(self.path.parent)

    def waiting(self) -> int:
        """How many bytes wait."""
        return sum(path.stat().st_size for path in (self.path, self._taken) if path.exists())

    def beside(self, name: str) -> Spool:
        """Another file of the same form, for what the ledger will not take."""
        return Spool(self.path.with_name(f"{name}.jsonl"), self._source)

    def drain(self, write: Callable[[tuple[str, str], list[Item]], object]) -> int:
        """Give everything to `write` (source, items), then delete it; how many there were.

        An error of `write` leaves everything where it can be drained again.
        """
        if not self.waiting():
            return 0
        with self._lock(self._taken):
            # Who appends meanwhile must not wait for a slow ledger: the file is set aside.
            if not self._taken.exists() and not self._set_aside():
                return 0
            found = _read(self._taken)
            for source, run in groupby(found, key=lambda one: one[0]):
                items = [item for _, item in run]
                for start in range(0, len(items), _BATCH):
                    write(source, items[start : start + _BATCH])
            self._taken.unlink()
            return len(found)

    def _set_aside(self) -> bool:
        with self._lock():
            if not self.path.exists():  # another process was first
                return False
            self.path.replace(self._taken)
            fsync_folder(self.path.parent)
            return True

    @property
    def _taken(self) -> Path:
        """What is being written to the ledger; after a crash, what was."""
        return self.path.with_suffix(".draining")

    def _lock(self, path: Path | None = None) -> FileLock:
        return FileLock(f"{path or self.path}.lock")


def _line(source: tuple[str, str], item: Item) -> str:
    kind = "exchange" if isinstance(item, Exchange) else "feedback"
    return json.dumps({"source": source, kind: asdict(item)}, ensure_ascii=False)


def _read(path: Path) -> list[tuple[tuple[str, str], Item]]:
    items: list[tuple[tuple[str, str], Item]] = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row: dict[str, Any] = json.loads(line)
            kind, uri = row["source"]
        except (ValueError, KeyError, TypeError):
            continue
        item = Exchange(**row["exchange"]) if "exchange" in row else Feedback(**row["feedback"])
        items.append(((kind, uri), item))
    return items
