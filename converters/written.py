"""What an export leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Written:
    """A finished GGUF file. notes: what the reader of a report should know about it."""

    path: Path
    sha256: str
    size: int
    n_tensors: int
    file_type: str
    architecture: str
    notes: tuple[str, ...] = ()
