"""`ft2ollama chat NAME|RUN`: talk to a model in Ollama or to a run; one question, or a dialogue."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.cli.partner import Partner
    from ft2ollama.dialogue import Dialogue


@click.command()
@click.argument("model", metavar="NAME|RUN")
@click.argument("question", nargs=-1)
@click.option("--run", "kind", flag_value="run", help="It is a run: path, id or latest.")
@click.option("--model", "kind", flag_value="model", help="It is a model in Ollama.")
@click.option("--system", metavar="TEXT", help="A system prompt instead of the model's own.")
@click.option("--think/--no-think", default=None, help="For models that can think first.")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    help="0: the likeliest words; default: the model's own, for a run 0.",
)
@click.option("--tokens", type=click.IntRange(1), help="The most tokens of an answer.")
@click.option(
    "--host", metavar="URL", help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434."
)
@click.pass_obj
def chat(  # noqa: PLR0913 - one parameter per option
    output: Output,
    model: str,
    question: tuple[str, ...],
    kind: str | None,
    system: str | None,
    temperature: float | None,
    tokens: int | None,
    host: str | None,
    *,
    think: bool | None,
) -> None:
    """Talk to a model in Ollama, or to what a run trained before it is published.

    Answers go to stdout. With no QUESTION it reads questions from the terminal (/help there), or
    from a pipe, a line each. Ctrl-C ends an answer, Ctrl-D the dialogue.
    """
    from ft2ollama.cli.partner import Manner, find_partner
    from ft2ollama.dialogue import Dialogue

    partner = find_partner(output, model, kind, host, Manner(think, temperature, tokens))
    dialogue = Dialogue([{"role": "system", "content": system}] if system else [])
    if question:
        dialogue.ask(" ".join(question))
        _answer(output, partner, dialogue)
        return
    if sys.stdin.isatty():
        _lead(output, partner, dialogue)
        return
    for line in sys.stdin:
        if line.strip():
            dialogue.ask(line.strip())
            _answer(output, partner, dialogue)


def _lead(output: Output, partner: Partner, dialogue: Dialogue) -> None:
    """Questions and commands of a person, until /bye."""
    import contextlib

    from ft2ollama.dialogue import read_question
    from ft2ollama.errors import UserError

    with contextlib.suppress(ImportError):  # arrow keys and a history, where Python has it
        import readline  # noqa: F401
    output.say(f"{partner.about}; /help lists the commands, Ctrl-D ends")
    while True:
        try:
            line = read_question(_read_line)
            if line is None or not _obey(output, partner, dialogue, line):
                return
        except UserError as error:
            output.warn(str(error))
        except KeyboardInterrupt:
            output.say("\n  Ctrl-D or /bye ends")


def _obey(output: Output, partner: Partner, dialogue: Dialogue, line: str) -> bool:
    """Carry out a command or answer a question; False at the end."""
    from ft2ollama.errors import UserError

    if line.startswith("/"):
        said = dialogue.command(line)
        if said is not None:
            output.say(said)
        return said is not None
    if line.strip():
        dialogue.ask(line)
        try:
            _answer(output, partner, dialogue)
        except KeyboardInterrupt:  # ends the answer, not the dialogue
            dialogue.command("/undo")
            output.say("\n  broken off; the question is taken back")
        except UserError:  # without an answer it would be asked again with the next question
            dialogue.command("/undo")
            raise
    return True


def _read_line(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        return None


def _answer(output: Output, partner: Partner, dialogue: Dialogue) -> None:
    """Stream the answer to the last question, and keep it."""
    from ft2ollama.ollama_api import Thought

    text, thoughts = "", ""
    for piece in partner.stream(dialogue.messages):
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
            "answer", model=partner.name, text=text, **({"thinking": thoughts} if thoughts else {})
        )
    else:
        sys.stdout.write("\n")
        sys.stdout.flush()
