"""Rows as tokens on a terminal: colours and underlines, or brackets and bars without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ft2ollama.cli.data_words import words
from ft2ollama.cli.output import Output
from ft2ollama.data.catalogue import data_error
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.preview import pieces, spread, units
from ft2ollama.data.preview_html import Shown
from ft2ollama.data.problems import Problem
from ft2ollama.errors import DataError, UsageError
from ft2ollama.language import Language

if TYPE_CHECKING:
    from rich.text import Text

    from ft2ollama.cli.data_inputs import Inputs

# Letters and ground together, so that they are readable on light and dark terminals alike; every
# second token is a little lighter, which shows where one ends.
_READ = (("#d0d3d9", "#26282d"), ("#d0d3d9", "#34373e"))
_LEARNED = (("#b8f5cf", "#0f3a26"), ("#b8f5cf", "#185a3b"))
_SPECIAL = "#dcb8ff"
_ROWS = 3  # shown unless one is named


def choose(rows: Sequence[Conversation], row: int | None, place: str | None) -> list[Conversation]:
    """The rows to show: the Nth, the one at a place, or the shortest, median and longest."""
    if not rows:
        raise DataError("no row can be shown", "none could be read", "ft2ollama data check ...")
    if place is not None:
        found = [one for one in rows if _stands_at(one.place, place)]
        if not found:
            raise UsageError(
                f"no usable row at {place}",
                f"the first is {rows[0].place}",
                "--row 1, or --place FILE:LINE",
            )
        return found[:1]
    if row is not None:
        if row > len(rows):
            raise UsageError(f"no row {row}", f"there are {len(rows)}", f"--row {len(rows)}")
        return [rows[row - 1]]
    sizes = [sum(len(message["content"] or "") for message in one.messages) for one in rows]
    return [rows[number] for number in spread(sizes, _ROWS)]


def _stands_at(place: str, wanted: str) -> bool:
    """`rows.jsonl:7` also names `data/rows.jsonl:7`, and `rows.json:7: row 3`."""
    return place == wanted or place.endswith(f"/{wanted}") or place.startswith(f"{wanted}: ")


def render_rows(inputs: Inputs, rows: Sequence[Conversation]) -> tuple[list[Shown], list[Problem]]:
    """The tokens of the rows, and why others have none.

    Raises UsageError without a model, DataError when no row can be rendered.
    """
    if inputs.model is None:
        raise UsageError(
            "tokens need a model", "none was given", "--model Qwen/Qwen2.5-0.5B-Instruct"
        )
    shown, problems = [], []
    for row in rows:
        samples, found = inputs.model.samples(row)
        problems += found
        for number, sample in enumerate(samples, 1):
            place = f"{row.place} ({number}/{len(samples)})" if len(samples) > 1 else row.place
            tokens = pieces(sample, inputs.model.tokenizer)
            shown.append(Shown(place, tokens, inputs.model.rules.cutoff_len))
    if not shown:
        raise data_error(problems)
    return shown, problems


def show_rows(output: Output, rows: Sequence[Shown], about: str, language: Language) -> None:
    """Print the rows on the terminal, or as plain text."""
    word = words(language)
    plain = output.console.no_color or not output.console.is_terminal
    output.say(f"  {about}")
    output.say(f"  {word['legend_plain' if plain else 'legend']}")
    for row in rows:
        learned = sum(piece.learned for piece in row.pieces)
        output.title(row.place)
        output.say("  " + word["counts"].format(tokens=f"{len(row.pieces):,}", learned=learned))
        text = _plain(row, language) if plain else _coloured(row, language)
        output.console.print(text, soft_wrap=False, overflow="fold")


def _cut_note(row: Shown, language: Language) -> str:
    rest = row.pieces[row.cutoff :]
    lost = sum(piece.learned for piece in rest)
    text = words(language)["cut_here"].format(cutoff=row.cutoff, left=len(rest), lost=lost)
    return f"\n✂ {text}\n"


def _coloured(row: Shown, language: Language) -> Text:
    from rich.text import Text

    text = Text()
    for number, unit in enumerate(units(row.pieces, row.cutoff)):
        if unit.start == row.cutoff:
            text.append(_cut_note(row, language), style="bold red")
        letters, ground = (_LEARNED if unit.learned else _READ)[number % 2]
        style = f"{_SPECIAL if unit.special else letters} on {ground}"
        marks = f"{'underline ' * unit.learned}{'strike ' * (unit.start >= row.cutoff)}"
        text.append(unit.text, style=marks + style)
    return text


def _plain(row: Shown, language: Language) -> Text:
    from rich.text import Text

    text = Text()
    before = False
    for unit in units(row.pieces, row.cutoff):
        text.append("⟧" if before and not unit.learned else "")
        if unit.start == row.cutoff:
            text.append(_cut_note(row, language))
        text.append("⟦" if unit.learned and not before else "│" if unit.start else "")
        text.append(unit.text)
        before = unit.learned
    text.append("⟧" if before else "")
    return text
