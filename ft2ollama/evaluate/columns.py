"""One model's replies to the items, and their scores: a column of the table.

In: a model as a function from (messages, limit) to `Said`.  Out: `Column`, plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ft2ollama.evaluate.material import Item
from ft2ollama.scores import (
    chrf,
    contains_facts,
    distinct_4,
    exact_match,
    numbers,
    numbers_equal,
)

NOTHING = "–"
LOOPS = 0.3  # distinct 4-grams: a reply below goes round in circles


@dataclass(frozen=True)
class Said:
    """A reply. tokens, seconds: of the writing alone, the prompt not counted.

    stopped: the model ended it itself.
    """

    text: str
    stopped: bool
    tokens: int
    seconds: float


Speak = Callable[[Sequence[Mapping[str, Any]], int], Said]
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Reply:
    """A reply with its scores. chrf, exact, numbers: of rows; right: of questions; else None."""

    item: Item
    said: Said
    chrf: float | None
    exact: bool | None
    numbers: bool | None
    right: bool | None
    distinct: float

    def as_dict(self) -> dict[str, Any]:
        """For eval.json."""
        return {
            "place": self.item.place,
            "messages": [dict(message) for message in self.item.messages],
            "reference": self.item.reference,
            "facts": list(self.item.facts),
            "reply": self.said.text,
            "stopped": self.said.stopped,
            "tokens": self.said.tokens,
            "seconds": round(self.said.seconds, 3),
            "chrf": None if self.chrf is None else round(self.chrf, 2),
            "exact": self.exact,
            "numbers": self.numbers,
            "right": self.right,
            "distinct_4": round(self.distinct, 3),
        }


@dataclass(frozen=True)
class Share:
    """`hits` of `of`."""

    hits: int
    of: int

    def __str__(self) -> str:
        return f"{self.hits} of {self.of}"


@dataclass(frozen=True)
class Scores:
    """The sums of a column; None where there is nothing to measure.

    loss: nats per learned token.  chrf: 0 to 100, over all rows.  numbers: of the rows whose answer
    holds numbers.  loops: replies that go round in circles.
    """

    loss: float | None
    chrf: float | None
    exact: Share | None
    numbers: Share | None
    facts: Share | None
    stopped: Share | None
    loops: Share | None
    tokens_per_s: float | None


@dataclass(frozen=True)
class Column:
    """name: base, tuned or published.  model: which.  where: what ran it.

    missing: why there are no replies; loss_missing: why there is no loss.
    """

    name: str
    model: str
    where: str
    replies: tuple[Reply, ...] = ()
    loss: float | None = None
    missing: str = ""
    loss_missing: str = ""

    @property
    def scores(self) -> Scores:
        """The sums over the replies."""
        rows = [one for one in self.replies if one.item.reference is not None]
        counted = [one for one in rows if numbers(one.item.reference or "")]
        seconds = sum(one.said.seconds for one in self.replies)
        written = sum(one.said.tokens for one in self.replies)
        return Scores(
            loss=self.loss,
            chrf=_chrf(rows),
            exact=_share([one.exact for one in rows]),
            numbers=_share([one.numbers for one in counted]),
            facts=_share([one.right for one in self.replies if one.right is not None]),
            stopped=_share([one.said.stopped for one in self.replies]),
            loops=_share([one.distinct < LOOPS for one in self.replies]),
            tokens_per_s=written / seconds if seconds else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """For eval.json."""
        return {
            "name": self.name,
            "model": self.model,
            "where": self.where,
            "missing": self.missing,
            "loss_missing": self.loss_missing,
            "scores": asdict(self.scores),
            "replies": [reply.as_dict() for reply in self.replies],
        }


def ask_all(speak: Speak, items: Sequence[Item], tick: Tick | None = None) -> tuple[Reply, ...]:
    """Every item's reply, scored; `tick(done, of)` after each."""
    replies = []
    for number, item in enumerate(items, 1):
        replies.append(score(item, speak(item.messages, item.limit)))
        if tick:
            tick(number, len(items))
    return tuple(replies)


def score(item: Item, said: Said) -> Reply:
    """The scores of one reply."""
    reference = item.reference
    return Reply(
        item,
        said,
        chrf=None if reference is None else chrf([said.text], [reference]),
        exact=None if reference is None else exact_match(said.text, reference),
        numbers=None if reference is None else numbers_equal(said.text, reference),
        right=contains_facts(said.text, item.facts) if item.facts else None,
        distinct=distinct_4(said.text),
    )


def _share(found: Sequence[bool | None]) -> Share | None:
    return Share(sum(map(bool, found)), len(found)) if found else None


def _chrf(rows: Sequence[Reply]) -> float | None:
    if not rows:
        return None
    return chrf([one.said.text for one in rows], [one.item.reference or "" for one in rows])


def summary(columns: Sequence[Column]) -> list[tuple[str, list[str]]]:
    """(name of a score, its value in each column) for people; what nobody has is left out."""
    every = [column.scores for column in columns]
    lines = [
        ("loss (nats/token)", [_number(one.loss, 3) for one in every]),
        ("chrF (0 to 100)", [_number(one.chrf, 1) for one in every]),
        ("exact answers", [_text(one.exact) for one in every]),
        ("same numbers", [_text(one.numbers) for one in every]),
        ("facts right", [_text(one.facts) for one in every]),
        ("ends by itself", [_text(one.stopped) for one in every]),
        ("loops", [_text(one.loops) for one in every]),
        ("tokens/s", [_number(one.tokens_per_s, 1) for one in every]),
    ]
    return [(name, values) for name, values in lines if set(values) != {NOTHING}]


def farthest(columns: Sequence[Column], count: int) -> list[tuple[Item, list[str]]]:
    """Items with each column's reply: those whose reply is farthest from what was wanted.

    Judged by the run itself where it was measured, else by the last column that was.
    """
    asked = [column for column in columns if column.replies]
    if not asked:
        return []
    judge = next((column for column in asked if column.name == "tuned"), asked[-1])
    order = sorted(range(len(judge.replies)), key=lambda place: _worth(judge.replies[place]))
    return [
        (judge.replies[place].item, [column.replies[place].said.text for column in asked])
        for place in order[:count]
    ]


def _worth(reply: Reply) -> float:
    return 100.0 * bool(reply.right) if reply.chrf is None else reply.chrf


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _text(value: Share | None) -> str:
    return NOTHING if value is None else str(value)
