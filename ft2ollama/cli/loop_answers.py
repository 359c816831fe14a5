"""`ft2ollama loop answers RUN`: what the old and the new model said to the gate's questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.loop_words import lang_option, word
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language
    from ft2ollama.loop.answers import Both


@click.command()
@click.argument("run")
@lang_option
@click.pass_obj
def answers(output: Output, run: str, *, lang: str | None) -> None:
    """Show both models' answers of cycle RUN, new questions first, then what changed most."""
    from ft2ollama.errors import UsageError
    from ft2ollama.language import choose_language
    from ft2ollama.loop.answers import both_answers
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.states import find

    language = choose_language(lang)
    with Ledger.open() as ledger:
        cycle = find(ledger, run)
        if cycle is None:
            raise UsageError(f"there is no cycle {run}", "", "ft2ollama loop status")
        found = both_answers(ledger, cycle)
    if not found:
        output.say(word("no answers", language, run=run))
    show_answers(output, found, language)
    for one in found:
        output.event("answer", **vars(one))
    if output.as_json or found:
        output.result(word("answers", language, count=len(found), run=run), run=run,
                      count=len(found))  # fmt: skip


def show_answers(output: Output, found: Sequence[Both], language: Language) -> None:
    """Each question with what is wanted, both answers, and how near each comes to it (0 to 1)."""
    for one in found:
        output.say("")
        _line(output, one.set_name, one.question, "bold")
        _line(output, word("wanted", language), one.wanted, "green")
        score = one.score - one.gain
        _line(output, f"{word('before', language)} {score:.2f}", one.before, "dim")
        _line(output, f"{word('after', language)} {one.score:.2f}", one.after, "")


_NAMES, _TEXT = 12, 300  # columns of the names; characters of a text


def _line(output: Output, name: str, text: str, style: str) -> None:
    from rich.table import Table
    from rich.text import Text

    line = " ".join(text.split())
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=_NAMES)
    grid.add_column(overflow="fold")
    cut = line if len(line) <= _TEXT else f"{line[:_TEXT]}…"
    grid.add_row(Text(f"  {name}", style="dim"), Text(cut, style=style))
    output.console.print(grid)
