"""`ft2ollama loop ...`: how cycles went, and the decision where the gate asks for a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.states import Cycle

_SHOWN = 5


@click.group()
def loop() -> None:
    """See the cycles of retrain, and decide where the gate asks for a person."""


@loop.command()
@click.argument("name", required=False)
@click.pass_obj
def status(output: Output, name: str | None) -> None:
    """The live model, rows that wait, and the last cycles of every line (or of NAME)."""
    from ft2ollama.loop import history
    from ft2ollama.loop.ledger import Ledger

    with Ledger.open() as ledger:
        names = [name] if name else history.lines(ledger)
        for line in names:
            _show_line(output, ledger, line)
    if not names:
        output.say("no cycle yet: ft2ollama retrain CONFIG")


def _show_line(output: Output, ledger: Ledger, line: str) -> None:
    from rich.markup import escape

    from ft2ollama.loop import history
    from ft2ollama.loop.curate.store import pending_rids

    live = history.live(ledger, line)
    with ledger.read() as connection:
        waiting = len(pending_rids(connection, line))
    cycles = history.cycles(ledger, line, _SHOWN)
    output.title(line)
    output.say(f"  promoted last: {live.get('to_tag', 'not from a cycle')}; {waiting} rows wait")
    colours = {"PROMOTED": "green", "REJECTED": "yellow", "FAILED": "red", "NEEDS_HUMAN": "cyan"}
    rows = []
    for one in cycles:
        colour = colours.get(one.state, "bold")
        why = escape((one.error or "").splitlines()[0]) if one.error else ""
        rows.append([one.run_id, f"[{colour}]{one.state}[/]", _when(one.created_ms), why])
    output.table("", ["cycle", "state", "begun", "why"], rows)
    output.event("line", line=line, waiting=waiting, live=live.get("to_tag"), cycles=[
        {"run": one.run_id, "state": one.state, "error": one.error} for one in cycles
    ])  # fmt: skip


@loop.command()
@click.argument("run")
@click.pass_obj
def approve(output: Output, run: str) -> None:
    """Let a cycle that wants a person go on; the next retrain swaps."""
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.states import advance

    with Ledger.open() as ledger:
        cycle = _waiting(ledger, run)
        advance(ledger, cycle, "APPROVED", {"by": "a person"}, error=None)
    output.done(f"{cycle.run_id} is approved")
    output.say("  ft2ollama retrain CONFIG --resume     # swaps")
    output.result(cycle.run_id, run=cycle.run_id, state="APPROVED")


@loop.command()
@click.argument("run")
@click.option("--why", default="a person said no", help="Kept with the cycle.")
@click.pass_obj
def reject(output: Output, run: str, why: str) -> None:
    """Close a cycle that wants a person; its rows wait again."""
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.states import advance

    with Ledger.open() as ledger:
        cycle = _waiting(ledger, run)
        advance(ledger, cycle, "REJECTED", {"by": "a person", "why": why}, error=why)
    output.done(f"{cycle.run_id} is rejected; its rows wait again")
    output.result(cycle.run_id, run=cycle.run_id, state="REJECTED")


def _waiting(ledger: Ledger, run: str) -> Cycle:
    """The cycle, if it wants a person."""
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.states import find

    cycle = find(ledger, run)
    if cycle is None or cycle.state != "NEEDS_HUMAN":
        why = f"it is {cycle.state}" if cycle else "there is no such cycle"
        raise UsageError(f"{run} does not wait for a person", why, "ft2ollama loop status")
    return cycle


def _when(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))
