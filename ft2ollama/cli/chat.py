"""`ft2ollama chat NAME|RUN`: talk to a model in Ollama; one question, or a dialogue."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.ollama_api import Ollama


@click.command()
@click.argument("model", metavar="NAME|RUN")
@click.argument("question", nargs=-1)
@click.option(
    "--host", metavar="URL", help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434."
)
@click.pass_obj
def chat(output: Output, model: str, question: tuple[str, ...], host: str | None) -> None:
    """Ask a published model (or the model a run was published as). Answers go to stdout.

    With no QUESTION it reads questions from the terminal, or from a pipe, a line each.
    """
    from ft2ollama.ollama_api import Ollama

    server = Ollama(host)
    server.version()
    name = _model_name(server, model)
    if question:
        _answer(output, server, name, [{"role": "user", "content": " ".join(question)}])
        return
    messages: list[dict[str, str]] = []
    if sys.stdin.isatty():
        output.say(f"{name} at {server.host}; an empty line or Ctrl-D ends")
    while (line := _read_line()) is not None:
        messages.append({"role": "user", "content": line})
        messages.append({"role": "assistant", "content": _answer(output, server, name, messages)})


def _model_name(server: Ollama, ref: str) -> str:
    """A model that Ollama has, or the one that a run was published as."""
    from ft2ollama.errors import UsageError
    from ft2ollama.runs import find_run

    if server.exists(ref):
        return ref
    try:
        stage = find_run(ref).stage_record("publish")
    except UsageError:
        server.show(ref)  # raises with the names that are near
        raise
    if stage.get("status") != "done":
        raise UsageError(
            f"run {ref} is not published", "", f"ft2ollama publish my-model --run {ref}"
        )
    return str(stage["tag"])


def _read_line() -> str | None:
    prompt = ">>> " if sys.stdin.isatty() else ""
    try:
        line = input(prompt)
    except EOFError:
        return None
    return line.strip() or None


def _answer(output: Output, server: Ollama, name: str, messages: list[dict[str, str]]) -> str:
    from ft2ollama.ollama_api import quiet_options

    threads = {k: v for k, v in quiet_options(server.is_local).items() if k == "num_thread"}
    text = ""
    for piece in server.chat_stream(name, messages, options=threads):
        if isinstance(piece, str):
            text += piece
            if not output.as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
    if output.as_json:
        output.event("answer", model=name, text=text)
    else:
        sys.stdout.write("\n")
    return text
