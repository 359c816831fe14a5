"""How much of what: a limit on the model's own answers, history against forgetting, the order.

In: rows and samples.  Out: which rows have to wait, which old ones are drawn, and the samples in
their order. Each cycle trains from the frozen base, so all that was kept is eligible again;
`new_to_old` applies once the new samples fill a quarter of the data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ft2ollama.loop.curate.copies import RANKS
from ft2ollama.loop.curate.rows import Row
from ft2ollama.loop.curate.samples import Sample, draw
from ft2ollama.loop.curate.settings import CurateConfig

_OWN = "grounded_model"


@dataclass(frozen=True)
class Waiting:
    """A row that is good and finds no place this time."""

    rid: str
    rule: str
    evidence: dict[str, Any]


def over_cap(rows: Sequence[Row], config: CurateConfig) -> list[Waiting]:
    """A model's grounded answers beyond grounded_cap of the new samples; the newest stay."""
    own = [row for row in rows if row.origin == _OWN]
    others = sum(config.weight(row.origin) for row in rows if row.origin != _OWN)
    if config.grounded_cap >= 1 or not own or not config.weight_grounded:
        return []
    most = int(others * config.grounded_cap / (1 - config.grounded_cap) + 1e-9)
    most //= config.weight_grounded
    evidence = {"cap": config.grounded_cap, "allowed": most, "have": len(own)}
    return [Waiting(row.rid, "grounded_cap", evidence) for row in _newest(own)[most:]]


def without_room(new: Sequence[Row], old: Sequence[Row], config: CurateConfig) -> list[Waiting]:
    """New rows beyond max_samples; answers of people stay first, then the newest."""
    room = _room(config)
    most = room - min(_samples(old, config), int(room / (1 + config.new_to_old)))
    waiting, used = [], 0
    for row in sorted(_newest(new), key=lambda row: RANKS[row.origin]):
        used += config.weight(row.origin)
        if used > most:
            evidence = {"max_samples": config.max_samples}
            waiting.append(Waiting(row.rid, "no_room", evidence))
    return waiting


def drawn_history(
    new: Sequence[Row], old: Sequence[Row], config: CurateConfig, seed: int
) -> list[Row]:
    """The old rows that are trained on again."""
    count = _samples(new, config)
    left = _room(config) - count
    if count >= 0.25 * config.max_samples:
        left = min(left, int(count / config.new_to_old))
    chosen = []
    for row in sorted(old, key=lambda row: (draw(seed, "replay", row.said_sha256), row.rid)):
        weight = config.weight(row.origin)
        if weight <= left:
            chosen.append(row)
            left -= weight
    return chosen


def general_samples(
    rows: Iterable[Sequence[dict[str, Any]]], count: int, config: CurateConfig, seed: int
) -> list[Sample]:
    """General conversations, so many that they are general_share of the data set."""
    wanted = round(count * config.general_share / (1 - config.general_share))
    made = [Sample(tuple(messages), "general", role="general") for messages in rows]
    unique = {sample.sha256: sample for sample in made}
    return _shuffled(list(unique.values()), seed, "general")[:wanted]


def in_order(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """New samples first; history and general ones among the last third.

    What a model knew and reads late again lowers what it makes up (2511.02626). A trainer that
    shuffles ignores the order: `disable_shuffling: true`.
    """
    new = _shuffled([one for one in samples if one.role == "new"], seed, "order")
    late = [one for one in samples if one.role != "new"]
    begin = max(0, min(len(new), len(samples) - max(len(late), -(-len(samples) // 3))))
    return [*new[:begin], *_shuffled([*new[begin:], *late], seed, "late")]


def grounded(row: Row) -> Row:
    """A model's answer that passed every rule is a grounded one."""
    return replace(row, origin=_OWN) if row.origin == "model" else row


def _shuffled(samples: Sequence[Sample], seed: int, what: str) -> list[Sample]:
    seen: dict[str, int] = {}
    keyed = []
    for one in sorted(samples, key=lambda one: (one.said_sha256, one.sha256)):
        copy = seen[one.said_sha256] = seen.get(one.said_sha256, -1) + 1
        keyed.append((draw(seed, what, one.said_sha256, copy), one.said_sha256, copy, one))
    return [one for *_, one in sorted(keyed, key=lambda key: key[:3])]


def _newest(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.age, reverse=True)


def _samples(rows: Sequence[Row], config: CurateConfig) -> int:
    return sum(config.weight(row.origin) for row in rows)


def _room(config: CurateConfig) -> int:
    share = config.general_share if config.general_data else 0.0
    return int(config.max_samples * (1 - share))
