"""Rows as tokens on a terminal: colours and underlines, or brackets and bars without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ft2ollama.cli.data_words import words
from ft2ollama.cli.output import Output
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.preview import Piece, hex_of, pieces, spread, visible
from ft2ollama.data.preview_html import Shown
from ft2ollama.data.problems import BadRow
from ft2ollama.errors import DataError, UsageError
from ft2ollama.language import Language

if TYPE_CHECKING:
    from rich.text import Text

    from ft2ollama.cli.data_inputs import Inputs

# Letters and ground together, so that they are readable on light and dark terminals alike; every
# second token is a little lighter, which shows where one ends.
_READ = ("#d0d3d9 on #26282d", "#d0d3d9 on #34373e")
_LEARNED = ("underline #b8f5cf on #0f3a26", "underline #b8f5cf on #185a3b")
_SPECIAL = "#dcb8ff"
_PAST = "strike"
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


def render_rows(inputs: Inputs, rows: Sequence[Conversation]) -> list[Shown]:
    """The tokens of the rows; raises UsageError without a model, DataError for a bad row."""
    if inputs.model is None:
        raise UsageError(
            "tokens need a model", "none was given", "--model Qwen/Qwen2.5-0.5B-Instruct"
        )
    shown = []
    for row in rows:
        try:
            found = pieces(inputs.model.sample(row), inputs.model.tokenizer)
        except BadRow as error:
            from ft2ollama.data.catalogue import data_error

            raise data_error([error.at(row.place)]) from None
        shown.append(Shown(row.place, found, inputs.model.cutoff_len))
    return shown


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
    for place, piece in enumerate(row.pieces):
        if place == row.cutoff:
            text.append(_cut_note(row, language), style="bold red")
        style = (_LEARNED if piece.learned else _READ)[place % 2]
        if piece.special:
            style = f"{style.replace(style.split(' on ')[0].split()[-1], _SPECIAL)}"
        text.append(_letters(piece), style=f"{style} {_PAST}" if place >= row.cutoff else style)
    return text


def _plain(row: Shown, language: Language) -> Text:
    from rich.text import Text

    text = Text()
    before = False
    for place, piece in enumerate(row.pieces):
        if place == row.cutoff:
            text.append(_cut_note(row, language))
        opens, closes = piece.learned and not before, before and not piece.learned
        text.append("⟧" if closes else "")
        text.append("⟦" if opens else "│" if place else "")
        text.append(_letters(piece))
        before = piece.learned
    text.append("⟧" if before else "")
    return text


def _letters(piece: Piece) -> str:
    """What stands for a token: its text, or its bytes and then the character they end."""
    shown = visible(piece).text
    return f"<{hex_of(piece.raw)}>{shown}" if piece.raw else shown
