"""`ft2ollama loop ...` and `ft2ollama lineage`: how cycles went, what a model was made of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

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
    from ft2ollama.loop.rollback import last_rollback
    from ft2ollama.ollama_names import canonical_name

    live = history.live(ledger, line)
    with ledger.read() as connection:
        waiting = len(pending_rids(connection, line))
    cycles = history.cycles(ledger, line, _SHOWN)
    output.title(line)
    with ledger.read() as connection:
        back = last_rollback(connection, canonical_name(line)) is not None
    word = "rolled back to" if back else "promoted last:"
    output.say(f"  {word} {live.get('to_tag', 'not from a cycle')}; {waiting} rows wait")
    if back and cycles and (why := _cooling(ledger, cycles[0])):
        output.say(f"  {why}")
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


def _cooling(ledger: Ledger, newest: Cycle) -> str:
    """Why --if-due waits after a rollback, by the settings of the newest cycle."""
    from ft2ollama.loop.due import cooldown
    from ft2ollama.loop.ledger import now_ms
    from ft2ollama.loop.steps import config_of

    found = cooldown(ledger, newest.line, config_of(newest).trigger, now_ms())
    return found.why if found else ""


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
    """Close a cycle that wants a person; its rows wait again.

    Its version goes from Ollama and its weights from the disk (keep_rejected: true keeps them);
    its data, its log and the gate's findings stay.
    """
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.leftovers import tidy
    from ft2ollama.loop.place import cycles_folder
    from ft2ollama.loop.states import advance
    from ft2ollama.loop.steps import config_of
    from ft2ollama.ollama_api import Ollama

    with Ledger.open() as ledger:
        cycle = _waiting(ledger, run)
        config = config_of(cycle)
        advance(ledger, cycle, "REJECTED", {"by": "a person", "why": why}, error=why)
        freed = tidy(ledger, Ollama(config.host), config)
    output.done(f"{cycle.run_id} is rejected; its rows wait again")
    if str(freed):
        output.say(f"  removed: {freed}")
    output.say(f"  kept: its data, log and findings in {cycles_folder() / cycle.run_id}")
    output.result(cycle.run_id, run=cycle.run_id, state="REJECTED", freed=freed.bytes)


def _waiting(ledger: Ledger, run: str) -> Cycle:
    """The cycle, if it wants a person."""
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.states import find

    cycle = find(ledger, run)
    if cycle is None or cycle.state != "NEEDS_HUMAN":
        why = f"it is {cycle.state}" if cycle else "there is no such cycle"
        raise UsageError(f"{run} does not wait for a person", why, "ft2ollama loop status")
    return cycle


@click.command()
@click.argument("name", required=False)
@click.option("--record", metavar="RID", help="The other way: which models saw this row.")
@click.option(
    "--host", metavar="URL", help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434."
)
@click.pass_obj
def lineage(output: Output, name: str | None, record: str | None, host: str | None) -> None:
    """What the model NAME was made of: version, cycle, base, data set, rows."""
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.ledger import Ledger

    if (name is None) == (record is None):
        raise UsageError("give NAME or --record RID", "", "ft2ollama lineage shop")
    with Ledger.open() as ledger:
        if record is not None:
            _show_record(output, ledger, record)
        else:
            _show_model(output, ledger, str(name), host)


def _show_record(output: Output, ledger: Ledger, rid: str) -> None:
    from ft2ollama.loop.history import seen_by

    seen = seen_by(ledger, rid)
    columns = ["cycle", "of", "state", "verdict", "rule", "samples", "version"]
    rows: list[list[Any]] = [
        [one.run_id, one.line, one.state, one.verdict, one.rule, str(one.samples), one.tag]
        for one in seen
    ]
    if rows:
        output.table(f"row {rid}", columns, rows)
    else:
        output.say(f"no cycle has judged the row {rid}")
    output.result(str(len(rows)), record=rid, cycles=[dict(vars(one)) for one in seen])


def _show_model(output: Output, ledger: Ledger, name: str, host: str | None) -> None:
    from ft2ollama.aliases import digest_of
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.history import lineage as trace
    from ft2ollama.ollama_api import Ollama

    server = Ollama(host)
    digest = digest_of(server, name)
    found = trace(ledger, digest) if digest else None
    if digest is None or found is None:
        why = f"its digest is {digest[:12]}" if digest else "the server has no such model"
        raise UsageError(f"no cycle here made {name}", why, "ft2ollama loop status")
    kept = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())
    sources = ", ".join(f"{count} from {kind}" for kind, count in found.sources.items())
    output.fields([
        ("model", name, f"digest {found.digest[:12]}"),
        ("version", found.tag, found.state),
        ("cycle", found.run_id, f"of {found.line}"),
        ("base", found.base, ""),
        ("data set", found.dataset, ""),
        ("rows", kept, sources),
    ])  # fmt: skip
    output.result(found.run_id, **dict(vars(found)))


def _when(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))
