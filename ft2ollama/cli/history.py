"""`ft2ollama history NAME` and `ft2ollama rollback NAME`: versions in Ollama, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.aliases import Move
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.way_back import Way

_HOST = click.option(
    "--host", metavar="URL", help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434."
)


@click.command()
@click.argument("name")
@_HOST
@click.pass_obj
def history(output: Output, name: str, host: str | None) -> None:
    """List the versions of NAME in Ollama, newest first, and what each public name is."""
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.versions import history as versions_of

    found = versions_of(Ollama(host), name)
    rows = []
    for one in found:
        proof = f"forced: {one.forced}" if one.forced else one.proof or "-"
        rows.append(
            [
                one.tag,
                ", ".join(one.names) or "-",
                one.published[:16].replace("T", " "),
                f"{one.size / 1e6:,.0f} MB",
                proof,
            ]
        )
        output.event(
            "version", tag=one.tag, names=one.names, published=one.published, digest=one.digest,
            run=one.run, proof=one.proof, forced=one.forced,
        )  # fmt: skip
    if output.as_json:
        return
    output.table("", ["version", "is", "published", "size", "proof"], rows, version="bold")
    _say_other(output, Ollama(host), name, {one.digest for one in found})
    if not output.console.is_terminal:
        for one in found:
            output.result(one.tag)


@click.command()
@click.argument("name")
@click.option("--to", metavar="TAG", help="This version; default: the one published before.")
@_HOST
@click.pass_obj
def rollback(output: Output, name: str, to: str | None, host: str | None) -> None:
    """Point NAME (NAME:latest, or NAME:TAG as you write it) back at what it was before.

    That is NAME:previous, then the versions published before it, and in the end NAME:base where a
    cycle of retrain registered it. retrain --if-due then waits: see `cooldown` in docs/loop.md.
    """
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.way_back import find_way

    server = Ollama(host)
    way = find_way(server, name, to)
    move, told = _roll_back(output, server, way)
    base = " (the untuned base)" if move.tag.endswith(":base") else ""
    output.done(f"{move.alias} is {move.tag} now{base}, moved by {move.way}")
    for line in told:
        output.say(f"  {line}")
    output.result(move.tag, name=move.alias, tag=move.tag)


def _roll_back(output: Output, server: Ollama, way: Way) -> tuple[Move, list[str]]:
    """Move the name, and tell the loop if it is a loop's; what people should know then.

    A ledger that cannot be opened keeps nobody from going back.
    """
    from ft2ollama.errors import UserError
    from ft2ollama.loop.ledger import Ledger, is_there
    from ft2ollama.loop.rollback import advice, is_of_a_loop, roll_back
    from ft2ollama.way_back import go

    if not is_there():
        return go(server, way), []
    try:
        ledger = Ledger.open()
    except UserError as error:
        output.warn(f"the loop is not told, and may promote the same again: {error.why}")
        return go(server, way), []
    with ledger:
        if not is_of_a_loop(ledger, way.alias):
            return go(server, way), []
        return roll_back(ledger, server, way), advice(ledger, way)


def _say_other(output: Output, server: Ollama, name: str, versions: set[str]) -> None:
    """What a public name is, where that is no version."""
    from ft2ollama.ollama_names import canonical_name

    have, public = server.models(), canonical_name(name)
    digest = have.get(public)
    if digest is None or digest in versions:
        return
    model = public.rpartition(":")[0]
    same = [tag for tag, other in have.items()
            if other == digest and tag != public and tag.startswith(f"{model}:")]  # fmt: skip
    output.say(f"{public} is {same[0] if same else 'no version of ft2ollama'} now")
