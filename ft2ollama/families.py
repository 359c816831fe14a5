"""The template families of `modelfiles/`, for models without a chat template of their own.

A config names one; their Go templates are also what `gotemplate.derive` falls back to.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Family:
    """One folder of modelfiles/. parameters: name -> (value, reason)."""

    name: str
    jinja: str
    gotmpl: str
    stop: tuple[str, ...]
    parameters: Mapping[str, tuple[Any, str]]
    cases: tuple[Mapping[str, Any], ...]


@cache
def families() -> dict[str, Family]:
    """Every family folder, by name."""
    return {path.parent.name: _load(path) for path in sorted(_root().glob("*/family.toml"))}


def _root() -> Path:
    """modelfiles/ in the wheel, or in the checkout."""
    inside = Path(__file__).parent / "_modelfiles"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "modelfiles"


def _load(path: Path) -> Family:
    folder, data = path.parent, tomllib.loads(path.read_text("utf-8"))
    cases = (folder / "cases.jsonl").read_text("utf-8").splitlines()
    return Family(
        name=folder.name,
        jinja=(folder / "chat.jinja").read_text("utf-8"),
        gotmpl=(folder / "template.gotmpl").read_text("utf-8"),
        stop=tuple(data["stop"]),
        parameters={
            name: (item["value"], item["reason"])
            for name, item in data.get("parameters", {}).items()
        },
        cases=tuple(json.loads(line) for line in cases if line.strip()),
    )
