"""`ft2ollama data check|preview|stats`: look at the data before the first expensive second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.cli.data_inputs import Inputs
    from ft2ollama.data.check import Report
    from ft2ollama.language import Language

_WORDS = click.argument("words", nargs=-1, required=True, metavar="CONFIG|FILE... [key=value ...]")
_MODEL = click.option("--model", metavar="REF", help="Whose tokens to count, when FILEs are given.")
_LANG = click.option("--lang", type=click.Choice(["en", "zh"]), help="Default: your locale.")


@click.group()
def data() -> None:
    """Check, show and measure training data."""


@data.command()
@_WORDS
@_MODEL
@_LANG
@click.option("--strict", is_flag=True, help="Exit with 2 on warnings too.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where all problems are listed, a JSON line each. Default: runs/data-check/NAME.jsonl",
)
@click.pass_obj
def check(
    output: Output,
    words: tuple[str, ...],
    model: str | None,
    lang: str | None,
    report: Path | None,
    *,
    strict: bool,
) -> int:
    """Find every problem in the data: broken rows, copies, leaks, lost answers, bad characters.

    Exit code 0, or 2 when rows cannot be trained on. Example: ft2ollama data check faq.yaml
    """
    from ft2ollama.cli.data_inputs import read_inputs
    from ft2ollama.cli.data_report import show_problems, show_sets, show_verdict, stops_training
    from ft2ollama.errors import ExitCode
    from ft2ollama.language import choose_language

    language = choose_language(lang)
    inputs = read_inputs(output, words, model)
    found = _examine(output, inputs)
    if inputs.about:
        output.say(f"  {inputs.about}")
    show_sets(output, found, language)
    show_problems(output, found.problems, language)
    show_verdict(output, found, language, strict=strict)
    path = _write(output, inputs, found, report, language)
    _tell(output, found, language)
    bad = stops_training(found, inputs.config.bad_rows) or (strict and found.warnings)
    output.result(
        str(path) if path else "",
        errors=found.errors,
        warnings=found.warnings,
        report=str(path) if path else None,
    )
    return int(ExitCode.USAGE if bad else ExitCode.DONE)


def _examine(output: Output, inputs: Inputs) -> Report:
    from dataclasses import replace

    from ft2ollama.data.check import examine

    with output.counting("checking the rows", "rows") as meter:
        found = examine(inputs.sets, questions=inputs.questions, model=inputs.model, progress=meter)
    return replace(found, problems=(*found.problems, *inputs.problems))


def _write(
    output: Output, inputs: Inputs, found: Report, path: Path | None, language: Language
) -> Path | None:
    """Every problem into a file; the user is told where, and finds none after a clean check."""
    from ft2ollama.cli.data_words import words
    from ft2ollama.data.report_file import write_report
    from ft2ollama.runs import runs_root

    default = runs_root() / "data-check" / f"{inputs.name}.jsonl"
    if path is None and not found.problems:
        default.unlink(missing_ok=True)
        return None
    path = path or default
    write_report(path, found.problems, language)
    output.say(f"  {words(language)['report'].format(path=path)}")
    return path


def _tell(output: Output, found: Report, language: Language) -> None:
    """With --json: an event for every problem, then one for every set."""
    from ft2ollama.data.report_file import as_record

    for problem in found.problems if output.as_json else ():
        output.event("problem", **as_record(problem, language))
    for one in found.sets:
        output.event("set", **vars(one), dropped=one.dropped)


@data.command()
@_WORDS
@_MODEL
@_LANG
@click.option("--row", type=click.IntRange(min=1), help="Show the Nth row that can be used.")
@click.option("--place", metavar="FILE:LINE", help="Show the row that stands there.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page.")
@click.pass_obj
def preview(
    output: Output,
    words: tuple[str, ...],
    model: str | None,
    lang: str | None,
    html: Path | None,
    row: int | None,
    place: str | None,
) -> None:
    """Show rows as the exact tokens the model gets, with the learned ones marked.

    Without --row or --place: the shortest, the median and the longest.
    Example: ft2ollama data preview faq.yaml --place rows.jsonl:7 --html row.html
    """
    from ft2ollama.cli.data_inputs import read_inputs
    from ft2ollama.cli.data_preview import choose, render_rows, show_rows
    from ft2ollama.data.catalogue import line
    from ft2ollama.data.preview_html import page
    from ft2ollama.files import write_text
    from ft2ollama.language import choose_language

    language = choose_language(lang)
    inputs = read_inputs(output, words, model)
    rows = [row for one in inputs.sets for row in one.conversations]
    shown, problems = render_rows(inputs, choose(rows, row, place))
    for problem in problems:
        output.warn(line(problem, language))
    if html is None:
        show_rows(output, shown, inputs.about, language)
    else:
        write_text(html, page(shown, language, inputs.about))
        output.result(str(html), html=str(html))
    for one in shown:
        tokens = [[piece.id, piece.learned] for piece in one.pieces]
        output.event("row", place=one.place, tokens=tokens, cutoff_len=one.cutoff)


@data.command()
@_WORDS
@_MODEL
@_LANG
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help=".png or .svg file.")
@click.pass_obj
def stats(
    output: Output,
    words: tuple[str, ...],
    model: str | None,
    lang: str | None,
    plot: Path | None,
) -> None:
    """Measure the rows: lengths, and what several values of cutoff_len would cost.

    Example: ft2ollama data stats faq.yaml --plot lengths.png
    """
    from ft2ollama.cli.data_inputs import read_inputs
    from ft2ollama.cli.data_stats import lengths_of, measure, show_stats
    from ft2ollama.errors import DataError
    from ft2ollama.language import choose_language

    language = choose_language(lang)
    inputs = read_inputs(output, words, model)
    sets = measure(output, inputs)
    if not any(one.lengths for one in sets):
        raise DataError("no row can be measured", "", f"ft2ollama data check {' '.join(words)}")
    show_stats(output, inputs, sets, language)
    if plot is not None:
        from ft2ollama.data.plot import plot_lengths

        unit = "tokens" if inputs.model else "characters"
        plot_lengths(plot, lengths_of(sets), unit, inputs.config.cutoff_len)
        output.result(str(plot), plot=str(plot))
