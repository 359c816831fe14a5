"""What a cycle leaves behind that nobody needs: versions in Ollama, weights and GGUF files.

A cycle that was not promoted gives its rows back, so its weights can be made again; a promoted one
is in Ollama. Small evidence stays for good: data, config, log, proof, loss curve. Removing can be
begun again after a kill, so nothing is written down about it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ft2ollama.errors import UserError
from ft2ollama.loop import states
from ft2ollama.loop.crashpoint import crashpoint
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.place import cycles_folder
from ft2ollama.loop.settings import RetrainConfig
from ft2ollama.loop.states import Cycle
from ft2ollama.ollama_api import Ollama
from ft2ollama.publish import public_names
from ft2ollama.runs import Run

_UNPROMOTED = ("REJECTED", "FAILED", "ABANDONED")
_BIG = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
_LOOKED_AT = 50  # cycles back; older ones were tidied when they were younger


@dataclass(frozen=True)
class Freed:
    """bytes: of files on this disk.  versions: tags that went from Ollama."""

    bytes: int = 0
    versions: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people; empty when nothing was removed."""
        size = f"{self.bytes / 1e6:,.0f} MB" if self.bytes >= 1e6 else f"{self.bytes / 1e3:,.0f} kB"
        files = [f"weights and GGUF files, {size}"] if self.bytes else []
        return "; ".join([*files, *(f"{tag} in Ollama" for tag in self.versions)])


def tidy(ledger: Ledger, server: Ollama, config: RetrainConfig) -> Freed:
    """Remove what is left of cycles that are over.

    Versions of cycles that were not promoted go from Ollama; a public name keeps what it points at.
    Files of promoted cycles stay for the newest `keep`, and while Ollama has their version.
    """
    freed, versions, have = 0, [], None
    with suppress(UserError):
        have = server.models()
    for cycle in states.last_cycles(ledger, config.name, _UNPROMOTED, _LOOKED_AT):
        if have is not None and (tag := version_of(cycle)) in have:
            with suppress(UserError):
                server.delete(tag)
                versions.append(tag)
        if not config.keep_rejected:
            freed += remove_weights(cycle)
    promoted = states.last_cycles(ledger, config.name, ("PROMOTED",), _LOOKED_AT)
    for cycle in promoted[config.keep :]:
        if have is not None and version_of(cycle) not in have:
            freed += remove_weights(cycle)
    return Freed(freed, tuple(versions))


def remove_weights(cycle: Cycle) -> int:
    """Remove weights, GGUF files and checkpoints of a cycle that is over; bytes freed."""
    training, freed = cycles_folder() / cycle.run_id / cycle.run_id, 0
    for path in big_files(training):
        freed += path.stat().st_size
        path.unlink()
    shutil.rmtree(training / "checkpoints", ignore_errors=True)
    if freed:
        crashpoint("weights removed")
    return freed


def big_files(training: Path) -> Iterator[Path]:
    """Weights of a run, in whichever form; with all that is in its checkpoints."""
    for path in sorted(training.rglob("*")):
        inside = "checkpoints" in path.relative_to(training).parts
        if path.is_file() and (inside or path.suffix in _BIG):
            yield path


def version_of(cycle: Cycle) -> str:
    """The tag in Ollama that a cycle's model has, or would have."""
    return public_names(cycle.line, Run(cycles_folder() / cycle.run_id / cycle.run_id))[1]
