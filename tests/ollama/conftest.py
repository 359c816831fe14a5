from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server

CHATML = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n"
)
# SmolLM2's own Jinja, without its default system prompt (which Ollama's chatml does not add either).
CHATML_JINJA = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}"
)

Handle = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[Handle], AbstractContextManager[str]]


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
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
