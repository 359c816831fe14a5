"""Rendered samples kept on disk by the content of everything they depend on.

In: a key and what was rendered.  Out: the same, read back in well under a second.

The key is the hash of the rows, the template, the tokenizer's file and the rules, so that nothing
stale can be read: another row, rule or template is another file. One file a key, whole or absent
(files.replacing), in the user's cache folder; the oldest go when all together pass the bound.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.problems import Problem
from ft2ollama.data.samples import IGNORED, Rendered, Sample
from ft2ollama.files import replacing
from ft2ollama.paths import cache_dir

_LAYOUT = 3  # raise it when rendering or the file changes: older entries are then never read
_BOUND = 4 << 30  # bytes of all entries together

Int32 = npt.NDArray[np.int32]


def cache_key(rows: Sequence[Conversation], settings: Any) -> str:
    """Hash of the rows and of all that decides what becomes of them."""
    digest = hashlib.sha256(json.dumps([_LAYOUT, settings], ensure_ascii=False).encode())
    for row in rows:
        parts = [row.messages, row.tools, sorted(row.unlearned), row.place]
        digest.update(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def read(key: str) -> Rendered | None:
    """What was kept under the key; None when there is nothing, or nothing that can be read."""
    path = _path(key)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = _unpacked(arrays)
        path.touch()  # read last, dropped last
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return found


def write(key: str, rendered: Rendered) -> None:
    """Keep it, and let go of the oldest entries beyond the bound; a full disk is no error."""
    try:
        with replacing(_path(key)) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **_packed(rendered))
        _prune(_path(key).parent)
    except OSError:
        return


def _path(key: str) -> Path:
    return cache_dir() / "tokens" / f"{key[:32]}.npz"


def _packed(rendered: Rendered) -> dict[str, Any]:
    samples = rendered.samples
    learned = [np.frombuffer(sample.labels, np.int32) != IGNORED for sample in samples]
    problems = json.dumps([asdict(problem) for problem in rendered.problems], ensure_ascii=False)
    return {
        "ids": _joined([np.frombuffer(sample.ids, np.int32) for sample in samples]),
        "lengths": np.array([len(sample.ids) for sample in samples], np.int32),
        "learned": np.packbits(np.concatenate(learned) if learned else np.zeros(0, bool)),
        "rows": np.array(rendered.rows, np.int32),
        "problems": np.frombuffer(problems.encode("utf-8", "surrogatepass"), np.uint8),
    }


def _joined(parts: Sequence[Int32]) -> Int32:
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _unpacked(file: Mapping[str, Any]) -> Rendered:
    ids: Int32 = file["ids"]
    ends = np.cumsum(file["lengths"], dtype=np.int64)
    learned = np.unpackbits(file["learned"], count=len(ids)).astype(bool)
    labels = np.where(learned, ids, np.int32(IGNORED))
    starts = [0, *ends[:-1].tolist()]
    samples = [
        Sample(array("i", ids[a:b].tobytes()), array("i", labels[a:b].tobytes()))
        for a, b in zip(starts, ends.tolist(), strict=True)
    ] if len(ends) else []  # fmt: skip
    told = json.loads(file["problems"].tobytes().decode("utf-8", "surrogatepass"))
    return Rendered(samples, file["rows"].tolist(), [Problem(**problem) for problem in told])


def _prune(folder: Path) -> None:
    entries = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in entries:
        total += path.stat().st_size
        if total > _BOUND and path != entries[0]:
            path.unlink(missing_ok=True)
