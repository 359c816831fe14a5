"""Rows, config and seed -> a verdict for every row, and the samples. A pure function.

Each step takes rows out and says why; what is left goes on:

    rules -> who is right, who is alike -> evaluation sets -> personal data -> limits -> split
    -> samples -> order

Nothing here reads a clock, a set's order or a random generator: the same rows, config and seed give
the same bytes, whatever the database or the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ft2ollama.errors import JobError
from ft2ollama.loop.curate import mix
from ft2ollama.loop.curate.contamination import EvalItem, Retired, leaks, retired_items
from ft2ollama.loop.curate.copies import Gone, repeated, retired
from ft2ollama.loop.curate.pii import Scrubber, only_placeholders, scrubber
from ft2ollama.loop.curate.rows import Row
from ft2ollama.loop.curate.rules import RULES, Needs, judge, text_in
from ft2ollama.loop.curate.samples import Builder, Sample
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.splits import split
from ft2ollama.loop.texts import Sentence

Kind = Literal["keep", "drop", "eval_fresh"]
# Every rule in the order in which it is tried; a report lists them so.
ORDER = (
    *(rule.name for rule in RULES),
    "superseded", "overruled", "exact_dup", "near_dup", "eval_contamination", "pii", "pii_only",
    "no_weight", "grounded_cap", "no_room",
)  # fmt: skip
# A row that these stop is good: it comes again in the next cycle.
RETURNING = ("grounded_cap", "no_room")


@dataclass(frozen=True)
class Inputs:
    """new: the snapshot.  old: rows that promoted runs kept.  superseded: old rid -> new rid.

    general: conversations against forgetting.  needs: see `rules`.
    """

    new: Sequence[Row]
    needs: Needs
    seed: int
    old: Sequence[Row] = ()
    superseded: Mapping[str, str] = field(default_factory=dict)
    items: Sequence[EvalItem] = ()
    general: Sequence[Sequence[dict[str, Any]]] = ()


@dataclass(frozen=True)
class Verdict:
    """What becomes of a row. samples: sha256 of the lines made of it."""

    rid: str
    role: Literal["new", "replay"]
    verdict: Kind
    rule: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curation:
    """All of it. pii: values replaced in kept rows, by kind.  notes: for people."""

    verdicts: tuple[Verdict, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    fresh: tuple[Sample, ...]
    retired: tuple[Retired, ...]
    pii: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, Any]:
        """pending, kept, eval_fresh, dropped by rule, superseded: of new rows alone."""
        new = [one for one in self.verdicts if one.role == "new"]
        dropped = Counter(one.rule for one in new if one.verdict == "drop")
        superseded = dropped.pop("superseded", 0)
        return {
            "pending": len(new),
            "kept": sum(one.verdict == "keep" for one in new),
            "eval_fresh": sum(one.verdict == "eval_fresh" for one in new),
            "dropped": {rule: dropped[rule] for rule in ORDER if dropped[rule]},
            "superseded": superseded,
        }


class _Table:
    """The rows that are still in, and the verdicts of those that are not."""

    def __init__(self, inputs: Inputs) -> None:
        new = {row.rid for row in inputs.new}
        both = {row.rid: row for row in (*inputs.old, *inputs.new)}  # a new row is never old
        self.rows = sorted(both.values(), key=lambda row: row.seq)
        self._new = new
        self.stopped: dict[str, Verdict] = {}

    def role(self, rid: str) -> Literal["new", "replay"]:
        return "new" if rid in self._new else "replay"

    def stop(self, rid: str, rule: str, evidence: Mapping[str, Any]) -> None:
        self.stopped.setdefault(rid, Verdict(rid, self.role(rid), "drop", rule, evidence))

    def stop_all(self, gone: Iterable[Gone | mix.Waiting]) -> None:
        for one in gone:
            self.stop(one.rid, one.rule, one.evidence)
        self.rows = [row for row in self.rows if row.rid not in self.stopped]

    def of(self, role: str) -> list[Row]:
        return [row for row in self.rows if self.role(row.rid) == role]


def curate(inputs: Inputs) -> Curation:
    """Judge every row and make the data set. Raises JobError if a row were lost on the way."""
    config, seed = inputs.needs.config, inputs.seed
    table = _Table(inputs)
    _apply_rules(table, inputs.needs)
    table.stop_all(retired(table.rows, inputs.superseded))
    out = retired_items(inputs.items, table.rows)
    gone = {one.item.name for one in out}
    items = [item for item in inputs.items if item.name not in gone]
    table.stop_all(repeated(table.rows))
    table.stop_all(leaks(table.rows, items, config.contamination))
    pii = _scrub(table, config)
    _limit(table, config)
    held = split(table.of("new"), table.of("replay"), config, seed)
    made = _Made(table, inputs, held.fresh, held.val)
    verdicts = tuple(made.verdicts(table))
    _check(inputs, verdicts)
    notes = (*held.notes, *_notes(table, config))
    return Curation(verdicts, made.train, made.val, made.fresh, tuple(out), pii, notes)


def _apply_rules(table: _Table, needs: Needs) -> None:
    for row in table.rows:
        if found := judge(row, needs):
            table.stop(row.rid, *found)
    table.stop_all(())
    table.rows = [mix.grounded(row) for row in table.rows]


def _scrub(table: _Table, config: CurateConfig) -> dict[str, int]:
    """Put placeholders for personal data; the counts of each kind in the rows that stay."""
    total: Counter[str] = Counter()
    rows = []
    for row in table.rows if config.pii != "off" else ():
        put = scrubber(row.question + row.answer, config.pii_keep)
        clean = _without_pii(row, put)
        if put.counts and config.pii == "drop":
            table.stop(row.rid, "pii", dict(sorted(put.counts.items())))
        elif only_placeholders(clean.answer):
            table.stop(row.rid, "pii_only", dict(sorted(put.counts.items())))
        else:
            total += put.counts
            rows.append(clean)
    if config.pii != "off":
        table.rows = rows
    return dict(sorted(total.items()))


def _without_pii(row: Row, put: Scrubber) -> Row:
    """The row with placeholders in every text that a sample can show."""
    answer, question = put(row.answer), put(row.question)
    messages = tuple(_scrubbed_message(message, put) for message in row.messages)
    contexts = tuple(put(context) for context in row.contexts)
    calls = tuple(_scrubbed(call, put) for call in row.tool_calls)
    return replace(
        row, question=question, answer=answer, messages=messages, contexts=contexts,
        tool_calls=calls,
    )  # fmt: skip


def _scrubbed_message(message: Mapping[str, Any], put: Scrubber) -> Mapping[str, Any]:
    clean = {**message, "content": put(text_in(message))}
    if message.get("tool_calls"):
        clean["tool_calls"] = _scrubbed(message["tool_calls"], put)
    return clean


def _scrubbed(value: Any, put: Scrubber) -> Any:
    if isinstance(value, str):
        return put(value)
    if isinstance(value, Mapping):
        return {name: _scrubbed(item, put) for name, item in value.items()}
    return [_scrubbed(item, put) for item in value] if isinstance(value, list) else value


def _limit(table: _Table, config: CurateConfig) -> None:
    for row in table.rows:
        if config.weight(row.origin) == 0:
            table.stop(row.rid, "no_weight", {"origin": row.origin})
    table.stop_all(())
    table.stop_all(mix.over_cap(table.of("new"), config))
    table.stop_all(mix.without_room(table.of("new"), table.of("replay"), config))


class _Made:
    """The samples of the rows that stayed."""

    def __init__(
        self, table: _Table, inputs: Inputs, fresh: frozenset[str], val: frozenset[str]
    ) -> None:
        config, seed = inputs.needs.config, inputs.seed
        held = fresh | val
        new = [row for row in table.of("new") if row.rid not in held]
        old = mix.drawn_history(new, table.of("replay"), config, seed)
        builder = Builder([*new, *old], config, seed)
        samples = [*builder.build(new, "new"), *builder.build(old, "replay")]
        samples += mix.general_samples(inputs.general, len(samples), config, seed)
        self.train = tuple(mix.in_order(samples, seed))
        rows = table.of("new")
        self.val = tuple(builder.closed(row) for row in rows if row.rid in val)
        self.fresh = tuple(builder.closed(row) for row in rows if row.rid in fresh)
        self._fresh = fresh
        self._used = {row.rid for row in (*new, *old)} | val

    def verdicts(self, table: _Table) -> Iterable[Verdict]:
        """One for each new row, and for each old one that is trained on again or has to go."""
        made: dict[str, list[str]] = {}
        for sample in (*self.train, *self.val, *self.fresh):
            made.setdefault(sample.rid, []).append(sample.sha256)
        rids = {**{row.rid: row.seq for row in table.rows}, **dict.fromkeys(table.stopped, 0)}
        for rid in sorted(rids):
            if rid in table.stopped:
                yield table.stopped[rid]
            elif rid in self._fresh:
                yield Verdict(rid, "new", "eval_fresh", samples=tuple(made[rid]))
            elif rid in self._used:
                yield Verdict(rid, table.role(rid), "keep", samples=tuple(sorted(made[rid])))


def _check(inputs: Inputs, verdicts: Sequence[Verdict]) -> None:
    """pending = kept + dropped + eval_fresh + superseded, row by row."""
    judged = Counter(one.rid for one in verdicts if one.role == "new")
    wanted = Counter({row.rid: 1 for row in inputs.new})
    if judged != wanted:
        wrong = sorted((judged - wanted) + (wanted - judged))
        raise JobError(
            "curation lost or doubled rows, which is a fault of ft2ollama",
            f"{len(wanted)} rows came in, {judged.total()} verdicts came out: {wrong[:3]}",
            "report it with the config; nothing was written",
        )


def _notes(table: _Table, config: CurateConfig) -> Iterable[str]:
    waiting = Counter(one.rule for one in table.stopped.values())
    if waiting["grounded_cap"]:
        yield Sentence("cap-waits", count=waiting["grounded_cap"], cap=config.grounded_cap)
    if waiting["no_room"]:
        yield Sentence("room-waits", count=waiting["no_room"], most=config.max_samples)
    if not config.general_data and table.of("new"):
        yield Sentence("no-general")
