"""The doctor's report on a terminal: a table of the sets, then the problems by their kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.markup import escape

from ft2ollama.cli.data_words import words
from ft2ollama.cli.output import Output
from ft2ollama.data.catalogue import sentence
from ft2ollama.data.check import Report, SetReport
from ft2ollama.data.problems import Problem
from ft2ollama.language import Language

_LONG = ("too-long", "dropped-too-long", "cut-to-length")
_SHOWN = 3  # places of each kind
_ROLES = ("system", "user", "assistant", "tool", "template")
_MARKS = {"error": "[red]✗[/]", "warning": "[yellow]![/]"}


def show_sets(output: Output, report: Report, language: Language) -> None:
    """Rows and sizes of each set, what all of it is made of; tokens where there is a model."""
    word = words(language)
    tokens = any(one.tokens for one in report.sets)
    unit = word["tokens" if tokens else "characters"]
    heads = [word[name] for name in ("set", "rows", "usable", "dropped")]
    heads += [unit, *([word["learned"]] if tokens else []), word["longest"]]
    rows = [_row(one, word, tokens=tokens) for one in report.sets]
    output.table("", heads, rows, right=heads[1:])
    total: Counter[str] = sum((one.tokens or one.roles for one in report.sets), Counter())
    said = [f"{_role(role, word)} {total[role]:,}" for role in _ROLES if total[role]]
    output.say(f"  {unit} {word['roles']}: {' · '.join(said)}" if said else "")
    scripts: Counter[str] = sum((one.scripts for one in report.sets), Counter())
    output.say(f"  {word['script']}: {_scripts(scripts, word)}" if scripts else "")
    if not tokens:
        output.say(f"  {word['no_model']}")


def _role(role: str, word: Mapping[str, str]) -> str:
    return word.get(role, role)


def _row(one: SetReport, word: Mapping[str, str], *, tokens: bool) -> list[str]:
    counts = one.tokens if tokens else one.roles
    held = f" [dim]({word['held']})[/]" if one.part != "train" else ""
    dropped = f"[red]{one.dropped:,}[/]" if one.dropped else "0"
    return [
        escape(short_name(one.name)) + held,
        f"{one.rows:,}",
        f"{one.usable:,}",
        dropped,
        f"{counts.total():,}",
        *([f"{one.learned:,}"] if tokens else []),
        f"{one.longest:,}",
    ]


def short_name(name: str) -> str:
    """A data set's name; of a path the last part, for the places name it whole."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def _scripts(scripts: Counter[str], word: Mapping[str, str]) -> str:
    """Chinese 92 %, Latin 8 %."""
    total = scripts.total() or 1
    shares = [(name, round(100 * count / total)) for name, count in scripts.most_common(3)]
    if shares and shares[0][1] == 100:
        return word[shares[0][0]]
    return ", ".join(f"{word[name]} {share} %" for name, share in shares if share)


def show_problems(output: Output, problems: Sequence[Problem], language: Language) -> None:
    """Kinds of problems, errors and frequent ones first, each with its first places and a fix."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.code), []).append(problem)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] != "error", -len(item[1])))
    for (severity, code), group in ordered:
        _show_group(output, severity, code, group, language)


def _show_group(
    output: Output, severity: str, code: str, group: Sequence[Problem], language: Language
) -> None:
    from rich.padding import Padding

    word = words(language)
    count = word["times"].format(count=f"{len(group):,}")
    output.console.print(f"\n{_MARKS[severity]} [bold]{code}[/]  [dim]{count}[/]")
    if code in _LONG:  # the longest first: its fix helps them all
        group = sorted(group, key=lambda problem: -problem.values["tokens"])
    for problem in group[:_SHOWN]:
        what, _ = sentence(problem, language)
        key = f" [dim]{escape(problem.key)}[/]" if problem.key else ""
        text = f"[cyan]{escape(problem.place)}[/]{key}  {escape(what)}"
        output.console.print(Padding(text, (0, 0, 0, 4), expand=False), soft_wrap=False)
    if len(group) > _SHOWN:
        more = word["more"].format(count=f"{len(group) - _SHOWN:,}")
        output.console.print(f"    [dim]{more}[/]")
    _, fix = sentence(group[0], language)
    if fix:
        text = f"[green]{word['fix']} {escape(fix)}[/]"
        output.console.print(Padding(text, (0, 0, 0, 4), expand=False), soft_wrap=False)


def stops_training(report: Report, bad_rows: str) -> bool:
    """Would training refuse this data? With `bad_rows: drop` only if no row is left."""
    usable = sum(one.usable for one in report.sets if one.part == "train")
    return bool(report.errors) and (bad_rows == "error" or not usable)


def show_verdict(output: Output, report: Report, language: Language, *, strict: bool) -> None:
    """The last lines: what was found, in numbers."""
    word = words(language)
    output.say("")
    if report.errors:
        output.console.print(f"[red]✗[/] {word['errors'].format(count=f'{report.errors:,}')}")
    if report.warnings:
        output.warn(word["warnings"].format(count=f"{report.warnings:,}"))
        if strict:
            output.say(f"  {word['strict']}")
    if not report.problems:
        rows = sum(one.rows for one in report.sets)
        output.done(word["clean"].format(count=f"{rows:,}"))
