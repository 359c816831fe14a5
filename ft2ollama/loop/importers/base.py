"""What every importer hands on, and what they share.

An importer turns each row of a source into `Item`s, at least one: a `Record` (an answer), a `Said`
(what people said of an answer that is elsewhere) or a `Reject`. Row errors are `BadRow`s with a
code of `texts.TEXTS` or of the data catalogue. Nothing is skipped, so counts add up.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ft2ollama.data.placed import Broken, Placed
from ft2ollama.data.problems import BadRow
from ft2ollama.loop.frontends import background_task, split_context
from ft2ollama.loop.identity import hmac_user
from ft2ollama.loop.records import Exchange, Feedback, canonical


@dataclass(frozen=True)
class Record:
    """An answer, and what was said of it (its ids are filled in when the answer has its row)."""

    place: str
    exchange: Exchange
    feedback: tuple[Feedback, ...] = ()


@dataclass(frozen=True)
class Said:
    """A row that is only feedback. It names its answer by message_id, or by chat_id alone."""

    place: str
    feedback: tuple[Feedback, ...]
    raw: str = ""


@dataclass(frozen=True)
class Reject:
    """A row that gives no answer to learn from. feedback: what can be used of it nevertheless."""

    place: str
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    raw: str = ""
    feedback: tuple[Feedback, ...] = ()


Item = Record | Said | Reject
Row = Mapping[str, Any]
Reader = Callable[[Path], Iterator[Item]]


@dataclass(frozen=True)
class Head:
    """The beginning of a source, read once for all importers. fields: of its first row.

    rows: the first rows, without those that cannot be read.  wrapper: the keys around the list.
    """

    path: Path
    suffix: str
    rows: tuple[Any, ...] = ()
    wrapper: frozenset[str] = frozenset()
    sqlite: bool = False

    @property
    def fields(self) -> frozenset[str]:
        """Names in any of the first rows; the cells of a table may be empty."""
        return frozenset(key for row in self.rows if isinstance(row, Mapping) for key in row)


@dataclass(frozen=True)
class Sniff:
    """How sure an importer is that a source is its own, 0 to 100, and by what it knows."""

    score: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Importer:
    """One format. version: counts up when the same file would give other rows.

    wrappers: keys that hold the list of rows when the file is one object.  origin: what is said of
    who wrote the answers.
    """

    name: str
    sniff: Callable[[Head], Sniff]
    read: Reader
    version: int = 1


def each(rows: Iterable[Placed], one: Callable[[Any, str], Iterable[Item]]) -> Iterator[Item]:
    """The items of every row; a row that gives none, or has another shape, is rejected."""
    for place, given in rows:
        if isinstance(given, Broken):
            problem = given.problem
            values = {**problem.values, "key": problem.key}
            yield Reject(problem.place, problem.code, values, cleaned(given.text))
            continue
        row = cleaned(given)
        try:
            items = list(one(row, place))
        except BadRow as error:
            items = [reject(error, place, row)]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
            items = [Reject(place, "row-shape", {"reason": detail}, raw_of(row))]
        yield from items or [Reject(place, "row-nothing", {}, raw_of(row))]


_NO_TEXT = re.compile("[\\x00\ud800-\udfff]")


def cleaned(value: Any) -> Any:
    """The same without what databases do not store: NUL, halves of characters, NaN."""
    if isinstance(value, str):
        return _NO_TEXT.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def reject(error: BadRow, place: str, row: Any, feedback: Sequence[Feedback] = ()) -> Reject:
    """The row as refused, with what can be used of it."""
    values = {**error.values, "key": error.key}
    return Reject(place, error.code, values, raw_of(row), tuple(feedback))


def exchange(messages: Sequence[Row], answer: str, **more: Any) -> Exchange:
    """An exchange with its question and, unless given, the contexts found in the prompt.

    Raises BadRow for a task of a front-end, an empty answer, and when nobody asked anything.
    """
    kept = [dict(message) for message in messages if not _is_empty_system(message)]
    asked = next((text_of(m.get("content")) for m in reversed(kept) if m["role"] == "user"), "")
    system = "\n".join(text_of(m.get("content")) for m in kept if m["role"] == "system")
    if not asked.strip():
        raise BadRow("no-question")
    if task := background_task(asked):
        raise BadRow("background-task", task=task)
    if not answer.strip() and not more.get("tool_calls"):
        raise BadRow("no-answer")
    found = split_context(asked, system)
    values: dict[str, Any] = {"question": found.question, "ts_ms": 0}
    if not more.get("contexts") and found.contexts:
        values |= {"contexts": found.contexts, "context_extractor": found.extractor}
        more.pop("contexts", None)
    thinking, said = split_thinking(answer)
    if thinking and not more.get("thinking"):
        more["thinking"] = thinking
    return Exchange(kept, answer=said, **{**values, **more})


def _is_empty_system(message: Row) -> bool:
    """Dify writes one into every line of its annotation export."""
    return message.get("role") == "system" and not text_of(message.get("content")).strip()


_THOUGHTS = re.compile(
    r"\s*(?:<think>(.*?)</think>|<details type=\"reasoning\"[^>]*>(?:\s*<summary>.*?</summary>)?"
    r"(.*?)</details>)\s*",
    re.DOTALL,
)


def split_thinking(answer: str) -> tuple[str, str]:
    """Thoughts at the beginning of an answer, as models and Open WebUI write them; the rest."""
    found = _THOUGHTS.match(answer)
    if not found:
        return "", answer
    thought = found[1] if found[1] is not None else found[2]
    lines = [line.removeprefix(">").strip() for line in thought.strip().splitlines()]
    return "\n".join(lines), answer[found.end() :]


def text_of(content: Any) -> str:
    """The text of a message's content: a string, none, or OpenAI's parts.

    Raises BadRow for pictures and sound, which a text model cannot learn from.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Sequence):
        return "".join(map(_part, content))
    raise BadRow("row-shape", reason=f"content is {type(content).__name__}")


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind in ("text", "input_text", "output_text") and isinstance(text, str):
        return text
    raise BadRow("row-picture", kind=str(kind))


_SOURCES = (
    "source", "document_name", "docnm_kwd", "title", "name", "document.id", "document_id", "id",
)  # fmt: skip


def contexts_of(pieces: Any) -> list[dict[str, Any]]:
    """Retrieved pieces of any source as [{"text", "source"?, "score"?}]; without text: left out."""
    found = []
    for piece in pieces if isinstance(pieces, list | tuple) else ():
        if isinstance(piece, str):
            piece = {"text": piece}
        if not isinstance(piece, Mapping):
            continue
        text = first(piece, "text", "content", "content_with_weight", "page_content", "pageContent",
                     "document.content", "chunk")  # fmt: skip
        if not isinstance(text, str) or not text.strip():
            continue
        one: dict[str, Any] = {"text": text}
        source = first(piece, *_SOURCES)
        score = first(piece, "score", "similarity", "document.score", "distance")
        if isinstance(source, str | int):
            one["source"] = str(source)
        if isinstance(score, int | float):
            one["score"] = score
        found.append(one)
    return found


def first(row: Row, *names: str) -> Any:
    """The first of these fields that is there and not empty."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def decoded(value: Any) -> Any:
    """A value; JSON text in the cell of a table or a database is read."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def string(value: Any) -> str:
    """An id or a short text, whatever type it was written as; "" for none."""
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


_MS_FROM = 1e11  # seconds until the year 5138, milliseconds from 1973
_US_FROM = 1e14
_NS_FROM = 1e17


def ms_of(value: Any) -> int:
    """A time in seconds, milliseconds, micro- or nanoseconds, or ISO 8601, as ms; 0: unknown.

    A text without a zone counts as UTC: exports are written by servers.
    """
    if isinstance(value, str):
        value = _parsed(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e20:
        return 0
    for limit, factor in ((_NS_FROM, 1e-6), (_US_FROM, 1e-3), (_MS_FROM, 1.0)):
        if value >= limit:
            return int(value * factor) if factor != 1.0 else int(value)
    return round(value * 1000)


def _parsed(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    iso = re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00").replace("/", "-"))
    iso = re.sub(r"\.(\d{1,5})(?=[+-]|$)", lambda found: "." + found[1].ljust(6, "0"), iso)
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp() * 1000 if moment.year > 1973 else 0


_PEOPLE = re.compile(
    r"(?:end_?|from_(?:end_)?|created_)?(?:user|account)(?:_?(?:id|name|email))?|user_?name|"
    r"userId|e?mail|completed_by|created_by",
    re.IGNORECASE,
)


def raw_of(row: Any) -> str:
    """The row as JSON for what we do not know; names and ids of people only as HMAC."""
    return row if isinstance(row, str) else canonical(_private(row))


def _private(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): hmac_user(str(inner))
            if _PEOPLE.fullmatch(str(key)) and isinstance(inner, str | int) and inner != ""
            else _private(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_private(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def thumb_of(value: Any) -> float | None:
    """1 or -1 of what sources call a rating; None for no opinion."""
    if isinstance(value, bool):
        return 1.0 if value else -1.0
    if isinstance(value, int | float):
        return float((value > 0) - (value < 0)) or None
    known = {
        "like": 1.0, "good": 1.0, "👍": 1.0, "up": 1.0, "true": 1.0, "1": 1.0, "+1": 1.0,
        "dislike": -1.0, "bad": -1.0, "👎": -1.0, "down": -1.0, "false": -1.0, "-1": -1.0,
    }  # fmt: skip
    return known.get(str(value).strip().lower()) if value is not None else None
