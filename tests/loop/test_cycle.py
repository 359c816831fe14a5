"""Whole cycles through a real Ollama, on a model so small that one takes seconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cycle_rig import Rig, write_questions
from sqlalchemy import select
from tiny_families import FAMILIES, make_base

from ft2ollama.loop import states
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.store import pending_rids
from ft2ollama.loop.swap import deployment_of
from ft2ollama.ollama_server import Server

pytestmark = [pytest.mark.ollama, pytest.mark.slow]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(FAMILIES["llama"], tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def rig(tmp_path: Path, base: Path, ollama_server: Server) -> Iterator[Rig]:
    made = Rig(tmp_path, ollama_server.host, ollama_server.models)
    made.write(base)
    made.fill(1, 12)
    yield made
    made.sound()
    made.remove_models()


def test_rows_become_a_model(rig: Rig) -> None:
    done = rig.retrain()
    sys.stderr.write(done["stderr"])
    assert done["state"] in ("PROMOTED", "REJECTED")
