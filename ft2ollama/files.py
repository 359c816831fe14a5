"""Files that are whole or absent: atomic writes, and hashes that are computed once.

Every file the tool writes goes to a temporary file in the same folder, is fsynced and renamed, so a
crash leaves either the old file or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ft2ollama.paths import cache_dir

Progress = Callable[[int, int], None]

_CHUNK = 1 << 22
_REMEMBER_FROM = 1 << 26  # smaller files hash in under 50 ms


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(path)
        fsync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with LF line ends, atomically."""
    with replacing(path) as part:
        part.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically; Chinese text stays readable."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file that `write_jsonl` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def sha256_text(text: str) -> str:
    """Hash of the UTF-8 bytes, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path, progress: Progress | None = None) -> str:
    """Hash of the file's bytes; large files are remembered by path, size and time of change."""
    size = path.stat().st_size
    if size < _REMEMBER_FROM:
        return _hash(path, size, progress)
    if (known := remembered_sha256(path)) is not None:
        return known
    digest = _hash(path, size, progress)
    write_text(_note_of(path), digest)
    return digest


def remembered_sha256(path: Path) -> str | None:
    """The hash of a large file if it was computed before; None means it would take time."""
    note = _note_of(path)
    known = note.read_text() if note.is_file() else ""
    return known if len(known) == 64 else None


def remember_sha256(path: Path, digest: str) -> None:
    """Keep the hash of a file that was hashed while it was written."""
    if path.stat().st_size >= _REMEMBER_FROM:
        write_text(_note_of(path), digest)


def _note_of(path: Path) -> Path:
    stat = path.stat()
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    return cache_dir() / "hashes" / sha256_text(key)


def sha256_folder(folder: Path, pattern: str = "*") -> str:
    """Hash over the names and contents of the files in `folder` (not below it)."""
    lines = [
        f"{path.name} {sha256_file(path)}"
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    ]
    return sha256_text("\n".join(lines))


def _hash(path: Path, size: int, progress: Progress | None) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done, size)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def full_disk(error: BaseException | None) -> str:
    """What the error, or one that led to it, says of a full disk; "" when none does.

    safetensors and torch raise their own types, with the system's words in the message.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{error.filename or 'the disk'}: {error.strerror}"
        text = str(error)
        if "No space left on device" in text or "PytorchStreamWriter failed writing" in text:
            return text.strip().splitlines()[0]
        error = error.__cause__ or error.__context__
    return ""


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
