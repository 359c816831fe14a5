"""Every test runs in a home and a runs folder of its own, and away from the user's Ollama."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ft2ollama.base import Base, resolve_base
from ft2ollama.paths import cache_dir

# One thread before anything imports torch: on a busy 2-core machine two are up to 11 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Downloads are shared with the user's own cache: they are the same files, checked by hash.
os.environ["FT2OLLAMA_CACHE"] = str(cache_dir())

# A shell without job control starts background jobs with Ctrl-C ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["fixtures_ollama", "fixtures_qwen", "fixtures_tiny"]
ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, then those with slow tests: so parallel workers end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: ("e2e" not in item.path.parts, item.path not in slow))


@pytest.fixture(autouse=True)
def isolated(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FT2OLLAMA_RUNS", str(home / "runs"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")  # the discard port: nothing answers
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> Base:
    """The real SmolLM2-135M-Instruct, unpacked once into the cache."""
    return resolve_base(str(smollm2_gguf))


@pytest.fixture(scope="session")
def samples() -> Path:
    return ROOT / "samples"
