"""Charts of the loop as SVG text for a page: colours come from the page's style by class.

In: numbers and labels.  Out: `<svg>` elements; every text escaped, every mark with a `<title>`. No
colour stands alone: a shape, a label or a place says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

_WIDE, _HALF, _SMALL = 1120, 520, 260  # about as many pixels as the page gives them
_LEFT = 44  # room for the numbers of an axis
_LABEL = 190  # room for names at the left
_ROW = 30
_PARTS = ("keep", "eval_fresh", "drop", "pending")


@dataclass(frozen=True)
class Step:
    """The version that a name was from `ts_ms` on. back: by a rollback.  label: for people."""

    ts_ms: int
    version: str
    label: str
    back: bool = False


def day_bars(
    days: Sequence[tuple[str, int]], marks: Mapping[str, str], name: str, height: int = 190
) -> str:
    """A bar for each (date, count); marks: date -> what happened then, a triangle below."""
    top, bottom = 14, height - 36
    most = max(count for _, count in days) or 1
    scale, step = _ceiling(most), (_WIDE - _LEFT - 8) / len(days)
    wide = max(1.5, min(26.0, step - 2))
    parts = [_grid(0, scale, top, bottom), _grid(scale, scale, top, bottom)]
    if scale % 2 == 0:
        parts.append(_grid(scale // 2, scale, top, bottom))
    for number, (day, count) in enumerate(days):
        middle = _LEFT + step * (number + 0.5)
        tall = (bottom - top) * count / scale
        title = f"<title>{escape(day)}: {count:,}</title>"
        if count:
            parts.append(
                f'<rect class="main" x="{middle - wide / 2:.1f}" y="{bottom - tall:.1f}" '
                f'width="{wide:.1f}" height="{tall:.1f}" rx="{min(3, wide / 4):.1f}">{title}</rect>'
            )
        if day in marks:
            parts.append(
                f'<path class="ink" d="M{middle:.1f} {bottom + 4} l5 8 h-10 z">'
                f"<title>{escape(marks[day])}</title></path>"
            )
    ends = [(days[0][0], _LEFT, "start"), (days[-1][0], _WIDE - 8, "end")]
    parts += [_text(x, height - 6, day, anchor) for day, x, anchor in ends[: len(days)]]
    return _svg((_WIDE, height), name, parts)


def meter(value: int, few: int, enough: int, name: str) -> str:
    """A bar of rows that wait; ticks where a cycle may begin."""
    end = max(enough, value, 1)
    wide, height = _HALF - 16, 62

    def x(count: float) -> float:
        return 8 + wide * count / end

    parts = [f'<rect class="empty" x="8" y="10" width="{wide}" height="18" rx="4"/>']
    if value:
        parts.append(
            f'<rect class="main" x="8" y="10" width="{max(3.0, x(value) - 8):.1f}" height="18" '
            f'rx="4"><title>{value:,}</title></rect>'
        )
    for count in sorted({few, enough}):
        if count <= end:
            anchor = "end" if x(count) > _HALF - 60 else "middle"
            parts.append(f'<path class="tick" d="M{x(count):.1f} 6 v26"/>')
            parts.append(_text(x(count), 48, f"{count:,}", anchor))
    return _svg((_HALF, height), name, parts)


def stacked(rows: Sequence[tuple[str, Mapping[str, int]]], words: Mapping[str, str]) -> str:
    """A bar a cycle, in parts by verdict.  rows: (cycle, verdict -> count)."""
    most = max([sum(counts.values()) for _, counts in rows] or [1]) or 1
    room = _HALF - _LABEL - 70
    parts = []
    for number, (cycle, counts) in enumerate(rows):
        y = number * _ROW + 6
        parts.append(_text(0, y + 14, cycle, "start", "mono"))
        x = float(_LABEL)
        for verdict in _PARTS:
            if not (count := counts.get(verdict, 0)):
                continue
            wide = room * count / most
            title = f"<title>{escape(words[verdict])}: {count:,}</title>"
            parts.append(
                f'<rect class="{verdict}" x="{x:.1f}" y="{y}" width="{max(1.0, wide - 2):.1f}" '
                f'height="18" rx="2">{title}</rect>'
            )
            if wide > 9 * len(str(count)) + 6:
                inside = "onempty" if verdict == "pending" else "onmark"
                parts.append(_text(x + wide / 2 - 1, y + 13, f"{count:,}", "middle", inside))
            x += wide
        parts.append(_text(x + 6, y + 14, f"{sum(counts.values()):,}", "start"))
    return _svg((_HALF, len(rows) * _ROW + 6), words["taken"], parts)


def pairs(points: Sequence[tuple[str, float, float]], name: str) -> str:
    """Before and after of each cycle, 0 to 1.  points: (cycle, before, after), oldest first."""
    wide, height, left, top, bottom = _SMALL, 140, 28, 12, 122
    step = (wide - left - 44) / max(1, len(points))

    def y(score: float) -> float:
        return bottom - (bottom - top) * min(1.0, max(0.0, score))

    parts = []
    for value in (0.0, 0.5, 1.0):
        parts.append(f'<path class="grid" d="M{left} {y(value):.1f} H{wide - 40}"/>')
        parts.append(_text(left - 6, y(value) + 4, f"{value:g}", "end"))
    for number, (cycle, before, after) in enumerate(points):
        x = left + step * (number + 0.5)
        title = f"<title>{escape(cycle)}: {before:.3f} → {after:.3f}</title></circle>"
        parts.append(f'<path class="link" d="M{x:.1f} {y(before):.1f} V{y(after):.1f}"/>')
        parts.append(f'<circle class="ring" cx="{x:.1f}" cy="{y(before):.1f}" r="5">{title}')
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y(after):.1f}" r="4.5">{title}')
    if points:
        _, _, last = points[-1]
        x = left + step * (len(points) - 0.5)
        parts.append(_text(x + 10, y(last) + 4, f"{last:.2f}", "start", "strong"))
    return _svg((wide, height), name, parts)


def timeline(steps: Sequence[Step], now_ms: int, name: str) -> str:
    """Which version the name was, when: a row a version, newest on top; dots are moves to it."""
    versions = list(dict.fromkeys(step.version for step in steps))[::-1]
    first = steps[0].ts_ms
    span, room = max(1, now_ms - first), _WIDE - _LABEL - 20
    height = len(versions) * _ROW + 10

    def x(ms: int) -> float:
        return _LABEL + room * (ms - first) / span

    def y(version: str) -> float:
        return versions.index(version) * _ROW + 16

    parts = []
    for version in versions:
        short = version.rpartition(":")[2]
        parts.append(f'<path class="grid" d="M{_LABEL} {y(version)} H{_WIDE - 20}"/>')
        parts.append(_text(0, y(version) + 4, short, "start", "mono"))
    ends = [step.ts_ms for step in steps[1:]] + [now_ms]
    for step, end in zip(steps, ends, strict=True):
        d = f"M{x(step.ts_ms):.1f} {y(step.version)} H{x(end):.1f}"
        parts.append(f'<path class="held" d="{d}"/>')
    for before, step in pairwise(steps):
        d = f"M{x(step.ts_ms):.1f} {y(before.version)} V{y(step.version)}"
        parts.append(f'<path class="{"back" if step.back else "forth"}" d="{d}"/>')
    for step in steps:
        at, level = x(step.ts_ms), y(step.version)
        shape = (
            f'<path class="undo" d="M{at:.1f} {level - 7} l7 7 -7 7 -7 -7 z">'
            if step.back
            else f'<circle class="dot" cx="{at:.1f}" cy="{level}" r="5">'
        )
        closing = "</path>" if step.back else "</circle>"
        parts.append(f"{shape}<title>{escape(step.label)}</title>{closing}")
    return _svg((_WIDE, height), name, parts)


def _svg(size: tuple[int, int], name: str, parts: Sequence[str]) -> str:
    width, height = size
    kind = ' class="wide"' if width == _WIDE else ""
    return (
        f'<svg{kind} viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{shown}>{escape(text)}</text>'


def _grid(value: int, scale: int, top: int, bottom: int) -> str:
    y = bottom - (bottom - top) * value / scale
    line = f'<path class="grid" d="M{_LEFT} {y:.1f} H{_WIDE - 8}"/>'
    return line + _text(_LEFT - 6, y + 4, f"{value:,}", "end")


def _ceiling(most: int) -> int:
    """The next number of 1, 2 or 5 and zeros."""
    size = 1
    while True:
        for digit in (1, 2, 5):
            if digit * size >= most:
                return digit * size
        size *= 10
