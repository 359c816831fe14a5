"""A model as a server has it: what /api/show tells, and its GGUF file where it can be read.

In: a server and a name.  Out: `Served`. Without the file (a server elsewhere, a store of another
user) /api/show still tells the file's settings, but neither tokens nor tensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.ollama_api import Ollama, Shown

if TYPE_CHECKING:
    from converters import GgufFile

LINEAGE = "ft2ollama."  # keys of a GGUF file
MANIFEST = "ft2ollama-manifest: "  # a line of LICENSE


@dataclass(frozen=True)
class Served:
    """file: the model's GGUF, None where it cannot be read, and `unread` says why.

    broken: it may be read, but is no sound GGUF.

    adapters: files of ADAPTER layers; a path that cannot be read is listed too.
    """

    server: Ollama
    name: str
    shown: Shown
    file: GgufFile | None
    unread: str
    broken: bool = False

    def value(self, key: str) -> Any:
        """A setting of the GGUF file, None where there is none."""
        known = self.shown.model_info if self.file is None else self.file.values
        return known.get(key)

    @property
    def architecture(self) -> str:
        """As the GGUF file calls it."""
        return str(self.value("general.architecture") or self.shown.family)

    @property
    def stop(self) -> list[str]:
        """The stop words of the Modelfile."""
        return [str(word) for word in self.shown.parameters.get("stop", [])]

    @property
    def adapters(self) -> tuple[Path, ...]:
        """LoRA files that the server adds when it runs the model."""
        return self.shown.adapters

    def parameter(self, name: str) -> float | None:
        """A number of the Modelfile, None where it is not set."""
        value = self.shown.parameters.get(name)
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def lineage(self) -> dict[str, str]:
        """What ft2ollama wrote into a file of its own, or into LICENSE: run, base.sha256, ..."""
        return self.inside or self.beside

    @property
    def inside(self) -> dict[str, str]:
        """What ft2ollama wrote into the GGUF, or into the adapter's."""
        known = [self.shown.model_info if self.file is None else self.file.values]
        if self.server.is_local:
            known += [values for path in self.adapters if (values := _values(path))]
        return {
            key.removeprefix(LINEAGE): str(value)
            for values in known
            for key, value in values.items()
            if key.startswith(LINEAGE)
        }

    @property
    def beside(self) -> dict[str, str]:
        """The line that `publish` adds to LICENSE; where a server rewrote the file, only it is
        left.
        """
        return _manifest(self.shown.license)


def _values(path: Path) -> dict[str, object]:
    from converters import ConvertError, read_gguf

    try:
        return read_gguf(path).values
    except (ConvertError, OSError):
        return {}


def _manifest(license: str) -> dict[str, str]:
    for line in license.splitlines():
        if line.startswith(MANIFEST):
            try:
                found = json.loads(line.removeprefix(MANIFEST))
            except ValueError:
                return {}
            return {key: str(value) for key, value in found.items()}
    return {}


def look(server: Ollama, name: str) -> Served:
    """Ask the server; UsageError when it has no such model, MachineError when none answers."""
    from converters import ConvertError, read_gguf

    shown = server.show(name)
    if shown.blob is None:
        where = "is on another machine" if not server.is_local else "keeps it where we may not read"
        return Served(server, name, shown, None, f"the server {where}")
    try:
        return Served(server, name, shown, read_gguf(shown.blob), "")
    except ConvertError as error:
        return Served(server, name, shown, None, f"{error.what}: {error.why}", broken=True)
