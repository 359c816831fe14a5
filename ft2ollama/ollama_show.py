"""What /api/show tells about a model, parsed.

In: its JSON. Out: `Shown`. Two of its fields are text made for people: `parameters` (columns, with
values printed by Go's %#v) and `modelfile`, whose FROM and ADAPTER are the only place where the API
names the blobs (ollama server/routes.go GetModelInfo, server/images.go Model.String).
"""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shown:
    """What /api/show tells. blob: the model's GGUF if this process may read it.

    parameters: `stop` is always a list.  details: family, quantization_level, parameter_size, ...
    digest: sha256 (hex) of the model's GGUF.  adapters: paths on the server, readable or not.
    template: the one that runs; on Ollama >= 0.30 it can be the GGUF's chat template (Jinja).
    parser: what takes replies apart, "" when the template does (Ollama >= 0.12).
    """

    modelfile: str
    template: str
    system: str
    parameters: dict[str, Any]
    messages: list[dict[str, Any]]
    details: dict[str, Any]
    model_info: dict[str, Any]
    capabilities: list[str]
    license: str
    blob: Path | None = None
    digest: str | None = None
    adapters: tuple[Path, ...] = ()
    parser: str = ""

    @property
    def family(self) -> str:
        """Architecture as Ollama names it, e.g. llama, qwen2."""
        return str(self.details.get("family", ""))

    @property
    def quantization(self) -> str:
        """File type, e.g. Q4_K_M."""
        return str(self.details.get("quantization_level", ""))


def parse_shown(data: dict[str, Any], *, is_local: bool) -> Shown:
    """Read the reply of /api/show; paths of a remote server are not looked up here."""
    modelfile = str(data.get("modelfile", ""))
    source, adapters = _files_of(modelfile)
    digest = re.search(r"sha256-([0-9a-f]{64})$", source)
    return Shown(
        modelfile=modelfile,
        template=str(data.get("template", "")),
        system=str(data.get("system", "")),
        parameters=_parameters(str(data.get("parameters") or "")),
        messages=list(data.get("messages") or []),
        details=dict(data.get("details") or {}),
        model_info=dict(data.get("model_info") or {}),
        capabilities=[str(name) for name in data.get("capabilities") or []],
        license=str(data.get("license", "")),
        blob=Path(source) if source and is_local and os.access(source, os.R_OK) else None,
        digest=digest.group(1) if digest else None,
        adapters=tuple(Path(path) for path in adapters),
        parser=str(data.get("parser") or _parser_of(modelfile)),
    )


def _files_of(modelfile: str) -> tuple[str, list[str]]:
    """FROM and ADAPTER of a shown Modelfile: they come first (ollama server/images.go String)."""
    source, adapters = "", []
    for line in modelfile.splitlines():
        command, _, value = line.partition(" ")
        if command == "FROM" and not source:
            source = value.strip()
        elif command == "ADAPTER":
            adapters.append(value.strip())
        elif source and line.strip():
            break
    return source, adapters


def _parser_of(modelfile: str) -> str:
    """PARSER of a shown Modelfile, which stands behind TEMPLATE and SYSTEM."""
    found = re.findall(r"^PARSER (\S+)$", modelfile, re.M)
    return found[-1] if found else ""


def _parameters(text: str) -> dict[str, Any]:
    """Lines of `name   value` as Go's %#v prints values; a repeated name makes a list."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, raw = line.partition(" ")
        value = _go_value(raw.strip())
        if name == "stop" or name in found:
            before = found.get(name, [])
            found[name] = [*(before if isinstance(before, list) else [before]), value]
        elif name:
            found[name] = value
    return found


def _go_value(raw: str) -> Any:
    if raw in ("true", "false"):
        return raw == "true"
    try:
        return ast.literal_eval(raw)  # Go's quoted strings and numbers are Python's
    except (ValueError, SyntaxError):
        return raw
