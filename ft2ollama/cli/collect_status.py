"""`ft2ollama collect status`: what was collected, from where, and when."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output, sparkline

if TYPE_CHECKING:
    from ft2ollama.loop.overview import Overview

_MONTH = 30


@click.command()
@click.option("--days", default=_MONTH, show_default=True, help="Days of the chart.")
@click.pass_obj
def status(output: Output, /, *, days: int) -> None:
    """Count what is in the ledger: exchanges by source, feedback, what waits."""
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.overview import overview
    from ft2ollama.loop.proxy.spool import Spool, spool_file

    spool = Spool(spool_file(), ("proxy", "")).waiting()
    refused = Spool(spool_file(), ("proxy", "")).beside("refused").waiting()
    with Ledger.open() as ledger, ledger.read() as connection:
        found = overview(connection, max(1, days))
        output.event("status", ledger=ledger.name, spool_bytes=spool, refused_bytes=refused,
                     **dataclasses.asdict(found))  # fmt: skip
        if output.as_json:
            return
        output.say(f"ledger: {ledger.name}")
    _show(output, found)
    if spool:
        output.warn(f"{spool} bytes wait in the spool: {spool_file()}; a proxy writes them")
    if refused:
        output.warn(f"records that no ledger takes: {spool_file().with_name('refused.jsonl')}")
    total = sum(source.rows for source in found.sources)
    if not output.console.is_terminal:
        output.result(str(total))


def _show(output: Output, found: Overview) -> None:
    if not found.sources:
        output.say("nothing yet: ft2ollama collect serve --consent all, or collect import FILE")
        return
    columns = ["source", "", "rows", "complete", "incomplete", "background", "erased"]
    rows = [
        [one.kind, one.uri, *map(str, (one.rows, one.complete, one.incomplete, one.background,
                                       one.erased))]
        for one in found.sources
    ]  # fmt: skip
    output.table("", columns, rows, right=columns[2:], source="bold")
    told = ", ".join(f"{count} {kind}" for kind, count in found.feedback.items()) or "none"
    waits = f"; {found.waiting} wait for their answer" if found.waiting else ""
    output.say(f"feedback: {told}{waits}")
    if found.rejected:
        output.say(f"rejected on import: {found.rejected}")
    counts = [count for _, count in found.days]
    first, last = found.days[0][0], found.days[-1][0]
    output.say(f"{first} {sparkline(counts, width=len(counts))} {last}, most {max(counts)} a day")
