"""`ft2ollama loop ...`: how cycles went, and the decision where the gate asks for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ft2ollama.cli import loop_status
from ft2ollama.cli.loop_answers import answers
from ft2ollama.cli.loop_words import lang_option, word
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.states import Cycle


@click.group()
def loop() -> None:
    """See the cycles of retrain, and decide where the gate asks for a person."""


loop.add_command(loop_status.status)
loop.add_command(answers)


@loop.command()
@click.argument("run")
@lang_option
@click.pass_obj
def approve(output: Output, run: str, *, lang: str | None) -> None:
    """Let a cycle that wants a person go on; the next retrain swaps."""
    from ft2ollama.language import choose_language
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.states import advance

    with Ledger.open() as ledger:
        cycle = _waiting(ledger, run)
        advance(ledger, cycle, "APPROVED", {"by": "a person"}, error=None)
    language = choose_language(lang)
    output.done(word("approved", language, run=cycle.run_id))
    output.say(word("swaps", language))
    output.result(cycle.run_id, run=cycle.run_id, state="APPROVED")


@loop.command()
@click.argument("run")
@click.option("--why", default="a person said no", help="Kept with the cycle.")
@lang_option
@click.pass_obj
def reject(output: Output, run: str, why: str, *, lang: str | None) -> None:
    """Close a cycle that wants a person; its rows wait again."""
    from ft2ollama.language import choose_language
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.states import advance

    with Ledger.open() as ledger:
        cycle = _waiting(ledger, run)
        advance(ledger, cycle, "REJECTED", {"by": "a person", "why": why}, error=why)
    output.done(word("rejected", choose_language(lang), run=cycle.run_id))
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
