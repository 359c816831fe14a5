"""`ft2ollama collect review`: a person looks at answers before they are learned."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.review import Card, Review

_CONTEXT = 240  # characters of each context shown at first


@click.command()
@click.option("--rule", metavar="RULE", help="Only rows that this rule stops, such as low_rating; "
              "keep: only those that no rule stops.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.option("--line", default="", metavar="NAME", help="The model that is retrained.")
@click.option("--export", "export_to", type=click.Path(path_type=Path, dir_okay=False),
              metavar="FILE", help="Write the rows as JSONL for another tool.")  # fmt: skip
@click.option("--import", "import_from", type=click.Path(path_type=Path, exists=True),
              metavar="FILE", help="Read the decisions of such a file.")  # fmt: skip
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the texts.")
@click.pass_obj
def review(
    output: Output,
    rule: str | None,
    limit: int | None,
    line: str,
    export_to: Path | None,
    import_from: Path | None,
    lang: str | None,
) -> None:
    """Approve, correct or reject answers one by one, those first where a person helps most.

    What is decided is kept as feedback in the ledger and counts in every later run; u takes it
    back.
    """
    from ft2ollama.errors import UsageError
    from ft2ollama.language import choose_language
    from ft2ollama.loop.curate.rules import Needs
    from ft2ollama.loop.curate.settings import CurateConfig
    from ft2ollama.loop.curate.texts import REVIEW
    from ft2ollama.loop.ledger import Ledger, now_ms
    from ft2ollama.loop.review import WORTH, export, waiting

    if rule is not None and rule not in (*WORTH, "keep"):
        known = ", ".join(name or "keep" for name in WORTH)
        raise UsageError(f"no rule {rule} to review", f"known: {known}", "--rule low_rating")
    word = REVIEW[choose_language(lang)]
    with Ledger.open() as ledger:
        if import_from:
            _import(output, ledger, import_from)
            return
        needs = Needs(CurateConfig(), now_ms=now_ms())
        cards = waiting(ledger, line, needs, rule="" if rule == "keep" else rule)[:limit]
        if export_to:
            count = export(cards, export_to)
            output.result(str(export_to), rows=count, path=str(export_to))
        elif not cards:
            output.done(word["nothing"])
        elif not (sys.stdin.isatty() and output.console.is_terminal):
            raise UsageError(
                "review needs a terminal", f"{len(cards)} rows wait", "--export rows.jsonl"
            )
        else:
            _lead(output, ledger, cards, word)


def _import(output: Output, ledger: Ledger, path: Path) -> None:
    """Say of every line what became of it."""
    from ft2ollama.errors import DataError
    from ft2ollama.loop.review import import_file

    found = import_file(ledger, path)
    output.done(f"{found.seen} lines: {found.decided} decided, {found.open} left open, "
                f"{found.known} known before, {len(found.rejected)} not understood")  # fmt: skip
    if found.rejected:
        lines = "\n".join(f"{path}:{number}: {reason}" for number, reason in found.rejected)
        raise DataError(
            f"{len(found.rejected)} lines were not understood; the others are written",
            lines,
            f"mend them and repeat: ft2ollama collect review --import {path}",
        )
    output.event("imported", seen=found.seen, decided=found.decided, open=found.open,
                 known=found.known)  # fmt: skip


def _lead(output: Output, ledger: Ledger, cards: list[Card], word: Mapping[str, str]) -> None:
    """Show one card after the other until the person ends."""
    from ft2ollama.loop.review import Review

    session, decided, skipped, at = Review(ledger), list[tuple[int, str]](), 0, 0
    while at < len(cards):
        _show(output, cards[at], at, len(cards), word)
        step = _decide(output, session, cards[at], word)
        if step == "quit":
            break
        if step == "undo":
            undone = session.undo() is not None
            output.say(f"  {word['undone' if undone else 'no_undo']}")
            at = decided.pop()[0] if undone else at
            continue
        if step == "skipped":
            skipped += 1
        else:
            decided.append((at, step))
        at += 1
    counts = Counter(step for _, step in decided)
    told = {name: counts[name] for name in ("approved", "corrected", "rejected")}
    output.done(word["ended"].format(**told, skipped=skipped))
    output.event("reviewed", **told, skipped=skipped)


def _decide(output: Output, session: Review, card: Card, word: Mapping[str, str]) -> str:
    """Read keys until one of them decides."""
    rid = card.row.rid
    while True:
        output.console.print(f"[dim]{word['keys']}[/] ", end="")
        key = _key()
        output.say(key if key.isprintable() else "")
        if key == "a":
            session.approve(rid)
            return "approved"
        if key == "r":
            session.reject(rid)
            return "rejected"
        if key == "e" and _edit(output, session, card, word):
            return "corrected"
        if key in ("s", "u", "q"):
            return {"s": "skipped", "u": "undo"}.get(key, "quit")
        if key == "c":
            for context in card.row.contexts:
                output.say(f"\n{context}")


def _key() -> str:
    """A key; Ctrl-C and Ctrl-D end the review: what was decided is written already."""
    try:
        return click.getchar()
    except (KeyboardInterrupt, EOFError):
        return "q"


def _edit(output: Output, session: Review, card: Card, word: Mapping[str, str]) -> bool:
    """The answer in $EDITOR; what is saved becomes the correction."""
    text = (click.edit(card.row.answer, extension=".md") or "").strip()
    if not text or text == card.row.answer.strip():
        output.warn(word["empty"])
        return False
    session.correct(card.row.rid, text)
    return True


def _show(output: Output, card: Card, at: int, total: int, word: Mapping[str, str]) -> None:
    from rich.markup import escape

    from ft2ollama.loop.curate.texts import told

    row = card.row
    why = escape(told(card.evidence))
    stopped = f" · [yellow]{card.rule}[/] {why}" if card.rule else ""
    place = word["row"].format(number=at + 1, total=total)
    output.console.print(f"\n[bold cyan]{place}[/]{stopped}", soft_wrap=False)
    for context in row.contexts:
        rest = len(context) - _CONTEXT
        more = f" {word['more'].format(count=rest)}" if rest > 0 else ""
        _field(output, word["contexts"], f"{context[:_CONTEXT]}{more}", "dim")
    if not row.contexts:
        _field(output, word["contexts"], word["none"], "dim")
    _field(output, word["question"], row.question, "bold")
    _field(output, word["answer"], row.answer, "green")
    said = [*(["👍"] * (row.said.thumb > 0) + ["👎"] * (row.said.thumb < 0)), *row.said.comments]
    if said:
        _field(output, word["said"], "; ".join(said), "yellow")


def _field(output: Output, name: str, text: str, style: str) -> None:
    from rich.markup import escape
    from rich.padding import Padding

    output.console.print(f"  [dim]{name}[/]")
    output.console.print(Padding(f"[{style}]{escape(text)}[/]", (0, 0, 0, 4)), soft_wrap=False)
