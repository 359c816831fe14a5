"""`ft2ollama publish NAME`: a run -> a proved model in Ollama under a public name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ft2ollama.cli.bars import Bars
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.candidate import Watch
    from ft2ollama.config.schema import Config
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.proof import Proof
    from ft2ollama.publish import Published
    from ft2ollama.runs import Run
    from ft2ollama.template import ChatTemplate


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
    from ft2ollama.cli.publish_hints import show_usage, usage
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
    for one in published:
        show_usage(output, short(one.name), one.host, one.parameters)
    output.result(
        first.name,
        name=first.name,
        tag=first.tag,
        servers=[usage(short(one.name), one.host, one.parameters) for one in published],
    )


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
    from dataclasses import asdict, replace

    from ft2ollama.candidate import Goods
    from ft2ollama.cli.export import base_of, export_run
    from ft2ollama.config import load_config
    from ft2ollama.examples import read_examples
    from ft2ollama.export import check_trained
    from ft2ollama.modelfile import modelfile_for
    from ft2ollama.preflight import check_servers
    from ft2ollama.publish import licenses
    from ft2ollama.publish import publish as register
    from ft2ollama.quant_choice import wanted_quant
    from ft2ollama.served import limits

    check_trained(run)
    config = load_config(run.config_file).config
    base = base_of(output, run)
    template = _template(output, run, config)
    modelfile = modelfile_for(asdict(template), config, base.folder)
    examples = read_examples(config.ollama_messages)
    kind = kind or config.export_as
    check_servers(servers, base.folder, adapter=kind == "adapter")
    quant = wanted_quant(config, kind, quant)
    exported = export_run(output, run, kind=kind, quant=quant, mode=config.export_mode)
    modelfile = replace(modelfile, license=licenses(run, exported, base), messages=examples)
    with Bars(output) as bars:
        goods = Goods(run, exported, base, modelfile)
        published = register(goods, name, servers=servers, watch=_watch(output, bars), force=force)
    for one, server in zip(published, servers, strict=True):
        _say(output, one, server)
    for line in limits(template):
        output.warn(line)
    return published


def _template(output: Output, run: Run, config: Config) -> ChatTemplate:
    """The run's template with what Ollama needs of it."""
    from ft2ollama.served import publishable, read_template

    template = read_template(run.proof / "template.json")
    with output.waiting("finding Ollama's template"):
        return publishable(template, thinking=config.enable_thinking)


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


def _watch(output: Output, bars: Bars) -> Watch:
    """The callbacks of a publication."""
    from ft2ollama.candidate import Watch

    def proved(proof: Proof, tag: str, server: Ollama) -> None:
        bars.end()
        output.event("proof", tag=tag, host=server.host, failures=proof.failures)
        _show_proof(output, proof, tag, server)

    return Watch(
        upload=lambda done, of: bars.move("uploading to Ollama", done, of, "bytes"),
        prompts=lambda done, of: bars.move("prompt proof", done, of, "prompts"),
        replies=lambda done, of: bars.move("reply proof", done, of, "replies"),
        effect=lambda done, of: bars.move("effect proof", done, of, "words"),
        status=lambda text: output.event("ollama", status=text),
        warn=output.warn,
        proved=proved,
    )
