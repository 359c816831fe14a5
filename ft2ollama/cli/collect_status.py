"""`ft2ollama collect status`: what was collected, from where, and when."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.loop_words import lang_option, word
from ft2ollama.cli.output import Output, sparkline

if TYPE_CHECKING:
    from ft2ollama.language import Language
    from ft2ollama.loop.overview import Overview

_MONTH = 30


@click.command()
@click.option("--days", default=_MONTH, show_default=True, help="Days of the chart.")
@lang_option
@click.pass_obj
def status(output: Output, /, *, days: int, lang: str | None) -> None:
    """Count what is in the ledger: exchanges by source, feedback, what waits."""
    from ft2ollama.language import choose_language
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.overview import overview
    from ft2ollama.loop.proxy.spool import Spool, spool_file

    language = choose_language(lang)
    spool = Spool(spool_file(), ("proxy", "")).waiting()
    refused = Spool(spool_file(), ("proxy", "")).beside("refused").waiting()
    with Ledger.open() as ledger, ledger.read() as connection:
        found = overview(connection, max(1, days))
        output.event("status", ledger=ledger.name, spool_bytes=spool, refused_bytes=refused,
                     **dataclasses.asdict(found))  # fmt: skip
        if output.as_json:
            return
        output.say(word("ledger", language, name=ledger.name))
    _show(output, found, language)
    if spool:
        output.warn(word("spool", language, count=spool, path=spool_file()))
    if refused:
        output.warn(word("unwanted", language, path=spool_file().with_name("refused.jsonl")))
    total = sum(source.rows for source in found.sources)
    if not output.console.is_terminal:
        output.result(str(total))


def _show(output: Output, found: Overview, language: Language) -> None:
    if not found.sources:
        output.say(word("nothing yet", language))
        return
    names = ("source", "rows", "complete", "incomplete", "background", "erased")
    source, *counted = (word(name, language) for name in names)
    rows = [
        [one.kind, one.uri, *map(str, (one.rows, one.complete, one.incomplete, one.background,
                                       one.erased))]
        for one in found.sources
    ]  # fmt: skip
    output.table("", [source, "", *counted], rows, right=counted, **{source: "bold"})
    told = ", ".join(f"{count} {kind}" for kind, count in found.feedback.items())
    waits = word("waiting", language, count=found.waiting) if found.waiting else ""
    output.say(word("feedback", language, told=told or word("none", language)) + waits)
    if found.rejected:
        output.say(word("rejected rows", language, count=found.rejected))
    counts = [count for _, count in found.days]
    first, last = found.days[0][0], found.days[-1][0]
    most = word("most", language, count=max(counts))
    output.say(f"{first} {sparkline(counts, width=len(counts))} {last}, {most}")
