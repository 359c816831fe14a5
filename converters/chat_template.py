"""The chat templates of a model folder, as transformers finds them.

chat_template.jinja wins over tokenizer_config.json (transformers reads the file last), with further
ones in additional_chat_templates/; chat_template.json is the older form of processors. In
tokenizer_config.json it is a text, or a list of named ones. llama.cpp's converter has the first two
the other way round (gguf-py vocab.py, SpecialVocab); we follow what the model was trained with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.errors import ConvertError
from converters.hf_folder import Config, read_optional_json
from converters.tokenizer_json import encodable

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_BYTES = 8 << 20


def read_chat_template(base: Path, settings: Config | None = None) -> str:
    """The default template of a folder, or ""; ConvertError if it cannot be read."""
    return read_chat_templates(base, settings).get("default", "")


def read_chat_templates(base: Path, settings: Config | None = None) -> dict[str, str]:
    """All templates by name; the one without a name is "default"."""
    files = {"default": base / "chat_template.jinja"}
    files |= {path.stem: path for path in sorted(base.glob("additional_chat_templates/*.jinja"))}
    found = {name: _text(path) for name, path in files.items() if path.is_file()}
    if found:
        return found
    if settings is None:
        settings = read_optional_json(base / "tokenizer_config.json")
    older = read_optional_json(base / "chat_template.json")
    return _named(settings.get("chat_template") or older.get("chat_template"))


def _named(found: Any) -> dict[str, str]:
    if found is None:
        return {}
    entries = found if isinstance(found, list) else [{"name": "default", "template": found}]
    if isinstance(found, Mapping):
        entries = [{"name": name, "template": text} for name, text in found.items()]
    if not all(_sound(entry) for entry in entries):
        raise ConvertError(
            "the chat template cannot be read",
            "",
            "chat_template is neither a text nor a list of {name, template}: " + str(found)[:120],
            "save the tokenizer again, or put the template in chat_template.jinja",
        )
    return {entry["name"]: entry["template"] for entry in entries}


def _sound(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    name, text = entry.get("name"), entry.get("template")
    return (
        isinstance(name, str)
        and bool(_NAME.fullmatch(name))
        and isinstance(text, str)
        and encodable(text)
    )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MiB")
        return path.read_text("utf-8")
    except ValueError as error:
        raise ConvertError(f"{path.name} cannot be read", "", str(error)) from error
