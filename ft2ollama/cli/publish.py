"""`ft2ollama publish NAME`: a run -> a proved model in Ollama under a public name."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.proof import Proof
    from ft2ollama.publish import Published
    from ft2ollama.runs import Run


@click.command()
@click.argument("name", required=False)
@click.option("--run", "run_ref", default="latest", show_default=True, help="Path, id or latest.")
@click.option("--as", "kind", type=click.Choice(["model", "adapter"]), help="What to publish.")
@click.option(
    "--quant", metavar="TYPE", help="The GGUF type to publish; exported if it is not there yet."
)
@click.option(
    "--host",
    "hosts",
    metavar="URL",
    multiple=True,
    help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434. Again for more servers: all are "
    "proved before a name moves.",
)
@click.option("--alias", metavar="TAG", help="Move NAME:TAG instead of NAME:latest, e.g. prod.")
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Keep the newest N versions.")
@click.option("--force", metavar="REASON", help="Publish although a proof fails; it is recorded.")
@click.pass_obj
def publish(  # noqa: PLR0913 - one parameter per option
    output: Output,
    name: str | None,
    run_ref: str,
    kind: str | None,
    quant: str | None,
    hosts: tuple[str, ...],
    alias: str | None,
    keep: int | None,
    force: str | None,
) -> None:
    """Register RUN in Ollama as NAME:<run>, prove it, then point NAME:latest at it.

    Exit code 3: a proof failed and nothing was published.
    """
    from ft2ollama.train.threads import choose_threads, set_threads

    set_threads(choose_threads(None))
    from ft2ollama.config import load_config
    from ft2ollama.errors import UsageError
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.publish import public_names
    from ft2ollama.runs import find_run

    run = find_run(run_ref)
    config = load_config(run.config_file).config
    name = name or config.ollama_name
    if not name:
        raise UsageError(
            "no name to publish under",
            "neither NAME nor ollama_name in the config",
            "ft2ollama publish my-model",
        )
    name = f"{name}:{alias}" if alias else name
    public_names(name, run)
    servers = [Ollama(host) for host in hosts or (None,)]
    for server in servers:
        server.version()
    output.keep_log(run.folder / "log.txt")
    published = publish_run(
        output, run, name, servers, kind=kind, quant=quant, force=_reason(force)
    )
    if keep is not None:
        _delete_old(output, servers, name, keep)
    first = published[0]
    output.say(f"  ollama run {short(first.name)}")
    output.result(first.name, name=first.name, tag=first.tag)


def _reason(force: str | None) -> str:
    from ft2ollama.errors import UsageError

    if force is not None and not force.strip():
        raise UsageError("--force needs a reason", "it is written into the report", '--force "why"')
    return (force or "").strip()


def _delete_old(output: Output, servers: list[Ollama], name: str, keep: int) -> None:
    from ft2ollama.versions import delete_superfluous

    for server in servers:
        for tag in delete_superfluous(server, name, keep):
            output.done(f"deleted the old version {tag} at {server.host}")


def publish_run(
    output: Output,
    run: Run,
    name: str,
    servers: list[Ollama],
    *,
    kind: str | None = None,
    quant: str | None = None,
    force: str = "",
) -> list[Published]:
    """Export if needed, register, prove and move the name, with progress."""
    import json

    from ft2ollama.cli.export import base_of, export_run
    from ft2ollama.config import load_config
    from ft2ollama.export import check_trained
    from ft2ollama.modelfile import make_modelfile
    from ft2ollama.publish import publish as register
    from ft2ollama.quant_choice import wanted_quant

    check_trained(run)
    config = load_config(run.config_file).config
    template = json.loads((run.proof / "template.json").read_text("utf-8"))
    modelfile = make_modelfile(
        template,
        num_ctx=config.resolved_num_ctx,
        system=config.ollama_system,
        extra=config.ollama_parameters,
    )
    kind = kind or config.export_as
    quant = wanted_quant(config, kind, quant)
    exported = export_run(output, run, kind=kind, quant=quant, mode=config.export_mode)
    base = base_of(output, run)
    with _Screen(output) as screen:
        published = register(
            run, exported, base, modelfile, name,
            servers=servers, watch=screen.watch(), force=force,
        )  # fmt: skip
    for one, server in zip(published, servers, strict=True):
        _say(output, one, server)
    return published


def short(name: str) -> str:
    """`NAME` for `NAME:latest`, as people type it."""
    return name.removesuffix(":latest")


def _say(output: Output, published: Published, server: Ollama) -> None:
    if failures := published.proof.failures:
        output.warn(f"forced: {len(failures)} proof(s) failed; the reason is in the report")
    was = f" (was {published.previous})" if published.previous else ""
    output.done(
        f"published {published.name} -> {published.tag}{was}, Ollama {server.version()} "
        f"at {server.host}"
    )


_SIGNS = {
    "equal": "[bold green]✓[/]",
    "differs": "[bold red]✗[/]",
    "warning": "[bold yellow]![/]",
    "not run": "[dim]–[/]",
}


def _show_proof(output: Output, proof: Proof, tag: str, server: Ollama) -> None:
    """The table of proofs, and what is no failure but has to be known."""
    from rich.markup import escape

    output.say("")
    output.table(
        f"Is it what was trained?  {tag}, Ollama {server.version()}",
        ["", "proof", "compared", "found"],
        [
            [_SIGNS[one.verdict], one.proof, escape(one.compared), escape(one.found)]
            for one in proof.lines()
        ],
        proof="bold",
    )
    for text in proof.warnings:
        output.warn(text)


class _Screen:
    """One bar after the other for the steps of a publication."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._stack = ExitStack()
        self._title = ""
        self._meter: Any = None

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def watch(self) -> Any:
        """The callbacks for ft2ollama.publish."""
        from ft2ollama.publish import Watch

        return Watch(
            upload=lambda done, total: self._move("uploading to Ollama", "bytes", done, total),
            prompts=lambda done, total: self._move("prompt proof", "prompts", done, total),
            replies=lambda done, total: self._move("reply proof", "replies", done, total),
            effect=lambda done, total: self._move("effect proof", "words", done, total),
            status=lambda text: self._output.event("ollama", status=text),
            proved=self._proved,
        )

    def _proved(self, proof: Proof, tag: str, server: Ollama) -> None:
        self._stack.close()
        self._title = ""
        self._output.event("proof", tag=tag, host=server.host, failures=proof.failures)
        _show_proof(self._output, proof, tag, server)

    def _move(self, title: str, unit: str, done: int, total: int) -> None:
        if title != self._title:
            self._stack.close()
            self._title = title
            bar = (
                self._output.bytes(title) if unit == "bytes" else self._output.counting(title, unit)
            )
            self._meter = self._stack.enter_context(bar)
        self._meter(done, total)
