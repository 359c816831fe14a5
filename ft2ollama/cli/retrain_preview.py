"""`ft2ollama retrain CONFIG --dry-run`: what a cycle would take, and what its gate could tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ft2ollama.cli.loop_words import word
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language
    from ft2ollama.loop.curate.pipeline import Curation
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.outlook import Outlook
    from ft2ollama.loop.settings import RetrainConfig


def preview(output: Output, ledger: Ledger, wanted: RetrainConfig, language: Language) -> None:
    """Say it, without a trace in the ledger."""
    from ft2ollama.loop import states
    from ft2ollama.loop.due import is_due
    from ft2ollama.loop.goods import training_text
    from ft2ollama.loop.ledger import now_ms
    from ft2ollama.loop.outlook import outlook, set_sizes
    from ft2ollama.loop.texts import STATES, told

    training_text(wanted.train)
    now = now_ms()
    due = is_due(ledger, wanted.name, wanted.trigger, now)
    if cycle := states.open_cycle(ledger, wanted.name):
        output.say(word("open", language, run=cycle.run_id, state=STATES[cycle.state][language]))
    output.say(word("due" if due.due else "not due", language, why=told(due.why, language)))
    found = _curated(ledger, wanted, now)
    _show_counts(output, found, language)
    for note in found.notes:
        output.warn(told(note, language))
    sizes = set_sizes(wanted.sets, wanted.reply_tokens)
    gate = outlook(sizes, found.counts["eval_fresh"], wanted.gate.bars())
    if found.counts["kept"]:
        _show_gate(output, gate, language)
    output.result(
        "due" if due.due else "not due", due=due.due, why=due.why, counts=found.counts,
        gate={"questions": dict(gate.questions), "fresh": gate.fresh, "wins": gate.wins,
              "alone": gate.alone},
    )  # fmt: skip


def _curated(ledger: Ledger, wanted: RetrainConfig, now: int) -> Curation:
    """What would become of the rows; the sets are frozen as a cycle would, and taken back."""
    from ft2ollama.loop import exam
    from ft2ollama.loop.curate.pipeline import curate
    from ft2ollama.loop.curate.rules import Needs
    from ft2ollama.loop.curate.store import read_inputs

    with ledger.engine.connect() as connection, connection.begin() as change:
        exam.freeze(connection, wanted.name, wanted.sets, wanted.reply_tokens, now)
        inputs = read_inputs(connection, wanted.name, Needs(wanted.curate, now), wanted.seed)
        change.rollback()
    return curate(inputs)


def _show_counts(output: Output, found: Curation, language: Language) -> None:
    from ft2ollama.loop.curate.texts import RULE_TEXTS

    def named(rule: str) -> str:
        return rule if language == "en" else f"{rule}（{RULE_TEXTS[rule][language]}）"

    counts: dict[str, Any] = found.counts
    dropped = dict(counts["dropped"])
    if counts["superseded"]:
        dropped["superseded"] = counts["superseded"]
    output.fields([
        (word("rows", language), str(counts["pending"]), ""),
        (word("kept", language), str(counts["kept"]),
         word("samples", language, count=len(found.train))),
        (word("for the gate", language), str(counts["eval_fresh"]), word("held out", language)),
        (word("left out", language), str(sum(dropped.values())),
         ", ".join(f"{named(rule)} {count}" for rule, count in dropped.items())),
    ])  # fmt: skip


def _show_gate(output: Output, gate: Outlook, language: Language) -> None:
    from ft2ollama.loop.texts import told

    output.title(word("gate title", language))
    for one in gate.missing:
        if one.name == "fresh-wins":
            output.say(f"  {told(one, language)}")
        else:
            output.warn(told(one, language))
    if gate.alone:
        output.done(word("alone", language))
