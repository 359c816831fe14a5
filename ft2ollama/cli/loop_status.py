"""`ft2ollama loop status`: the loop in one picture, on the terminal, as a page, as JSON lines.

JSON: one event `ledger` {name, rows, days: [[date, rows]]}, then an event `line` for each line:
    line, alias, host      its name, the name that moves, the server
    live                   {tag, digest, since, known_by: server | ledger}; null: no such name
    promoted               the tag that a cycle promoted last, null before the first
    waiting, due, why      rows that no promoted cycle has judged; whether --if-due would begin
    trigger                {rows, few, days}
    person                 the cycle that waits for approve or reject, or null
    cycles                 newest first: {run, state, begun, ended, error, tag, rows, gate, scores}
    moves                  oldest first: {when, action: publish | rollback, tag, digest, actor}
Times are ISO 8601 in UTC; scores are {set: {before, after, items}}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ft2ollama.cli.output import Output, sparkline

if TYPE_CHECKING:
    from ft2ollama.language import Language
    from ft2ollama.loop.picture import CyclePicture, LinePicture, Picture

_SHOWN = 5
_METER = 20
_CURVE = 30
_COLOURS = {"PROMOTED": "green", "REJECTED": "yellow", "FAILED": "red", "NEEDS_HUMAN": "cyan"}
_MOODS = {"good": "green", "bad": "red", "ask": "yellow", "soft": "dim"}


@click.command()
@click.argument("name", required=False)
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with charts to FILE.")
@click.option("--last", default=12, show_default=True, help="Cycles shown of each line.")
@click.option("--days", default=60, show_default=True, help="Days of the chart of collected rows.")
@click.option("--lang", help="en or zh; default FT2OLLAMA_LANG, else the locale.")
@click.pass_obj
def status(
    output: Output, name: str | None, *, html: Path | None, last: int, days: int, lang: str | None
) -> None:
    """The live model, rows that wait, the last cycles and their gates, of every line or of NAME.

    Example: ft2ollama loop status --html loop.html
    """
    from ft2ollama.language import choose_language
    from ft2ollama.loop import history
    from ft2ollama.loop.ledger import Ledger, now_ms
    from ft2ollama.loop.picture import ask_server, take

    language = choose_language(lang)
    with Ledger.open() as ledger:
        names = [name] if name else history.lines(ledger)
        picture = take(ledger, names, now_ms(), ask_server, cycles=max(1, last), days=max(1, days))
    if html is not None:
        _write(output, html, picture, language)
        return
    if output.as_json:
        _events(output, picture)
        return
    for line in picture.lines:
        _show(output, picture, line, language)
    if not names:
        from ft2ollama.loop.texts_picture import WORDS

        output.say(WORDS[language]["no-lines"])


def _write(output: Output, path: Path, picture: Picture, language: Language) -> None:
    from ft2ollama.files import write_text
    from ft2ollama.loop.picture_html import page

    write_text(path, page(picture, language))
    output.result(str(path), file=str(path), lines=[line.name for line in picture.lines])


def _show(output: Output, picture: Picture, line: LinePicture, language: Language) -> None:
    from ft2ollama.loop.picture_html import due_words, live_words
    from ft2ollama.loop.texts_picture import WORDS

    words = WORDS[language]
    output.title(line.name)
    wanted = words["of"].format(count=line.due.pending, wanted=line.trigger.rows)
    counts = [count for _, count in picture.days]
    dates = f"{picture.days[0][0]} .. {picture.days[-1][0]}" if counts else ""
    output.fields([
        (words["live"], *live_words(line, words)),
        (words["waiting"], f"{_bar(line)} {wanted}", due_words(line, language)),
        *([(words["collected-line"], sparkline(counts, _CURVE), f"{sum(counts):,}; {dates}")]
          if counts else []),
        *_score_lines(line, language),
        *[(words[move.action], move.tag, _local(move.ts_ms))
          for move in line.moves[-3:] if move.action == "rollback"],
    ])  # fmt: skip
    _table(output, line, language)
    newest = line.newest
    if newest and newest.state == "NEEDS_HUMAN":
        how = words["person-how"].format(run=newest.run_id)
        output.say(f"  {words['person']}: {how}")


def _bar(line: LinePicture) -> str:
    """Rows that wait against what is enough; the mark is where few are."""
    end = max(line.trigger.rows, line.due.pending, 1)
    full = min(_METER, _METER * line.due.pending // end)
    cells = list("█" * full + "░" * (_METER - full))
    few = min(_METER - 1, _METER * line.trigger.few // end)
    cells[few] = "┃" if few >= full else cells[few]
    return "".join(cells)


def _score_lines(line: LinePicture, language: Language) -> Iterator[tuple[str, str, str]]:
    """A curve for each set that was asked in more than one cycle, else its two numbers."""
    from ft2ollama.loop.texts_picture import SETS, WORDS

    words = WORDS[language]
    for name in dict.fromkeys(name for cycle in line.cycles for name in cycle.scores):
        known = [cycle.scores[name] for cycle in line.cycles if name in cycle.scores]
        newest = known[-1]
        curve = sparkline([*(one.after for one in known), 1.0], _METER)[:-1]
        told = f"{newest.before:.3f} -> {newest.after:.3f}  {curve if len(known) > 1 else ''}"
        label = SETS[name]["en"] if name in SETS else name
        yield label, told.rstrip(), words["items"].format(count=newest.items)


def _table(output: Output, line: LinePicture, language: Language) -> None:
    from ft2ollama.loop.texts import STATES
    from ft2ollama.loop.texts_picture import WORDS, took

    words = WORDS[language]
    rows = []
    for one in list(reversed(line.cycles))[:_SHOWN]:
        colour = _COLOURS.get(one.state, "bold")
        rows.append([
            one.run_id, _local(one.begun_ms)[5:], took(one.ended_ms - one.begun_ms, words),
            _counts(one), f"[{colour}]{STATES[one.state][language]}[/]", _gate(one, words),
        ])  # fmt: skip
    columns = ["run", *(words[key] for key in ("begun", "took", "kept-held-left", "state"))]
    if rows:
        output.table("", [*columns, words["found"]], rows)


def _counts(cycle: CyclePicture) -> str:
    rows = cycle.rows
    return "/".join(str(rows.get(key, 0)) for key in ("keep", "eval_fresh", "drop")) if rows else ""


def _gate(cycle: CyclePicture, words: Mapping[str, str]) -> str:
    """The rules that a cycle did not pass, or why it did not come so far."""
    from rich.markup import escape

    from ft2ollama.loop.picture_html import mark_of

    if not cycle.rules:
        return escape(cycle.error.splitlines()[0]) if cycle.error else ""
    signs: dict[str, list[str]] = {}
    for rule in cycle.rules:
        signs.setdefault("[{1}]{0}[/]".format(*_coloured(mark_of(rule))), []).append(rule.rule)
    return "\n".join(
        f"{sign} {words['rules'].format(count=len(names)) if '✓' in sign else ', '.join(names)}"
        for sign, names in signs.items() if "–" not in sign
    )  # fmt: skip


def _coloured(mark: tuple[str, str]) -> tuple[str, str]:
    return mark[0], _MOODS[mark[1]]


def _local(ms: int) -> str:
    from ft2ollama.loop.picture_html import when

    return when(ms)


def _utc(ms: int | None) -> str | None:
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, timezone.utc).isoformat(timespec="seconds")


def _events(output: Output, picture: Picture) -> None:
    output.event("ledger", name=picture.ledger, rows=picture.rows, days=picture.days)
    for line in picture.lines:
        output.event("line", **_line(line))


def _line(line: LinePicture) -> Mapping[str, Any]:
    live, newest = line.live, line.newest
    promoted = [move for move in line.moves if move.action == "publish"]
    return {
        "line": line.name, "alias": line.alias, "host": line.host,
        "live": live and {
            "tag": live.tag or None, "digest": live.digest, "since": _utc(live.since_ms),
            "known_by": live.known_by,
        },
        "promoted": promoted[-1].tag if promoted else None,
        "waiting": line.due.pending, "due": line.due.due, "why": line.due.why,
        "trigger": line.trigger.model_dump(),
        "person": newest.run_id if newest and newest.state == "NEEDS_HUMAN" else None,
        "cycles": [_cycle(one) for one in reversed(line.cycles)],
        "moves": [
            {"when": _utc(one.ts_ms), "action": one.action, "tag": one.tag, "digest": one.digest,
             "actor": one.actor}
            for one in line.moves
        ],
    }  # fmt: skip


def _cycle(one: CyclePicture) -> Mapping[str, Any]:
    return {
        "run": one.run_id, "state": one.state, "begun": _utc(one.begun_ms),
        "ended": _utc(one.ended_ms), "error": one.error or None, "tag": one.tag or None,
        "rows": one.rows, "gate": [vars(rule) for rule in one.rules],
        "scores": {name: vars(score) for name, score in one.scores.items()},
    }  # fmt: skip
