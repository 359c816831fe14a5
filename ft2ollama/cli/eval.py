"""`ft2ollama eval [RUN]`: base, tuned and published model on the same held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ft2ollama.cli.bars import Bars
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.base import Base
    from ft2ollama.config import Config
    from ft2ollama.data.render import Renderer
    from ft2ollama.evaluate.columns import Column
    from ft2ollama.evaluate.gather import Gathered
    from ft2ollama.evaluate.material import Item
    from ft2ollama.evaluate.speakers import Job
    from ft2ollama.runs import Run

_SHOWN = 60  # characters of a reply in the table
_COLUMNS = ("base", "tuned", "published")


@click.command("eval")
@click.argument("run", default="latest")
@click.option("--against", metavar="NAME", help="A model in Ollama; default: RUN as published.")
@click.option("--base", "base_name", metavar="NAME", help="Ask the base in Ollama, under NAME.")
@click.option("--data", metavar="FILE", help="Rows to measure on; default: what RUN held out.")
@click.option(
    "--questions",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help='Lines {"question": ..., "expect": [...]}; default: proof_prompts of the config.',
)
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="The most rows, and the most questions.",
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="The most tokens of a reply.",
)
@click.option("--skip", type=click.Choice(_COLUMNS), multiple=True, help="Leave a column out.")
@click.option(
    "--host", metavar="URL", help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434."
)
@click.pass_obj
def eval_(  # noqa: PLR0913 - one parameter per option
    output: Output,
    run: str,
    against: str | None,
    base_name: str | None,
    data: str | None,
    questions: Path | None,
    rows: int,
    tokens: int,
    skip: tuple[str, ...],
    host: str | None,
) -> None:
    """Compare the base, RUN and its published model on rows that were held out.

    Loss, chrF, exact answers, facts, endings, tokens/s. The base and RUN reply in transformers, the
    published model in Ollama, all greedily and to the same rows. Writes eval/eval.json into the run
    folder and prints its path.
    """
    from ft2ollama.train.threads import choose_threads, set_threads

    set_threads(choose_threads(None))
    from ft2ollama.config import load_config
    from ft2ollama.errors import JobError
    from ft2ollama.evaluate.gather import Wanted, gather
    from ft2ollama.evaluate.report import write_report
    from ft2ollama.evaluate.speakers import Job
    from ft2ollama.export import check_trained
    from ft2ollama.runs import find_run
    from ft2ollama.served import read_template

    found = find_run(run)
    check_trained(found)
    config, template = (
        load_config(found.config_file).config,
        read_template(found.proof / "template.json"),
    )
    base, why = _base(output, found, config)
    renderer = _renderer(found, config, base)
    with output.waiting("reading the data"):
        gathered = gather(found, config, renderer, Wanted(data, questions, rows, tokens))
    _announce(output, found, gathered)
    with Bars(output) as bars:
        job = Job(found, config, template, gathered.material, bars.move)
        wanted = [name for name in _COLUMNS if name not in skip]
        columns = _local(job, wanted, renderer, base, why, base_in_ollama=base_name is not None)
        columns = _with_ollama(job, wanted, columns, base_name, against, host)
    for column in columns:
        output.event("column", **{**column.as_dict(), "replies": len(column.replies)})
    if all(column.missing for column in columns):
        raise JobError("nothing could be measured", "\n".join(c.missing for c in columns))
    _show(output, columns)
    path = write_report(found, gathered, columns)
    output.result(str(path), path=str(path), run=found.id)


def _base(output: Output, run: Run, config: Config) -> tuple[Base | None, str]:
    """(the base, "") or (None, why it is not here); the figures of the others do not need it."""
    from ft2ollama.cli.export import base_of
    from ft2ollama.cli.train import resolve_config
    from ft2ollama.errors import UserError
    from ft2ollama.evaluate.speakers import reason

    try:
        if run.is_whole:
            return resolve_config(output, config, run.record["base"]["ref"]), ""
        return base_of(output, run), ""
    except UserError as error:
        return None, reason(error)


def _renderer(run: Run, config: Config, base: Base | None) -> Renderer | None:
    """What made the training's samples; None without a tokenizer."""
    from ft2ollama.data.from_config import rules_of
    from ft2ollama.data.render import Renderer, Tokenizer
    from ft2ollama.served import read_template

    folders = [base.tokenizer_folder] if base is not None else []
    folders += [run.model] if run.is_whole else []
    folder = next((one for one in folders if (one / "tokenizer.json").is_file()), None)
    if folder is None:
        return None
    return Renderer(read_template(run.proof / "template.json"), Tokenizer(folder), rules_of(config))


def _announce(output: Output, run: Run, gathered: Gathered) -> None:
    material = gathered.material
    rows = sum(item.reference is not None for item in material.items)
    questions = len(material.items) - rows
    limit = sum(item.limit for item in material.items)
    parts = []
    if gathered.rows_of:
        parts.append(f"{rows} of {material.held} held-out rows ({Path(gathered.rows_of).name})")
    if questions:
        parts.append(f"{questions} questions ({Path(gathered.questions_of).name})")
    output.say(f"{run.id}: {', '.join(parts)}")
    output.say(f"  at most {limit:,} tokens are written for a column")
    for note in material.notes:
        output.warn(note)


def _local(
    job: Job,
    wanted: list[str],
    renderer: Renderer | None,
    base: Base | None,
    why: str,
    *,
    base_in_ollama: bool,
) -> list[Column]:
    """The columns of transformers."""
    from ft2ollama.evaluate.columns import Column
    from ft2ollama.evaluate.speakers import LOCAL, in_transformers
    from ft2ollama.train.model import choose_device

    names = [name for name in LOCAL if name in wanted]
    if not names:
        return []
    if (base is None and not job.run.is_whole) or renderer is None:
        return [Column(name, job.run.id, "transformers", missing=why) for name in names]
    missing = []
    if base is None:
        missing = [Column("base", job.run.id, "transformers", missing=why)] * ("base" in names)
        names = [name for name in names if name != "base"]
    return missing + in_transformers(
        job,
        renderer.tokenizer,
        base.folder if base is not None else job.run.model,
        choose_device(),
        wanted=names,
        silent=("base",) if base_in_ollama else (),
    )


def _with_ollama(
    job: Job,
    wanted: list[str],
    columns: list[Column],
    base_name: str | None,
    against: str | None,
    host: str | None,
) -> list[Column]:
    """The columns with those that Ollama gives."""
    from dataclasses import replace

    from ft2ollama.evaluate.speakers import in_ollama
    from ft2ollama.ollama_api import Ollama

    server, made = Ollama(host), {column.name: column for column in columns}
    if base_name is not None and "base" in made:
        loss = made["base"].loss
        asked = in_ollama(job, "base", server, base_name)
        made["base"] = replace(asked, loss=loss, loss_missing="" if loss else asked.loss_missing)
    if "published" in wanted:
        made["published"] = _published(job, server, against)
    return [made[name] for name in _COLUMNS if name in made]


def _published(job: Job, server: Any, against: str | None) -> Column:
    from ft2ollama.evaluate.columns import Column
    from ft2ollama.evaluate.speakers import NO_LOSS, in_ollama

    stage = job.run.stage_record("publish")
    if against is None and stage.get("status") != "done":
        fix = f"ft2ollama publish my-model --run {job.run.id}, or --against NAME"
        why = f"run {job.run.id} is not published; fix: {fix}"
        return Column("published", "", "Ollama", missing=why, loss_missing=NO_LOSS)
    return in_ollama(job, "published", server, against or str(stage["tag"]))


def _show(output: Output, columns: list[Column]) -> None:
    from rich.markup import escape

    from ft2ollama.evaluate.columns import summary

    names = [column.name for column in columns]
    rows = [["", *(f"[dim]{escape(column.where.split(',')[0])}[/]" for column in columns)]]
    rows += [[label, *values] for label, values in summary(columns)]
    output.table("", ["", *names], rows, right=names)
    _show_replies(output, columns)
    for column in columns:
        if column.missing:
            output.warn(f"{column.name}: not measured: {column.missing}")


def _show_replies(output: Output, columns: list[Column]) -> None:
    """The replies that are farthest from what was wanted: figures alone show no reason."""
    from rich.markup import escape

    from ft2ollama.evaluate.columns import farthest

    def cell(text: str) -> str:
        plain = " ".join(text.split())
        return escape(plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}...")

    names = [column.name for column in columns if column.replies]
    rows = [
        [cell(text) for text in (item.messages[-1]["content"], _wanted(item), *replies)]
        for item, replies in farthest(columns, 3)
    ]
    if rows:
        title = "farthest from what was wanted (all replies are in eval.json)"
        output.table(title, ["asked", "wanted", *names], rows)


def _wanted(item: Item) -> str:
    return " + ".join(item.facts) if item.reference is None else item.reference
