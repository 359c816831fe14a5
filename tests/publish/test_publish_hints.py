"""What is printed after a publication works when it is pasted."""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
from typing import Any

import httpx
import pytest
from rich.console import Console

from ft2ollama.cli.output import Output
from ft2ollama.cli.publish_hints import show_usage, usage
from ft2ollama.ollama_server import Server

PARAMETERS = {"stop": ("<|im_end|>",), "temperature": 0.0, "top_p": 0.8, "num_ctx": 4096}


@pytest.mark.ollama
def test_the_curl_line_is_answered(ollama_server: Server, smol: str) -> None:
    words = shlex.split(str(usage(smol, ollama_server.host, PARAMETERS)["curl"]))
    assert words[0] == "curl"
    body: dict[str, Any] = json.loads(words[words.index("-d") + 1])
    assert (body["temperature"], body["top_p"]) == (0, 0.8)
    header = dict([words[words.index("-H") + 1].split(": ")])
    content = json.dumps(body | {"max_tokens": 3})
    answer = httpx.post(words[1], content=content, headers=header, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]


def test_the_python_lines_say_the_same() -> None:
    found = usage("shop:prod", "http://gpu:11434", PARAMETERS)
    calls = [node for node in ast.walk(ast.parse(found["python"])) if isinstance(node, ast.Call)]
    given = {key.arg: ast.unparse(key.value) for call in calls for key in call.keywords}
    assert given == {
        "base_url": "'http://gpu:11434/v1'", "api_key": "'ollama'", "model": "'shop:prod'",
        "messages": "messages", "temperature": "0", "top_p": "0.8",
    }  # fmt: skip
    assert found["one_api"] == {
        "type": "Ollama", "base_url": "http://gpu:11434", "models": "shop:prod",
    }  # fmt: skip
    assert found["run"] == "OLLAMA_HOST=http://gpu:11434 ollama run shop:prod"
    assert usage("x", "http://127.0.0.1:11434", {})["run"] == "ollama run x"


def test_the_lines_fit_a_terminal_and_stay_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    stream = io.StringIO()
    output._console = Console(file=stream, width=100, soft_wrap=True)
    show_usage(output, "my-model", "http://127.0.0.1:11434", PARAMETERS | {"top_p": 0.95})
    lines = stream.getvalue().splitlines()
    assert capsys.readouterr().out == ""
    assert [line for line in lines if len(line) > 100] == []
    assert len(lines) <= 18
    curl = "\n".join(lines).partition("curl")[2].partition("from openai")[0]
    assert json.loads(shlex.split(curl)[-1])["top_p"] == 0.95  # as it stands on the screen
    assert any(re.search(r"send temperature 0 and top_p 0.95, as above", line) for line in lines)
    plain = io.StringIO()
    output._console = Console(file=plain, width=100, soft_wrap=True)
    show_usage(output, "my-model", "http://127.0.0.1:11434", {})
    assert "client of /v1" not in plain.getvalue()
