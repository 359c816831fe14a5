"""`ft2ollama collect forget`: erase what a person wants erased, and name the models that saw it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.loop_words import lang_option, word
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language
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
@lang_option
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
    lang: str | None,
    **how: object,
) -> None:
    """Erase exchanges and all that was said of them, for good.

    Several options narrow the choice. The rows' places stay, without text, so that every count
    still adds up; a later import does not bring the text back. Models that were trained on it are
    listed: the next retraining is without it.
    """
    from ft2ollama.errors import UsageError
    from ft2ollama.language import choose_language
    from ft2ollama.loop.forget import Choice, find
    from ft2ollama.loop.forget import forget as erase
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.proxy.spool import Spool, spool_file
    from ft2ollama.loop.proxy.store import drain_into

    language = choose_language(lang)
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
        _show(output, rows, language)
        if not how["dry_run"] and _agreed(output, rows, language, yes=bool(how["yes"])):
            trained = erase(ledger, choice, rows, str(how["reason"]))
            _report(output, rows, trained, language)


def _agreed(output: Output, rows: Sequence[Row], language: Language, *, yes: bool) -> bool:
    if yes or not rows:
        return True
    if output.as_json:
        from ft2ollama.errors import UsageError

        raise UsageError("this cannot be undone", f"{len(rows)} rows", "add --yes")
    return click.confirm(word("erase?", language, count=len(rows)), err=True)


def _show(output: Output, rows: Sequence[Row], language: Language) -> None:
    output.event("found", rids=[row.rid for row in rows])
    if not rows:
        output.say(word("no such rows", language))
        return
    lines = []
    for row in rows[:_SHOWN]:
        when = datetime.datetime.fromtimestamp(row.ts_ms / 1000).astimezone()
        question = row.question if len(row.question) <= 50 else f"{row.question[:50]}…"
        lines.append([row.rid, f"{when:%Y-%m-%d %H:%M}", row.model, question.replace("[", "\\[")])
    columns = ["rid", *(word(name, language) for name in ("when", "model", "asked"))]
    output.table("", columns, lines)
    if len(rows) > _SHOWN:
        output.say(word("and more", language, count=len(rows) - _SHOWN))


def _report(
    output: Output, rows: Sequence[Row], trained: Sequence[Trained], language: Language
) -> None:
    from ft2ollama.loop.texts import STATES

    for one in trained:
        state = STATES[one.state][language]
        names = ", ".join(one.names) or word("unpublished", language, state=state)
        output.warn(word("in run", language, count=one.rows, run=one.run_id, line=one.line,
                         names=names))  # fmt: skip
        for file in one.files:
            output.say(word("its data", language, path=file))
        output.event("trained", run=one.run_id, line=one.line, state=one.state, rows=one.rows,
                     names=one.names, files=[str(file) for file in one.files])  # fmt: skip
    if rows and not trained:
        output.say(word("no model", language))
    output.done(word("are erased", language, count=len(rows)))
    output.result(str(len(rows)), erased=len(rows), runs=[one.run_id for one in trained])
