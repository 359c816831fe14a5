"""The `ft2ollama` command: one file per command, each of them options and a few calls.

Command files import only click at the top; the work's imports stand inside the functions, so that
`ft2ollama --help` starts in a fraction of a second.
"""

from __future__ import annotations

import sys

import click

from ft2ollama import __version__
from ft2ollama.cli import (
    chat,
    collect,
    data,
    demo,
    doctor,
    estimate,
    eval,
    export,
    history,
    init,
    lineage,
    loop,
    prove,
    publish,
    retrain,
    runs,
    schedule,
    train,
)
from ft2ollama.cli.output import Output

COMMANDS = (
    demo.demo,
    doctor.doctor,
    init.init,
    estimate.estimate,
    data.data,
    train.train,
    export.export,
    publish.publish,
    history.history,
    history.rollback,
    prove.prove,
    chat.chat,
    eval.eval_,
    runs.runs,
    collect.collect,
    retrain.retrain,
    schedule.schedule,
    loop.loop,
    lineage.lineage,
)


_GLOBAL = {"-v", "-vv", "--verbose", "-q", "--quiet", "--json", "--no-color"}


class _InOrder(click.Group):
    """Lists the commands in the order a user needs them; takes global options anywhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move global options to the front, up to a `--`."""
        end = args.index("--") if "--" in args else len(args)
        front = [arg for arg in args[:end] if arg in _GLOBAL]
        rest = [arg for arg in args[:end] if arg not in _GLOBAL]
        return super().parse_args(ctx, [*front, *rest, *args[end:]])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [str(command.name) for command in COMMANDS]


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="ft2ollama %(version)s")
@click.option("-v", "--verbose", count=True, help="Say more; -vv shows tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Say only errors.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines on stdout, one per event.")
@click.option("--no-color", is_flag=True, help="Plain text; NO_COLOR=1 does the same.")
@click.pass_context
def cli(ctx: click.Context, *, verbose: int, quiet: bool, as_json: bool, no_color: bool) -> None:
    """From data to `ollama run my-model`, and proof that what runs is what was trained.

    Results go to stdout, everything for people to stderr. Exit codes: 0 done, 1 the job failed,
    2 wrong usage or config, 3 a check said no and nothing was published, 4 the machine lacks
    something, 130 interrupted.
    """
    ctx.obj = Output(verbose=verbose, quiet=quiet, as_json=as_json, no_color=no_color)


for _command in COMMANDS:
    cli.add_command(_command)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    from ft2ollama.cli.failure import run_and_exit_code

    sys.exit(run_and_exit_code(cli, args))
