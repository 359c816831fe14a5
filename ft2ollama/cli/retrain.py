"""`ft2ollama retrain CONFIG`: collected rows -> a judged model under its name, or why not."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.loop.cycle import Outcome
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.settings import RetrainConfig
    from ft2ollama.loop.states import Cycle


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--if-due", is_flag=True, help="Begin only when enough is new; for timers.")
@click.option("--dry-run", is_flag=True, help="Say what is due and what would be trained on.")
@click.option("--resume", is_flag=True, help="Go on with an open cycle, begin none.")
@click.pass_obj
def retrain(output: Output, config: Path, *, if_due: bool, dry_run: bool, resume: bool) -> None:
    """Train on what was collected, hold the new model against the old, swap if it is better.

    Goes on with a cycle that was interrupted. Exit code 0: swapped, or nothing was due; 3: the
    gate said no, or wants a person. Example: ft2ollama retrain shop.yaml --if-due
    """
    from ft2ollama.train.threads import choose_threads, set_threads

    set_threads(choose_threads(None))
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.place import line_lock
    from ft2ollama.loop.settings import read_config

    wanted = read_config(config)
    if dry_run:
        with Ledger.open() as ledger:
            _preview(output, ledger, wanted)
        return
    with line_lock(wanted.name) as lock:
        if lock is None:
            output.say(f"another run is at work on {wanted.name}")
            output.result("busy", line=wanted.name, state="busy")
            return
        with Ledger.open() as ledger:
            outcome = _retrain(output, ledger, wanted, lock, config, if_due, resume)
            code = _show(output, ledger, wanted.name, outcome)
    raise click.exceptions.Exit(code)


def _retrain(
    output: Output,
    ledger: Ledger,
    wanted: RetrainConfig,
    lock: int,
    path: Path,
    if_due: bool,
    resume: bool,
) -> Outcome:
    from ft2ollama.errors import Interrupted
    from ft2ollama.loop.cycle import retrain as work
    from ft2ollama.loop.place import Place
    from ft2ollama.ollama_api import Ollama

    place = Place(ledger, Ollama(wanted.host), lock, output.say)
    try:
        return work(place, wanted, if_due=if_due, resume=resume)
    except (KeyboardInterrupt, Interrupted) as error:
        again = f"ft2ollama retrain {shlex.quote(str(path))} --resume"
        raise Interrupted("stopped by Ctrl-C", "what was done is kept", again) from error


def _show(output: Output, ledger: Ledger, line: str, outcome: Outcome) -> int:
    """How it ended; the exit code."""
    from ft2ollama.errors import ExitCode
    from ft2ollama.loop.swap import deployment_of

    cycle = outcome.cycle
    if cycle is None:
        output.done(f"nothing due: {outcome.why}")
        output.result("nothing due", line=line, state="idle", why=outcome.why)
        return ExitCode.DONE
    show_gate(output, ledger, cycle)
    if cycle.state == "PROMOTED":
        output.done(f"{line} is {cycle.run_id} now")
        first = not deployment_of(ledger, cycle.run_id)["from_digest"]
        note = "     # to the untuned base" if first else ""
        output.say(f"  back: ft2ollama rollback {line}{note}")
    elif cycle.state == "NEEDS_HUMAN":
        output.warn(f"cycle {cycle.run_id} wants a person: {cycle.error}")
        output.say(f"  ft2ollama loop approve {cycle.run_id}     # or: loop reject")
    else:
        output.warn(f"cycle {cycle.run_id} was not promoted: {cycle.error}; its rows wait again")
    output.result(cycle.run_id, line=line, run=cycle.run_id, state=cycle.state, why=cycle.error)
    return ExitCode.DONE if cycle.state == "PROMOTED" else ExitCode.GATE


def show_gate(output: Output, ledger: Ledger, cycle: Cycle) -> None:
    """The gate's rules, each with what was found."""
    from rich.markup import escape

    from ft2ollama.loop.history import rulings

    found = rulings(ledger, cycle.run_id)
    if not found:
        return
    signs = {True: "[green]✓[/]", False: "[red]✗[/]"}
    rows = [[signs[one.passed], one.rule, escape(one.why)] for one in found]
    output.table(f"cycle {cycle.run_id}: is it better?", ["", "rule", "found"], rows, rule="bold")


def _preview(output: Output, ledger: Ledger, wanted: RetrainConfig) -> None:
    """What a cycle would take, without a trace in the ledger."""
    from ft2ollama.loop import states
    from ft2ollama.loop.curate.pipeline import curate
    from ft2ollama.loop.curate.rules import Needs
    from ft2ollama.loop.curate.store import read_inputs
    from ft2ollama.loop.due import is_due
    from ft2ollama.loop.goods import training_text
    from ft2ollama.loop.ledger import now_ms

    training_text(wanted.train)
    now = now_ms()
    due = is_due(ledger, wanted.name, wanted.trigger, now)
    if cycle := states.open_cycle(ledger, wanted.name):
        output.say(f"cycle {cycle.run_id} is open, {cycle.state}: retrain goes on with it")
    output.say(f"{'due' if due.due else 'not due'}: {due.why}")
    with ledger.read() as connection:
        inputs = read_inputs(connection, wanted.name, Needs(wanted.curate, now), wanted.seed)
    found = curate(inputs)
    counts = found.counts
    output.fields([
        ("rows", str(counts["pending"]), ""),
        ("kept", str(counts["kept"]), f"{len(found.train)} samples to train on"),
        ("for the gate", str(counts["eval_fresh"]), "held out"),
        ("left out", str(sum(counts["dropped"].values()) + counts["superseded"]),
         ", ".join(f"{rule} {count}" for rule, count in counts["dropped"].items())),
    ])  # fmt: skip
    for note in found.notes:
        output.warn(note)
    output.result("due" if due.due else "not due", due=due.due, why=due.why, counts=counts)
