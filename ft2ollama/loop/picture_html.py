"""The loop on one self-contained page: no script, no other file, every text escaped.

In: a `Picture`.  Out: HTML text with inline SVG, for light and dark screens and for paper. A
timer can write it and anything can serve it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from html import escape

from ft2ollama.language import Language
from ft2ollama.loop.picture import CyclePicture, LinePicture, Move, Picture, Rule
from ft2ollama.loop.picture_charts import Step, day_bars, meter, pairs, stacked, timeline
from ft2ollama.loop.picture_style import POLICY, STYLE
from ft2ollama.loop.texts import RULES, STATES, ended, told
from ft2ollama.loop.texts_picture import SETS, WORDS, took

Words = Mapping[str, str]
_MOODS = {"PROMOTED": "good", "REJECTED": "soft", "FAILED": "bad", "NEEDS_HUMAN": "ask"}
_NOT_MEASURED = "–"


def page(picture: Picture, language: Language) -> str:
    """The whole page."""
    words = WORDS[language]
    made = words["made"].format(when=when(picture.now_ms), ledger=picture.ledger)
    names = ", ".join(line.name for line in picture.lines)
    title = escape(f"{words['title']}: {names}" if names else words["title"])
    body = "".join(_line(line, picture.now_ms, language) for line in picture.lines)
    return "\n".join([
        "<!doctype html>",
        f'<html lang="{"zh-CN" if language == "zh" else "en"}">',
        '<head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style></head>",
        f'<body><h1>{title}</h1><p class="soft">{escape(made)}</p>',
        _collected(picture, words),
        body or f"<p>{escape(words['no-lines'])}</p>",
        "</body></html>",
        "",
    ])  # fmt: skip


def when(ms: int) -> str:
    """Local time to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))


def _card(title: str, *parts: str, note: str = "", kind: str = "") -> str:
    told_note = f'<p class="soft">{note}</p>' if note else ""
    wide = f' class="{kind}"' if kind else ""
    return f"<section{wide}><h3>{escape(title)}</h3>{told_note}{''.join(parts)}</section>"


def _collected(picture: Picture, words: Words) -> str:
    if not picture.days:
        return _card(words["collected"], f"<p>{escape(words['nothing'])}</p>")
    counts = [count for _, count in picture.days]
    first, last = picture.days[0][0], picture.days[-1][0]
    note = words["collected-note"].format(
        count=f"{sum(counts):,}", first=first, last=last, most=f"{max(counts):,}"
    )
    marks: dict[str, str] = {}
    for line in picture.lines:
        for cycle in line.cycles:
            day = when(cycle.begun_ms)[:10]
            marks[day] = f"{marks[day]}, {cycle.run_id}" if day in marks else (
                f"{words['began']}: {cycle.run_id}"
            )  # fmt: skip
    legend = f'<p class="legend"><span><i class="tri"></i>{escape(words["began"])}</span></p>'
    chart = day_bars(picture.days, marks, words["collected"])
    return _card(words["collected"], chart, legend if marks else "", note=escape(note))


def _line(line: LinePicture, now_ms: int, language: Language) -> str:
    words = WORDS[language]
    return (
        f"<h2>{escape(line.name)}</h2>"
        + _tiles(line, language)
        + '<div class="grid2">'
        + "".join(_cards(line, now_ms, language))
        + f"</div>{_gate(line, language)}{_cycles(line, language)}{_moves(line, now_ms, words)}"
    )


def _tiles(line: LinePicture, language: Language) -> str:
    words = WORDS[language]
    tiles = [
        (words["live"], *live_words(line, words)),
        (words["waiting"], f"{line.due.pending:,}", due_words(line, language)),
    ]
    newest = line.newest
    if newest is None:
        tiles.append((words["last"], words["no-cycle"], ""))
    else:
        state = f"{_MARKS.get(newest.state, '')} {STATES[newest.state][language]}".strip()
        why = ended(newest.error, language)
        if newest.state == "NEEDS_HUMAN":
            why += f". {words['person-how'].format(run=newest.run_id)}"
        tiles.append((words["last"], state, why))
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><span class="soft">{escape(name)}</span>'
            f"<b>{escape(value)}</b><span>{escape(note)}</span></div>"
            for name, value, note in tiles
        )
        + "</div>"
    )


_MARKS = {"PROMOTED": "✓", "REJECTED": "✗", "FAILED": "✗", "NEEDS_HUMAN": "?"}


def live_words(line: LinePicture, words: Words) -> tuple[str, str]:
    """(version, since when and who says so) of the model in place."""
    live = line.live
    if live is None:
        return "–", words["no-name"]
    notes = [words["since"].format(when=when(live.since_ms))] if live.since_ms else []
    if live.known_by == "ledger":
        notes.append(words["by-ledger"])
    if not live.tag:
        return live.digest.removeprefix("sha256:")[:12], words["unlisted"]
    return live.tag, "; ".join(notes)


def due_words(line: LinePicture, language: Language) -> str:
    """Whether a cycle is due or at work, and why."""
    words, newest = WORDS[language], line.newest
    if newest and newest.state == "NEEDS_HUMAN":
        return f"{words['person']}: {newest.run_id}"
    if newest and newest.state not in _MARKS:
        return f"{words['open']}: {STATES[newest.state][language]}"
    state = words["due" if line.due.due else "not-due"]
    return f"{state}: {told(line.due.why, language)}"


def _cards(line: LinePicture, now_ms: int, language: Language) -> Iterator[str]:
    words, trigger = WORDS[language], line.trigger
    note = words["meter-note"].format(rows=trigger.rows, few=trigger.few, days=trigger.days)
    bar = meter(line.due.pending, trigger.few, trigger.rows, words["meter"])
    yield _card(words["meter"], bar, note=escape(note))
    rows = [(cycle.run_id, cycle.rows) for cycle in reversed(line.cycles) if cycle.rows]
    if rows:
        used = {verdict for _, counts in rows for verdict in counts}
        legend = "".join(
            f'<span><i class="{verdict}"></i>{escape(words[verdict])}</span>'
            for verdict in ("keep", "eval_fresh", "drop", "pending") if verdict in used
        )  # fmt: skip
        yield _card(words["taken"], stacked(rows, words), f'<p class="legend">{legend}</p>')
    if scores := _scores(line, language):
        legend = (
            f'<p class="legend"><span><i class="o"></i>{escape(words["before"])}</span>'
            f'<span><i class="keep round"></i>{escape(words["after"])}</span></p>'
        )
        chart = f'<div class="multiples">{scores}</div>{legend}'
        yield _card(words["scores"], chart, note=escape(words["scores-note"]), kind="wide")


def _scores(line: LinePicture, language: Language) -> str:
    words = WORDS[language]
    names = dict.fromkeys(name for cycle in line.cycles for name in cycle.scores)
    ordered = [name for name in SETS if name in names] + sorted(names.keys() - SETS.keys())
    parts = []
    for name in ordered:
        points = [
            (cycle.run_id, cycle.scores[name].before, cycle.scores[name].after)
            for cycle in line.cycles if name in cycle.scores
        ]  # fmt: skip
        items = [cycle.scores[name].items for cycle in line.cycles if name in cycle.scores][-1]
        shown = SETS[name][language] if name in SETS else name
        parts.append(
            f"<figure><figcaption><b>{escape(shown)}</b> "
            f'<span class="soft">{escape(words["items"].format(count=items))}</span></figcaption>'
            f"{pairs(points, shown)}</figure>"
        )
    return "".join(parts)


def _gate(line: LinePicture, language: Language) -> str:
    """A table: rules down, cycles across, newest at the right; then the newest in words."""
    words = WORDS[language]
    judged = [cycle for cycle in line.cycles if cycle.rules]
    if not judged:
        return ""
    names = dict.fromkeys(rule.rule for cycle in reversed(judged) for rule in cycle.rules)
    head = "".join(
        f'<th class="mono turn"><span>{escape(cycle.run_id[:15])}</span></th>' for cycle in judged
    )
    rows = []
    for name in names:
        about = RULES[name][language] if name in RULES else ""
        cells = "".join(_mark(_rule(cycle, name), language) for cycle in judged)
        last = _rule(judged[-1], name)
        found = told(last.why, language) if last else ""
        rows.append(
            f'<tr><th scope="row">{escape(name)}<span class="soft">{escape(about)}</span></th>'
            f"{cells}<td>{escape(found)}</td></tr>"
        )
    foot = "".join(
        f'<td class="c {_MOODS.get(cycle.state, "")}">{escape(STATES[cycle.state][language])}</td>'
        for cycle in judged
    )
    newest = words["gate-last"].format(run=judged[-1].run_id)
    table = (
        f'<div class="scroll"><table><thead><tr><th>{escape(words["rule"])}</th>{head}'
        f"<th>{escape(newest)}</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        f"<tfoot><tr><th>{escape(words['state'])}</th>{foot}<td></td></tr></tfoot></table></div>"
    )
    return _card(words["gate"], table, note=escape(words["gate-note"]))


def _rule(cycle: CyclePicture, name: str) -> Rule | None:
    return next((rule for rule in cycle.rules if rule.rule == name), None)


def mark_of(rule: Rule | None) -> tuple[str, str]:
    """(sign, mood) of a finding."""
    if rule is None:
        return _NOT_MEASURED, "soft"
    if rule.passed:
        measured = rule.hard or rule.value is not None
        return ("✓", "good") if measured else (_NOT_MEASURED, "soft")
    return ("✗", "bad") if rule.hard else ("○", "ask")


def _mark(rule: Rule | None, language: Language) -> str:
    sign, mood = mark_of(rule)
    title = f' title="{escape(told(rule.why, language))}"' if rule else ""
    return f'<td class="c {mood}"{title}>{sign}</td>'


def _cycles(line: LinePicture, language: Language) -> str:
    words = WORDS[language]
    head = "".join(f"<th>{escape(words[name])}</th>" for name in
                   ("cycle", "begun", "took", "state", "why"))  # fmt: skip
    rows = "".join(
        f'<tr class="keep4"><td class="mono">{escape(one.run_id)}</td>'
        f"<td>{when(one.begun_ms)}</td><td>{escape(took(one.ended_ms - one.begun_ms, words))}</td>"
        f'<td class="{_MOODS.get(one.state, "")}">{escape(STATES[one.state][language])}</td>'
        f"<td>{escape(ended(one.error, language))}</td></tr>"
        for one in reversed(line.cycles)
    )
    if not rows:
        return ""
    return _card(words["cycle"], _table(head, rows))


def _moves(line: LinePicture, now_ms: int, words: Words) -> str:
    if not line.moves:
        return ""
    chart = timeline([_step(move, words) for move in line.moves], now_ms, line.alias)
    head = "".join(f"<th>{escape(words[name])}</th>" for name in ("when", "what", "version", "who"))
    rows = "".join(
        f'<tr><td>{when(one.ts_ms)}</td><td class="{"ask" if one.action == "rollback" else ""}">'
        f'{escape(words.get(one.action, one.action))}</td><td class="mono">{escape(one.tag)}</td>'
        f"<td>{escape(one.actor)}</td></tr>"
        for one in reversed(line.moves)
    )
    legend = (
        f'<p class="legend"><span><i class="keep round"></i>{escape(words["publish"])}</span>'
        f'<span><i class="diamond"></i>{escape(words["rollback"])}</span></p>'
    )
    table = _table(head, rows)
    return _card(words["moves"].format(alias=line.alias), chart, legend, table)


def _table(head: str, rows: str) -> str:
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _step(move: Move, words: Words) -> Step:
    label = f"{when(move.ts_ms)} {words.get(move.action, move.action)} {move.tag}"
    return Step(move.ts_ms, move.tag, label, move.action == "rollback")
