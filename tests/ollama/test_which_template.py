"""How a server is led to run our template, on answers as Ollama 0.9.3 and 0.33 give them.

The real servers are in test_newer_ollama.py and everywhere else; here are the ways that no server
at hand takes.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from fixtures_ollama import Serve, reply

from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_show import parse_shown

OURS, JINJA = "{{ .Prompt }}", "{% for m in messages %}{{ m.content }}{% endfor %}"
HI = [{"role": "user", "content": "Hi"}]
Asked = list[tuple[str, dict[str, Any]]]


class Answers:
    """A server with the model `m`; it prefers the chat template unless a parser is named."""

    def __init__(self, *, prefers: bool, refuses: bool = False, renders: bool = True) -> None:
        self.prefers, self.refuses, self.renders = prefers, refuses, renders
        self.asked: Asked = []

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length) or b"{}")
        self.asked.append((request.path, body))
        status, data = self._answer(request.path, body)
        reply(request, json.dumps(data).encode(), status)

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/api/tags":
            return 200, {"models": [{"name": "m:latest", "model": "m:latest", "digest": "0"}]}
        if path == "/api/create" and self.refuses and "parser" in body:
            return 400, {"error": "unknown parser"}
        if path == "/api/create":
            return 200, {"status": "success"}
        if path == "/api/show":
            made = [data for name, data in self.asked if name == "/api/create"]
            named = not self.refuses and any("parser" in data for data in made)
            return 200, {"template": JINJA if self.prefers and not named else OURS}
        rendered = {"_debug_info": {"rendered_template": "Hi"}} if self.renders else {}
        return 200, {"message": {"role": "assistant", "content": "x"}, "done": True, **rendered}

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for name, body in self.asked if name == path]


@pytest.mark.parametrize(("prefers", "parsers"), [(False, [None]), (True, [None, "go-template"])])
def test_a_parser_is_named_only_where_the_server_would_run_another_template(
    serve: Serve, prefers: bool, parsers: list[str | None]
) -> None:
    server = Answers(prefers=prefers)
    with serve(server) as url:
        Ollama(url).create("m", from_="m", template=OURS)
    assert [body.get("parser") for body in server.bodies("/api/create")] == parsers
    assert all(body["template"] == OURS for body in server.bodies("/api/create"))


def test_without_a_template_nothing_is_asked(serve: Serve) -> None:
    server = Answers(prefers=True)
    with serve(server) as url:
        Ollama(url).create("m", from_="m", system="Be brief.")
    assert len(server.bodies("/api/create")) == 1
    assert server.bodies("/api/show") == []


def test_a_server_that_takes_no_such_parser_is_left_to_the_proofs(serve: Serve) -> None:
    server = Answers(prefers=True, refuses=True)
    with serve(server) as url:
        Ollama(url).create("m", from_="m", template=OURS)
        assert Ollama(url).show("m").template == JINJA
    assert len(server.bodies("/api/create")) == 2


@pytest.mark.parametrize(("renders", "texts", "asked"), [(True, "Hi", 2), (False, None, 1)])
def test_a_server_that_renders_nothing_is_asked_once(
    serve: Serve, renders: bool, texts: str | None, asked: int
) -> None:
    server = Answers(prefers=False, renders=renders)
    with serve(server) as url:
        ollama = Ollama(url)
        assert [ollama.prompt_text("m", HI) for _ in range(2)] == [texts, texts]
    assert len(server.bodies("/api/chat")) == asked


def test_the_parser_is_read_from_the_shown_modelfile() -> None:
    """0.33 names it there and nowhere else."""
    modelfile = "FROM /blobs/sha256-0\nTEMPLATE {{ .Prompt }}\nSYSTEM x\nPARSER go-template\n"
    assert parse_shown({"modelfile": modelfile}, is_local=True).parser == "go-template"
    without = modelfile.replace("PARSER", "# PARSER")
    assert parse_shown({"modelfile": without}, is_local=True).parser == ""
