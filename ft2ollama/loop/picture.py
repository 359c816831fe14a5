"""Everything that `loop status` shows, as plain values: one reading for terminal, page and JSON.

In: the ledger, a clock, and the servers where they answer.  Out: `Picture`. What is live is asked
of the server, because a rollback or another program may have moved the name; where no server
answers the last known move is taken, and `known_by` says so. Nothing here writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, func, select

from ft2ollama.errors import UserError
from ft2ollama.loop import history
from ft2ollama.loop import tables as t
from ft2ollama.loop.due import Due, is_due
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.overview import SourceCount, overview
from ft2ollama.loop.settings import Trigger
from ft2ollama.loop.states import Cycle
from ft2ollama.loop.steps import config_of
from ft2ollama.loop.texts import from_kept
from ft2ollama.ollama_names import canonical_name
from ft2ollama.versions import log_path

# host, name -> digest of every model on a server that answers, else None.
Models = Callable[[str | None], Mapping[str, str] | None]
_SAME_MOVE_MS = 60_000  # the ledger and the log of publications write one rollback down each


@dataclass(frozen=True)
class Rule:
    """A finding of the gate. why: a `Sentence` for texts.told.  hard: failing it means FAIL."""

    rule: str
    passed: bool
    hard: bool
    why: str
    value: float | None
    threshold: float | None


@dataclass(frozen=True)
class Score:
    """Mean scores (0 to 1) of both models on the items of a set that both were asked."""

    before: float
    after: float
    items: int


@dataclass(frozen=True)
class CyclePicture:
    """One cycle. rows: verdict -> count.  scores: set -> Score.  tag: its version in Ollama, ""
    before it was registered.  error: why it is not promoted, or what failed last.
    """

    run_id: str
    state: str
    begun_ms: int
    ended_ms: int
    error: str
    tag: str
    rows: Mapping[str, int] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """A name that came to be another version. action: publish or rollback."""

    ts_ms: int
    action: str
    tag: str
    digest: str
    actor: str


@dataclass(frozen=True)
class Live:
    """What the name is now. tag: "" when no cycle or publication known here made it.

    since_ms: of the newest move to it, None where it is not known.
    """

    tag: str
    digest: str
    since_ms: int | None
    known_by: Literal["server", "ledger"]


@dataclass(frozen=True)
class LinePicture:
    """One line. cycles, moves: oldest first.  trigger: of the newest cycle's config, or defaults.

    live: None when the name does not exist.
    """

    name: str
    alias: str
    host: str
    live: Live | None
    due: Due
    trigger: Trigger
    cycles: tuple[CyclePicture, ...]
    moves: tuple[Move, ...]

    @property
    def newest(self) -> CyclePicture | None:
        """The newest cycle."""
        return self.cycles[-1] if self.cycles else None


@dataclass(frozen=True)
class Picture:
    """ledger: its name.  days: (date, rows) up to the newest row's day, local time."""

    now_ms: int
    ledger: str
    days: tuple[tuple[str, int], ...]
    sources: tuple[SourceCount, ...]
    lines: tuple[LinePicture, ...]

    @property
    def rows(self) -> int:
        """All rows of the ledger."""
        return sum(source.rows for source in self.sources)


def take(
    ledger: Ledger,
    names: Sequence[str],
    now_ms: int,
    models: Models,
    *,
    cycles: int = 12,
    days: int = 60,
) -> Picture:
    """The picture of these lines. cycles: the most that are shown of each."""
    with ledger.read() as connection:
        found = overview(connection, days)
    lines = tuple(_line(ledger, name, now_ms, models, cycles) for name in names)
    return Picture(now_ms, ledger.name, found.days, found.sources, lines)


def _line(ledger: Ledger, name: str, now_ms: int, models: Models, most: int) -> LinePicture:
    newest_first = history.cycles(ledger, name, most)
    settings = config_of(newest_first[0]) if newest_first else None
    trigger = settings.trigger if settings else Trigger()
    alias = canonical_name(name)
    with ledger.read() as connection:
        scores = _all_scores(connection, name)
        shown = tuple(_cycle(connection, one, scores) for one in reversed(newest_first))
        moves = _deployments(connection, alias)
        host = moves[-1][1] if moves else (settings.host if settings else None) or ""
    known = _with_rollbacks([move for move, _ in moves], alias, host)
    live = _live(models(host or None), alias, known)
    due = is_due(ledger, name, trigger, now_ms)
    return LinePicture(name, alias, host, live, due, trigger, shown, known)


def _cycle(connection: Connection, one: Cycle, scores: _Scores) -> CyclePicture:
    events, record, gate = t.run_event, t.run_record, t.gate_result
    ended = connection.execute(
        select(func.max(events.c.ts_ms)).where(events.c.run_id == one.run_id)
    ).scalar()
    counts = (
        select(record.c.verdict, func.count())
        .where(record.c.run_id == one.run_id, record.c.role == "new")
        .group_by(record.c.verdict)
    )
    found = connection.execute(select(gate).where(gate.c.run_id == one.run_id)).mappings().all()
    rules = tuple(
        Rule(row["rule"], row["passed"], bool(row["detail"].get("hard", True)),
             from_kept(row["detail"]), row["value"], row["threshold"])
        for row in sorted(found, key=lambda row: row["detail"]["number"])
    )  # fmt: skip
    made = _detail(connection, one.run_id, "REGISTERED")
    asked = _detail(connection, one.run_id, "EVALUATED")
    return CyclePicture(
        one.run_id,
        one.state,
        one.created_ms,
        ended or one.created_ms,
        one.error or "",
        made.get("tag", ""),
        dict(sorted(map(tuple, connection.execute(counts)))),
        rules,
        _compared(scores, asked.get("champion_digest", ""), made.get("digest", "")),
    )


def _detail(connection: Connection, run_id: str, state: str) -> dict[str, Any]:
    event = t.run_event
    wanted = select(event.c.detail).where(event.c.run_id == run_id, event.c.to_state == state)
    found: dict[str, Any] = json.loads(connection.execute(wanted).scalar() or "{}")
    return found


# digest of a model -> (set, version, item) -> score
_Scores = Mapping[str, Mapping[tuple[str, int, str], float]]


def _all_scores(connection: Connection, line: str) -> _Scores:
    result = t.eval_result
    wanted = select(
        result.c.model_digest, result.c.set_name, result.c.version, result.c.item_id,
        result.c.scores,
    ).where(result.c.set_name.startswith(f"{line}/", autoescape=True))  # fmt: skip
    found: dict[str, dict[tuple[str, int, str], float]] = {}
    for digest, name, version, item, scores in connection.execute(wanted):
        kept = found.setdefault(digest, {})
        kept[name.rpartition("/")[2], version, item] = float(scores["score"])
    return found


def _compared(scores: _Scores, champion: str, challenger: str) -> dict[str, Score]:
    """Means over what both were asked: later cycles ask the champion other fresh questions."""
    old, new = scores.get(champion, {}), scores.get(challenger, {})
    pairs: dict[str, list[tuple[float, float]]] = {}
    for key in sorted(old.keys() & new.keys()):
        pairs.setdefault(key[0], []).append((old[key], new[key]))
    return {
        name: Score(
            sum(before for before, _ in both) / len(both),
            sum(after for _, after in both) / len(both),
            len(both),
        )
        for name, both in pairs.items()
    }


def _deployments(connection: Connection, alias: str) -> list[tuple[Move, str]]:
    """Verified moves of a name with their host, oldest first."""
    one = t.deployment
    wanted = select(one).where(one.c.alias == alias, one.c.state == "verified").order_by(one.c.id)
    return [
        (
            Move(row["ts_ms"], row["action"], row["to_tag"], row["to_digest"], row["actor"] or ""),
            row["host"],
        )
        for row in connection.execute(wanted).mappings()
    ]


def _with_rollbacks(moves: Sequence[Move], alias: str, host: str) -> tuple[Move, ...]:
    """The ledger's moves, and those of the log of publications that it does not have."""
    logged = [
        move for move in _logged(alias, host)
        if not any(move.digest == one.digest and abs(move.ts_ms - one.ts_ms) < _SAME_MOVE_MS
                   for one in moves)
    ]  # fmt: skip
    return tuple(sorted([*moves, *logged], key=lambda move: move.ts_ms))


def _logged(alias: str, host: str) -> Iterator[Move]:
    path = log_path()
    for text in path.read_text("utf-8").splitlines() if path.is_file() else ():
        with suppress(ValueError, KeyError, TypeError):  # a line cut by a crash
            line = json.loads(text)
            if (line["name"], line["host"]) == (alias, host):
                when = int(datetime.fromisoformat(line["time"]).timestamp() * 1000)
                yield Move(when, line["action"], line["tag"], line["digest"], "")


def _live(models: Mapping[str, str] | None, alias: str, moves: Sequence[Move]) -> Live | None:
    if models is None:
        last = moves[-1] if moves else None
        return Live(last.tag, last.digest, last.ts_ms, "ledger") if last else None
    digest = models.get(alias)
    if digest is None:
        return None
    mine = [move for move in moves if move.digest == digest]
    if mine:
        since = mine[-1].ts_ms if mine[-1] is moves[-1] else None
        return Live(mine[-1].tag, digest, since, "server")
    return Live("", digest, None, "server")


def ask_server(host: str | None) -> Mapping[str, str] | None:
    """The models of a server that answers soon, else None."""
    from ft2ollama.ollama_api import Ollama

    with suppress(UserError):
        return Ollama(host, timeout_s=5).models()
    return None
