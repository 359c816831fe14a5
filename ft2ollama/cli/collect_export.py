"""`ft2ollama collect export FILE`: the ledger's rows for other tools."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ft2ollama.cli.loop_words import lang_option, word
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(["messages", "ragas", "golden"]),
    default="messages",
    show_default=True,
    help="Training conversations, a set for RAGAS, or a draft of the gate's golden set.",
)
@click.option("--model", default="", help="Only answers of this model.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only from this day on.")
@click.option("--human", is_flag=True, help="Only answers people wrote, corrected or liked.")
@click.option("--disliked", is_flag=True, help="Also answers with a thumb down.")
@lang_option
@click.pass_obj
def export(
    output: Output,
    /,
    *,
    file: Path,
    form: str,
    since: datetime.datetime | None,
    lang: str | None,
    **which: Any,
) -> None:
    """Write questions and answers to FILE, one JSON object a line.

    A correction takes the answer's place; answers with a thumb down are left out. Nothing else is
    removed: personal data stays in. A golden set is drafted from a third of what people wrote,
    corrected or liked.
    """
    from ft2ollama.language import choose_language
    from ft2ollama.loop.extract import FORMATS, Wanted, golden_draft, rows_to_export
    from ft2ollama.loop.ledger import Ledger

    language = choose_language(lang)
    wanted = Wanted(since_ms=int(since.timestamp() * 1000) if since else 0, **which)
    with Ledger.open() as ledger, ledger.read() as connection:
        if form == "golden":
            drafted, without = golden_draft(connection, wanted)
            count = _write(file, drafted)
            _tell_draft(output, file, (count, without), language)
        else:
            rows = rows_to_export(connection, wanted)
            count = _write(file, (FORMATS[form](row) for row in rows))
            output.done(word("exported", language, count=count, form=form))
    if not count:
        output.warn(word("empty file", language))
    output.result(str(file), path=str(file), rows=count, format=form)


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Row by row, for the ledger may be larger than the memory; how many."""
    from ft2ollama.files import replacing

    count = 0
    with replacing(file) as part, part.open("w", encoding="utf-8", newline="\n") as target:
        for count, row in enumerate(rows, 1):  # noqa: B007 - the last one is the count
            target.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def _tell_draft(output: Output, file: Path, counts: tuple[int, int], language: Language) -> None:
    """counts: questions, rows without a fact."""
    drafted, without = counts
    if without:
        output.warn(word("no fact", language, count=without))
    if drafted:
        output.done(word("drafted", language, count=drafted))
        output.warn(word("untaught", language))
        output.say(word("use draft", language, path=file))
