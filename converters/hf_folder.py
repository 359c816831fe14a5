"""The JSON files of a Hugging Face model folder, read with errors a person can act on."""

from __future__ import annotations

import json
from pathlib import Path

from converters.errors import ConvertError
from converters.hf_config import Config, complete

__all__ = ["Config", "read_config", "read_json", "read_optional_json"]


def read_json(path: Path) -> Config:
    """A JSON object from a file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConvertError(f"{path.name} is missing", "", f"looked in {path.parent}") from error
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path.name} is not valid JSON", "", str(error)) from error
    if not isinstance(value, dict):
        raise ConvertError(f"{path.name} is not a JSON object", "", f"it is a {type(value)}")
    return value


def read_optional_json(path: Path) -> Config:
    """Like read_json, but an absent file is an empty object."""
    return read_json(path) if path.is_file() else {}


def read_config(folder: Path) -> Config:
    """config.json of a model folder; of a multimodal model, the settings of its text part."""
    if not folder.is_dir():
        raise ConvertError(
            "the base is not a folder", "", str(folder), "give the folder that holds config.json"
        )
    return complete(read_json(folder / "config.json"))
