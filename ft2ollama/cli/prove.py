"""`ft2ollama prove NAME --reference R`: what is wrong with a model that talks garbage in Ollama."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.prove import Finding, Reference, Served, Verdict

_MARKS = {"ok": "[green]✓ ok[/]", "wrong": "[red]✗ wrong[/]", "unknown": "[yellow]? not checked[/]"}


@click.command()
@click.argument("name")
@click.option(
    "--reference",
    metavar="R",
    help="What the model should be: a Hugging Face folder or hub id, or a .gguf file. Not needed "
    "for a model that ft2ollama published and whose run is here.",
)
@click.option(
    "--adapter",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="PEFT folder, where the fine-tune is an adapter on the reference.",
)
@click.option("--template", metavar="FAMILY", help="The template it was trained with, if another.")
@click.option(
    "--host", metavar="URL", help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434."
)
@click.option(
    "--hub",
    type=click.Choice(["huggingface", "modelscope"]),
    default="huggingface",
    show_default=True,
    help="Where a hub id is fetched from.",
)
@click.option("--no-replies", is_flag=True, help="Skip the replies, which need torch.")
@click.pass_obj
def prove(  # noqa: PLR0913 - one parameter per option
    output: Output,
    name: str,
    reference: str | None,
    adapter: Path | None,
    template: str | None,
    host: str | None,
    hub: str,
    *,
    no_replies: bool,
) -> int:
    """Find out why a model in Ollama talks garbage: anybody's model, no run needed.

    Compares template, BOS, stop words, tokens, weights, parameters and replies with the reference,
    and prints what to paste. Exit code 3: something is wrong.
    """
    from ft2ollama.train.threads import choose_threads, set_threads

    set_threads(choose_threads(None))
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.prove import look

    server = Ollama(host)
    server.version()
    served = look(server, name)
    if reference is None:
        wanted = _of_lineage(output, served)
    else:
        wanted = _of_option(output, reference, adapter, template, hub)
    verdict = _examine(output, served, wanted, replies=not no_replies)
    return _tell(output, served, wanted, verdict)


def _of_option(
    output: Output, ref: str, adapter: Path | None, template: str | None, hub: str
) -> Reference:
    from ft2ollama.cli.train import resolve
    from ft2ollama.prove import open_reference

    return open_reference(resolve(output, ref, hub), adapter=adapter, family=template)


def _of_lineage(output: Output, served: Served) -> Reference:
    """The run that made the model, by what we wrote into its file."""
    from ft2ollama.cli.export import base_of
    from ft2ollama.config import load_config
    from ft2ollama.errors import UsageError
    from ft2ollama.prove import reference_of_run
    from ft2ollama.runs import find_run

    made_by = served.lineage.get("run")
    if not made_by:
        raise UsageError(
            f"what should {served.name} be?",
            "it was not made by ft2ollama, so only you know what it was trained from",
            f"ft2ollama prove {served.name} --reference FOLDER_OR_HUB_ID [--adapter FOLDER]",
        )
    try:
        run = find_run(made_by)
    except UsageError as error:
        raise UsageError(
            f"the run that made {served.name} is not here",
            f"run {made_by}: {error.why}",
            f"ft2ollama prove {served.name} --reference FOLDER_OR_HUB_ID [--adapter FOLDER]",
        ) from error
    return reference_of_run(run, base_of(output, run), load_config(run.config_file).config)


def _examine(output: Output, served: Served, wanted: Reference, *, replies: bool) -> Verdict:
    """With one bar or spinner after the other."""
    from contextlib import ExitStack

    from ft2ollama.prove import examine

    with ExitStack() as stack:

        def step(text: str) -> None:
            stack.close()
            stack.enter_context(output.waiting(text))

        return examine(served, wanted, replies=replies, step=step)


def _tell(output: Output, served: Served, wanted: Reference, verdict: Verdict) -> int:
    from dataclasses import asdict

    from rich.markup import escape

    from ft2ollama.errors import ExitCode

    against = str(wanted.base.ref) + (f" + {wanted.adapter}" if wanted.adapter else "")
    rows = []
    for check in verdict.checks:
        output.event("check", name=check.name, state=check.state, note=check.note)
        rows.append([check.name, _MARKS[check.state], escape(check.note)])
    output.title(f"{served.name} against {against}")
    output.table("", ["check", "", "what was found"], rows)
    for number, finding in enumerate(verdict.findings, 1):
        output.event("finding", **asdict(finding))
        _say(output, number, finding)
    if verdict.healthy:
        output.done(f"{served.name} is what the reference says, as far as it could be checked")
        output.result(served.name, name=served.name, healthy=True)
        return int(ExitCode.DONE)
    _tell_remedy(output, served, verdict)
    return int(ExitCode.GATE)


def _say(output: Output, number: int, finding: Finding) -> None:
    from rich.markup import escape

    output.console.print(f"[bold red]{number}. {escape(finding.what)}[/]")
    for line in finding.why.splitlines():
        output.say(f"   {line}")
    output.console.print(f"   [green]fix:[/] {escape(finding.fix)}\n")


def _tell_remedy(output: Output, served: Served, verdict: Verdict) -> None:
    """The Modelfile goes to stdout, so that `> Modelfile` saves it."""
    found = verdict.remedy
    if found.problem:
        output.warn(f"no TEMPLATE could be made: {found.problem}")
    for line in found.explain:
        output.say(f"  note: {line}")
    if found.modelfile:
        model = served.name.partition(":")[0]
        output.say(f"save this as Modelfile, then: ollama create {model}-fixed -f Modelfile\n")
    output.result(
        found.modelfile.rstrip("\n") or verdict.findings[0].code,
        name=served.name,
        healthy=False,
        first=verdict.findings[0].code,
        modelfile=found.modelfile,
    )
