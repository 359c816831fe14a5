"""`ft2ollama chat NAME|RUN`: talk to a model in Ollama; one question, or a dialogue."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.dialogue import Dialogue
    from ft2ollama.ollama_api import Ollama


@click.command()
@click.argument("model", metavar="NAME|RUN")
@click.argument("question", nargs=-1)
@click.option("--system", metavar="TEXT", help="A system prompt instead of the model's own.")
@click.option("--think/--no-think", default=None, help="For models that can think first.")
@click.option(
    "--host", metavar="URL", help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434."
)
@click.pass_obj
def chat(
    output: Output,
    model: str,
    question: tuple[str, ...],
    system: str | None,
    host: str | None,
    *,
    think: bool | None,
) -> None:
    """Ask a published model (or the model a run was published as). Answers go to stdout.

    With no QUESTION it reads questions from the terminal (/help there), or from a pipe, a line
    each.
    """
    from ft2ollama.dialogue import Dialogue
    from ft2ollama.ollama_api import Ollama

    server = Ollama(host)
    server.version()
    name = _model_name(server, model)
    dialogue = Dialogue([{"role": "system", "content": system}] if system else [])
    if question:
        dialogue.ask(" ".join(question))
        _answer(output, server, name, dialogue, think)
        return
    if sys.stdin.isatty():
        _lead(output, server, name, dialogue, think)
        return
    for line in sys.stdin:
        if line.strip():
            dialogue.ask(line.strip())
            _answer(output, server, name, dialogue, think)


def _lead(
    output: Output, server: Ollama, name: str, dialogue: Dialogue, think: bool | None
) -> None:
    """Questions and commands of a person, until /bye."""
    import contextlib

    from ft2ollama.dialogue import read_question
    from ft2ollama.errors import UserError

    with contextlib.suppress(ImportError):  # arrow keys and a history, where Python has it
        import readline  # noqa: F401
    output.say(f"{name} at {server.host}; /help lists the commands, Ctrl-D ends")
    while (line := read_question(_read_line)) is not None:
        try:
            if line.startswith("/"):
                said = dialogue.command(line)
                if said is None:
                    return
                output.say(said)
            elif line.strip():
                dialogue.ask(line)
                _answer(output, server, name, dialogue, think)
        except UserError as error:
            output.warn(str(error))
        except KeyboardInterrupt:  # ends the answer, not the dialogue
            output.say("\n  broken off; the question is taken back")
            dialogue.command("/undo")


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


def _read_line(prompt: str) -> str | None:
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        return None


def _answer(
    output: Output, server: Ollama, name: str, dialogue: Dialogue, think: bool | None
) -> None:
    """Stream the answer to the last question, and keep it."""
    from ft2ollama.ollama_api import Thought, quiet_options

    threads = {k: v for k, v in quiet_options(server.is_local).items() if k == "num_thread"}
    text, thoughts = "", ""
    for piece in server.chat_stream(name, dialogue.messages, options=threads, think=think):
        if isinstance(piece, Thought):
            thoughts += piece.text
            output.dim(piece.text)
        elif isinstance(piece, str):
            if thoughts and not text:
                output.dim("\n")
            text += piece
            if not output.as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
    dialogue.answer(text)
    if output.as_json:
        output.event(
            "answer", model=name, text=text, **({"thinking": thoughts} if thoughts else {})
        )
    else:
        sys.stdout.write("\n")
        sys.stdout.flush()
