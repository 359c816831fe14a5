"""`ft2ollama collect forget`: erase what a person wants erased, and name the models that saw it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.loop.forget import Row, Trained

_SHOWN = 5


@click.command()
@click.option("--rid", multiple=True, help="This exchange (several may be given).")
@click.option("--chat", default="", metavar="ID", help="Everything of this chat.")
@click.option("--user", default="", metavar="ID", help="Everything of this person.")
@click.option("--text", default="", help="Everything in which this text occurs.")
@click.option("--expired", is_flag=True, help="What was to be kept for a time that is over.")
@click.option("--reason", default="asked for", show_default=True, help="Kept with the erasure.")
@click.option("--dry-run", is_flag=True, help="Only show what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget(
    output: Output,
    /,
    *,
    rid: tuple[str, ...],
    chat: str,
    user: str,
    text: str,
    expired: bool,
    **how: object,
) -> None:
    """Erase exchanges and all that was said of them, for good.

    Several options narrow the choice. The rows' places stay, without text, so that every count
    still adds up; a later import does not bring the text back. Models that were trained on it are
    listed: the next retraining is without it.
    """
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.forget import Choice, find
    from ft2ollama.loop.forget import forget as erase
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.proxy.spool import Spool, spool_file
    from ft2ollama.loop.proxy.store import drain_into

    choice = Choice(rid, chat, user, text, expired)
    if choice == Choice():
        raise UsageError(
            "what is to be erased?",
            "no option says it",
            "--user ID, --chat ID, --rid RID, --text TEXT or --expired",
        )
    with Ledger.open() as ledger:
        drain_into(ledger, Spool(spool_file(), ("proxy", "")))
        with ledger.read() as connection:
            rows = find(connection, choice)
        _show(output, rows)
        if not how["dry_run"] and _agreed(output, rows, yes=bool(how["yes"])):
            _report(output, rows, erase(ledger, choice, rows, str(how["reason"])))


def _agreed(output: Output, rows: Sequence[Row], *, yes: bool) -> bool:
    if yes or not rows:
        return True
    if output.as_json:
        from ft2ollama.errors import UsageError

        raise UsageError("this cannot be undone", f"{len(rows)} rows", "add --yes")
    return click.confirm(f"Erase {len(rows)} exchanges? This cannot be undone", err=True)


def _show(output: Output, rows: Sequence[Row]) -> None:
    output.event("found", rids=[row.rid for row in rows])
    if not rows:
        output.say("nothing in the ledger is like that")
        return
    lines = []
    for row in rows[:_SHOWN]:
        when = datetime.datetime.fromtimestamp(row.ts_ms / 1000).astimezone()
        question = row.question if len(row.question) <= 50 else f"{row.question[:50]}…"
        lines.append([row.rid, f"{when:%Y-%m-%d %H:%M}", row.model, question.replace("[", "\\[")])
    output.table("", ["rid", "when", "model", "question"], lines)
    if len(rows) > _SHOWN:
        output.say(f"  and {len(rows) - _SHOWN} more")


def _report(output: Output, rows: Sequence[Row], trained: Sequence[Trained]) -> None:
    for one in trained:
        names = ", ".join(one.names) or f"not published, {one.state.lower()}"
        output.warn(f"{one.rows} of them are in run {one.run_id} of {one.line}: {names}")
        for file in one.files:
            output.say(f"  still holds the text: {file}")
        output.event("trained", run=one.run_id, line=one.line, state=one.state, rows=one.rows,
                     names=one.names, files=[str(file) for file in one.files])  # fmt: skip
    if rows and not trained:
        output.say("no model was trained on them, or judged by them")
    output.done(f"{len(rows)} exchanges are erased")
    output.result(str(len(rows)), erased=len(rows), runs=[one.run_id for one in trained])
