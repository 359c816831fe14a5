"""`ft2ollama history NAME` and `ft2ollama rollback NAME`: versions in Ollama, and the way back."""

from __future__ import annotations

import click

from ft2ollama.cli.output import Output

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
    if not output.console.is_terminal:
        for one in found:
            output.result(one.tag)


@click.command()
@click.argument("name")
@click.option("--to", metavar="TAG", help="This version; default: the one published before.")
@_HOST
@click.pass_obj
def rollback(output: Output, name: str, to: str | None, host: str | None) -> None:
    """Point NAME (NAME:latest, or NAME:TAG as you write it) back at an earlier version."""
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.way_back import rollback as move_back

    move = move_back(Ollama(host), name, to=to)
    output.done(f"{move.alias} is {move.tag} now, moved by {move.way}")
    output.result(move.tag, name=move.alias, tag=move.tag)
