"""A config written in the working folder, and the error or the result of loading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ft2ollama.config import Loaded, load_config
from ft2ollama.errors import ConfigError

Load = Callable[..., Loaded]
Fail = Callable[..., ConfigError]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """load(text, *overrides): write `text` to train.yaml and load it."""
    monkeypatch.chdir(tmp_path)

    def run(text: str | bytes, *overrides: str, name: str = "train.yaml") -> Loaded:
        data = text if isinstance(text, bytes) else text.encode()
        Path(name).write_bytes(data)
        return load_config(Path(name), overrides)

    return run


@pytest.fixture
def fail(load: Load) -> Fail:
    """Like load, for a config that must be refused; returns the error."""

    def run(text: str | bytes, *overrides: str, name: str = "train.yaml") -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides, name=name)
        return caught.value

    return run
