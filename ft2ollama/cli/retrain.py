"""`ft2ollama retrain CONFIG`: collected rows -> a judged model under its name, or why not."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.loop_words import lang_option, word
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language
    from ft2ollama.loop.cycle import Outcome
    from ft2ollama.loop.history import Found
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.place import Place
    from ft2ollama.loop.settings import RetrainConfig
    from ft2ollama.loop.states import Cycle

_EXAMPLES = 3  # questions shown to somebody who has to decide


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--if-due", is_flag=True, help="Begin only when enough is new; for timers.")
@click.option("--dry-run", is_flag=True, help="Say what is due and what would be trained on.")
@click.option("--resume", is_flag=True, help="Go on with an open cycle, begin none.")
@lang_option
@click.pass_obj
def retrain(
    output: Output, config: Path, lang: str | None, *, if_due: bool, dry_run: bool, resume: bool
) -> None:
    """Train on what was collected, hold the new model against the old, swap if it is better.

    Goes on with a cycle that was interrupted. Exit code 0: swapped, or nothing was due; 3: the
    gate said no, or wants a person. Example: ft2ollama retrain shop.yaml --if-due
    """
    from ft2ollama.errors import UsageError
    from ft2ollama.language import choose_language
    from ft2ollama.train.threads import choose_threads, set_threads

    set_threads(choose_threads(None))
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.place import Place, line_lock
    from ft2ollama.loop.settings import read_config
    from ft2ollama.loop.texts import told
    from ft2ollama.ollama_api import Ollama

    if not config.exists():
        raise UsageError(
            f"{config} is not there", "it says which model is retrained, and how",
            "ft2ollama init --loop     # writes loop.yaml and train.yaml",
        )  # fmt: skip
    wanted, language = read_config(config), choose_language(lang)
    if dry_run:
        from ft2ollama.cli.retrain_preview import preview

        with Ledger.open() as ledger:
            preview(output, ledger, wanted, language)
        return
    with line_lock(wanted.name) as lock:
        if lock is None:
            output.say(word("busy", language, line=wanted.name))
            output.result("busy", line=wanted.name, state="busy")
            return
        with Ledger.open() as ledger:
            place = Place(
                ledger, Ollama(wanted.host), lock, lambda text: output.say(told(text, language))
            )
            outcome = _retrain(place, wanted, config, if_due=if_due, resume=resume)
            code = _show(output, ledger, wanted.name, outcome, language)
    raise click.exceptions.Exit(code)


def _retrain(
    place: Place, wanted: RetrainConfig, path: Path, *, if_due: bool, resume: bool
) -> Outcome:
    from ft2ollama.errors import Interrupted
    from ft2ollama.loop.cycle import retrain as work

    try:
        return work(place, wanted, if_due=if_due, resume=resume)
    except (KeyboardInterrupt, Interrupted) as error:
        again = f"ft2ollama retrain {shlex.quote(str(path))} --resume"
        raise Interrupted("stopped by Ctrl-C", "what was done is kept", again) from error


def _show(output: Output, ledger: Ledger, line: str, outcome: Outcome, language: Language) -> int:
    """How it ended; the exit code."""
    from ft2ollama.errors import ExitCode
    from ft2ollama.loop.swap import deployment_of
    from ft2ollama.loop.texts import ended, told

    cycle = outcome.cycle
    if cycle is None:
        output.done(word("nothing due", language, why=told(outcome.why, language)))
        output.result("nothing due", line=line, state="idle", why=outcome.why)
        return ExitCode.DONE
    show_gate(output, ledger, cycle, language)
    why = ended(cycle.error, language)
    if cycle.state == "PROMOTED":
        output.done(word("is now", language, line=line, run=cycle.run_id))
        if deployment_of(ledger, cycle.run_id)["from_digest"]:
            output.say(word("back", language, line=line))
    elif cycle.state == "NEEDS_HUMAN":
        _ask_person(output, ledger, cycle, why, language)
    else:
        output.warn(word("not promoted", language, run=cycle.run_id, why=why))
    output.result(cycle.run_id, line=line, run=cycle.run_id, state=cycle.state, why=cycle.error)
    return ExitCode.DONE if cycle.state == "PROMOTED" else ExitCode.GATE


def _ask_person(output: Output, ledger: Ledger, cycle: Cycle, why: str, language: Language) -> None:
    """What somebody needs who decides now: some answers of both models, and what to type."""
    from ft2ollama.cli.loop_answers import show_answers
    from ft2ollama.loop.answers import both_answers
    from ft2ollama.loop.steps import detail_of

    show_answers(output, both_answers(ledger, cycle)[:_EXAMPLES], language)
    output.say("")
    output.warn(word("wants person", language, run=cycle.run_id, why=why))
    model = detail_of(ledger, cycle.run_id, "REGISTERED").get("tag", cycle.line)
    output.say(word("all answers", language, run=cycle.run_id))
    output.say(word("ask it", language, model=model))
    output.say(word("decide", language, run=cycle.run_id))


def show_gate(output: Output, ledger: Ledger, cycle: Cycle, language: Language = "en") -> None:
    """The gate's rules, each with what was found."""
    from rich.markup import escape

    from ft2ollama.loop.history import rulings
    from ft2ollama.loop.texts import RULES, told

    found = rulings(ledger, cycle.run_id)
    if not found:
        return
    rows = [
        [_sign(one), one.rule, RULES.get(one.rule, {}).get(language, ""),
         escape(told(one.why, language))]
        for one in found
    ]  # fmt: skip
    columns = ["", word("rule", language), "", word("found", language)]
    title = word("is it better", language, run=cycle.run_id)
    output.table(title, columns, rows, **{columns[1]: "bold"})


def _sign(one: Found) -> str:
    """Of a rule: passed, failed, or nothing to look at."""
    from ft2ollama.loop.texts import Sentence

    absent = isinstance(one.why, Sentence) and one.why.name in ("no-set", "no-form")
    if one.passed:
        return "[dim]-[/]" if absent else "[green]✓[/]"
    return "[red]✗[/]"
