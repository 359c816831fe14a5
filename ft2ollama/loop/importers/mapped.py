"""Any other file, by a map of its fields: `--map question=$.q,answer=$.a.text,contexts=$.docs`.

In: JSON, JSONL or CSV, and dotted paths: `$.a.b`, `$.a[0].b`, `$.a[-1]`, `$['a key']`.  Out: one
answer a row. A model wrote it unless `--origin human` says that people did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ft2ollama.config.expects import did_you_mean
from ft2ollama.data.problems import BadRow
from ft2ollama.errors import UsageError
from ft2ollama.loop.identity import hmac_user
from ft2ollama.loop.importers.base import (
    Importer,
    Item,
    Record,
    Row,
    Sniff,
    contexts_of,
    decoded,
    each,
    exchange,
    ms_of,
    raw_of,
    string,
    text_of,
    thumb_of,
)  # fmt: skip
from ft2ollama.loop.importers.rows import rows_of
from ft2ollama.loop.records import Feedback

FIELDS = ("question", "answer", "messages", "system", "contexts", "rating", "correction", "comment",
          "id", "chat", "message", "time", "model", "user")  # fmt: skip
Path_ = tuple[str | int, ...]

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]|\[(?:'([^']+)'|\"([^\"]+)\")\]")
_EXAMPLE = "--map 'question=$.q,answer=$.a,contexts=$.docs,rating=$.stars'"


def parse_map(text: str) -> Mapping[str, Path_]:
    """Raises UsageError that names every mistake."""
    found: dict[str, Path_] = {}
    wrong = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, path = part.partition("=")
        steps = _steps(path.strip())
        if name.strip() not in FIELDS:
            near = did_you_mean(name.strip(), FIELDS)
            wrong.append(f"{name.strip()}: no such field" + (f"; {near}?" if near else ""))
        elif steps is None:
            wrong.append(f"{part}: no path; a path is like $.a.b or $.a[0]")
        else:
            found[name.strip()] = steps
    if not wrong and ("answer" not in found or not {"question", "messages"} & found.keys()):
        wrong.append("question (or messages) and answer are wanted")
    if wrong:
        raise UsageError("--map cannot be understood", "\n".join(wrong), _EXAMPLE)
    return found


def _steps(path: str) -> Path_ | None:
    rest, found = path.removeprefix("$"), []
    while rest:
        step = _STEP.match(rest)
        if not step:
            return None
        found.append(int(step[2]) if step[2] else step[1] or step[3] or step[4])
        rest = rest[step.end() :]
    return tuple(found) or None


def at(row: Any, path: Path_) -> Any:
    """What stands there, None for nothing. JSON text on the way is read."""
    for step in path:
        row = decoded(row)
        if isinstance(step, int):
            whole = isinstance(row, list) and -len(row) <= step < len(row)
            row = row[step] if whole else None
        else:
            row = row.get(step) if isinstance(row, Mapping) else None
    return row


def importer(wanted: Mapping[str, Path_]) -> Importer:
    """An importer of files of which this map is true."""

    def one(row: Any, place: str) -> Iterator[Item]:
        yield _record({name: at(row, path) for name, path in wanted.items()}, row, place)

    def read(path: Path) -> Iterator[Item]:
        return each(rows_of(path), one)

    return Importer("map", lambda _: Sniff(), read)


def _record(values: Row, row: Any, place: str) -> Item:
    contexts = values.get("contexts")
    pieces = decoded(contexts)
    ids = {"ext_id": "id", "chat_id": "chat", "message_id": "message", "model": "model"}
    made = exchange(
        _messages(values), _text(values.get("answer")),
        contexts=contexts_of(pieces if isinstance(pieces, list) else [pieces]),
        context_extractor="map" if contexts else "",
        ts_ms=ms_of(values.get("time")), user_hmac=hmac_user(string(values.get("user"))),
        raw=raw_of(row), **{name: string(values.get(field)) for name, field in ids.items()},
    )  # fmt: skip
    return Record(place, made, tuple(_said(values, made.ts_ms, made.user_hmac)))


def _messages(values: Row) -> list[dict[str, Any]]:
    turns = decoded(values.get("messages"))
    if isinstance(turns, Sequence) and not isinstance(turns, str):
        return [dict(turn) for turn in turns]
    question, system = _text(values.get("question")), _text(values.get("system"))
    if not question.strip():
        raise BadRow("no-question")
    asked = [{"role": "system", "content": system}] if system else []
    return [*asked, {"role": "user", "content": question}]


def _text(value: Any) -> str:
    return string(value) if isinstance(value, int | float) else text_of(value)


def _said(values: Row, ts_ms: int, who: str) -> Iterator[Feedback]:
    rating = values.get("rating")
    thumb = thumb_of(rating)
    number = rating if isinstance(rating, int | float) else None
    if isinstance(rating, str) and re.fullmatch(r"-?\d+(\.\d+)?", rating.strip()):
        number = float(rating)
    if number is not None and not isinstance(number, bool) and number not in (-1, 0, 1):
        yield Feedback("score", ts_ms, "map", value=float(number), actor_hmac=who)
    elif thumb is not None:
        yield Feedback("thumb", ts_ms, "map", value=thumb, actor_hmac=who)
    for kind in ("correction", "comment"):
        if text := _text(values.get(kind)).strip():
            yield Feedback(kind, ts_ms, "map", text=text, actor_hmac=who)
