"""A YAML file and key=value words -> `CurateConfig`, or one ConfigError with all that is wrong.

The file is a retrain config with a block `curate:`, or the block's own keys; other keys of a
retrain config are left to `retrain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ft2ollama.config.expects import did_you_mean, shown
from ft2ollama.errors import ConfigError
from ft2ollama.loop.curate.settings import CurateConfig


def read_settings(path: Path | None, words: Sequence[str] = ()) -> CurateConfig:
    """Settings of a file, then of words such as `grounded_cap=1`. Raises ConfigError."""
    given = dict(_of_file(path)) if path else {}
    places = dict.fromkeys(given, str(path))
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word} is no setting", "a setting is key=value", "grounded_cap=1")
        given[key] = yaml.safe_load(value)
        places[key] = word
    return settings_from(given, places)


def settings_from(given: Mapping[str, Any], places: Mapping[str, str]) -> CurateConfig:
    """Checked settings. places: where each key stands, for the error."""
    try:
        return CurateConfig.model_validate(given)
    except ValidationError as error:
        lines = [_line(one, places) for one in error.errors()]
    raise ConfigError(
        f"{len(lines)} wrong setting{'s' * (len(lines) > 1)} for curation",
        "\n".join(lines),
        "every key with its reason: python -m ft2ollama.loop.curate.docs",
    )


def _line(one: Any, places: Mapping[str, str]) -> str:
    key = str(one["loc"][0]) if one["loc"] else ""
    place = f"{places[key]}: " if key in places else ""
    if one["type"] == "extra_forbidden":
        near = did_you_mean(key, CurateConfig.model_fields)
        return f"{place}{key}: no such key{f'; did you mean {near}?' if near else ''}"
    text = str(one["msg"]).removeprefix("Value error, ")
    value = f", not {shown(one['input'])}" if key else ""
    return f"{place}{key}{': ' * bool(key)}{text}{value}"


def _of_file(path: Path) -> Mapping[str, Any]:
    try:
        made = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there", "", f"ls {path.parent}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML", str(error), "a line is 'key: value'") from None
    if isinstance(made, Mapping) and "curate" in made:
        made = made["curate"] or {}
    if not isinstance(made, Mapping):
        raise ConfigError(f"{path} holds no settings", shown(made), "grounded_cap: 0.7")
    return made
