"""`ft2ollama collect preview`: what would be trained on, what not, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language
    from ft2ollama.loop.curate.pipeline import Curation, Inputs, Verdict

_EXAMPLES = 2
_WIDE = 44  # columns of an example


@click.command()
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Settings: a retrain config with a block curate:, or its keys.")  # fmt: skip
@click.option("--line", default="", metavar="NAME", help="The model that is retrained; what its "
              "earlier runs trained on is history.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Write the data set there.")  # fmt: skip
@click.option("--seed", default=42, show_default=True, help="Of every choice that is drawn.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the texts.")
@click.pass_obj
def preview(
    output: Output,
    settings: tuple[str, ...],
    config: Path | None,
    line: str,
    out: Path | None,
    lang: str | None,
    *,
    seed: int,
) -> None:
    """Judge the rows that wait, and write nothing into the ledger.

    A table of what becomes of them, rule by rule, each with two examples; with --out also
    train.jsonl, val.jsonl, fresh.jsonl and dataset.manifest.json.
    Example: ft2ollama collect preview grounded_cap=1 --out dataset
    """
    from ft2ollama.language import choose_language
    from ft2ollama.loop.curate.dataset import Lineage, write_dataset
    from ft2ollama.loop.curate.pipeline import curate
    from ft2ollama.loop.curate.rules import Needs
    from ft2ollama.loop.curate.settings_file import read_settings
    from ft2ollama.loop.curate.store import read_inputs
    from ft2ollama.loop.curate.texts import REVIEW
    from ft2ollama.loop.ledger import Ledger, now_ms

    word = REVIEW[choose_language(lang)]
    now = now_ms()
    needs = Needs(read_settings(config, settings), now_ms=now)
    with Ledger.open() as ledger, output.waiting("judging the rows"):
        with ledger.engine.connect() as connection:
            inputs = read_inputs(connection, line, needs, seed)
        name = ledger.name
        found = curate(inputs)
    if not inputs.new:
        output.warn(word["empty_ledger"].format(name=name))
    else:
        _show(output, inputs, found, choose_language(lang))
    made = write_dataset(out, found, inputs, Lineage(created_ms=now)) if out else None
    for one in found.verdicts:
        output.event("verdict", rid=one.rid, role=one.role, verdict=one.verdict, rule=one.rule,
                     evidence=dict(one.evidence))  # fmt: skip
    if out or output.as_json:
        output.result(str(out or ""), counts=found.counts, id=made, out=str(out) if out else None)


def _show(output: Output, inputs: Inputs, found: Curation, language: Language) -> None:
    from collections import Counter

    from ft2ollama.loop.curate.pipeline import ORDER
    from ft2ollama.loop.curate.texts import REVIEW
    from ft2ollama.loop.texts import told as told_note

    word = REVIEW[language]
    groups: dict[str, list[Verdict]] = {}
    for one in found.verdicts:
        if one.role == "new":
            groups.setdefault(one.rule or one.verdict, []).append(one)
    output.title(word["preview"].format(count=f"{len(inputs.new):,}"))
    questions = {row.rid: row.question for row in inputs.new}
    for rule in ("keep", "eval_fresh", *ORDER):
        if rule in groups:
            _show_rule(output, rule, groups[rule], questions, language)
    forms = Counter(one.form if one.role == "new" else one.role for one in found.train)
    made = ", ".join(f"{name} {count}" for name, count in sorted(forms.items()))
    output.say("")
    output.say("  " + word["made"].format(
        train=len(found.train), forms=made or "-", val=len(found.val), fresh=len(found.fresh)
    ))  # fmt: skip
    if found.pii:
        counts = ", ".join(f"{name} {count}" for name, count in found.pii.items())
        output.say("  " + word["pii"].format(counts=counts))
    for note in found.notes:
        output.warn(told_note(note, language))


def _show_rule(
    output: Output,
    rule: str,
    group: list[Verdict],
    questions: dict[str, str],
    language: Language,
) -> None:
    """A line for the rule, and its first rows with what shows it."""
    from rich.markup import escape

    from ft2ollama.loop.curate.pii import scrubber
    from ft2ollama.loop.curate.pipeline import RETURNING
    from ft2ollama.loop.curate.texts import RULE_TEXTS, told

    waits = "[cyan]…[/]" if rule in RETURNING else "[yellow]✗[/]"
    mark = {"keep": "[green]✓[/]", "eval_fresh": "[cyan]○[/]"}.get(rule, waits)
    text = escape(RULE_TEXTS[rule][language])
    output.console.print(f"{mark} {len(group):>7,}  [bold]{rule:<19}[/] {text}")
    for one in group[:_EXAMPLES]:
        question = " ".join(scrubber(questions[one.rid])(questions[one.rid]).split())
        why = _cut(told(one.evidence))
        text = f"           [dim]{escape(_cut(question))}[/]  {escape(why)}"
        output.console.print(text.rstrip())


def _cut(text: str) -> str:
    """As much as stands in half a line; a Chinese letter is two wide."""
    width = 0
    for number, char in enumerate(text):
        width += 1 + (char >= "\u2e80")
        if width > _WIDE:
            return f"{text[:number]}…"
    return text
