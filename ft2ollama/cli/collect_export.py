"""`ft2ollama collect export FILE`: the ledger's rows for other tools."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import click

from ft2ollama.cli.output import Output


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(["messages", "ragas"]),
    default="messages",
    show_default=True,
    help="Training conversations, or an evaluation set for RAGAS.",
)
@click.option("--model", default="", help="Only answers of this model.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only from this day on.")
@click.option("--human", is_flag=True, help="Only answers people wrote, corrected or liked.")
@click.option("--disliked", is_flag=True, help="Also answers with a thumb down.")
@click.pass_obj
def export(
    output: Output,
    /,
    *,
    file: Path,
    form: str,
    model: str,
    since: datetime.datetime | None,
    human: bool,
    disliked: bool,
) -> None:
    """Write questions and answers to FILE, one JSON object a line.

    A correction takes the answer's place; answers with a thumb down are left out. Nothing else is
    removed: personal data stays in.
    """
    from ft2ollama.files import replacing
    from ft2ollama.loop.extract import FORMATS, Wanted, rows_to_export
    from ft2ollama.loop.ledger import Ledger

    since_ms = int(since.timestamp() * 1000) if since else 0
    wanted = Wanted(model, since_ms, disliked=disliked, human=human)
    count = 0
    with (
        Ledger.open() as ledger,
        ledger.read() as connection,
        replacing(file) as part,
        part.open("w", encoding="utf-8", newline="\n") as target,
    ):
        for row in rows_to_export(connection, wanted):
            target.write(json.dumps(FORMATS[form](row), ensure_ascii=False) + "\n")
            count += 1
    if not count:
        output.warn("no row of the ledger is wanted; the file is empty: ft2ollama collect status")
    output.done(f"{count} exchanges as {form}")
    output.result(str(file), path=str(file), rows=count, format=form)
