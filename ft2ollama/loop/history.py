"""What became of cycles, read from the ledger: for `loop status` and `retrain`.

In: a ledger, names and ids.  Out: plain values. Nothing here writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.states import Cycle, last_cycles
from ft2ollama.loop.texts import from_kept

_STATES = ("CREATED", "SNAPSHOTTED", "CURATED", "TRAINED", "EXPORTED", "REGISTERED", "EVALUATED",
           "APPROVED", "NEEDS_HUMAN", "SWAPPING", *t.CLOSED_STATES)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A row of gate_result. why: a `Sentence` for texts.told."""

    rule: str
    passed: bool
    why: str


def rulings(ledger: Ledger, run_id: str) -> list[Found]:
    """The gate's findings on a cycle, in its order; none before it was judged."""
    gate = t.gate_result
    wanted = select(gate).where(gate.c.run_id == run_id)
    with ledger.read() as connection:
        found = connection.execute(wanted).mappings().all()
    rows = sorted(found, key=lambda row: row["detail"]["number"])
    return [Found(row["rule"], row["passed"], from_kept(row["detail"])) for row in rows]


def lines(ledger: Ledger) -> list[str]:
    """Every line that ever had a cycle."""
    with ledger.read() as connection:
        return list(
            connection.execute(select(t.run.c.line).distinct().order_by(t.run.c.line)).scalars()
        )


def cycles(ledger: Ledger, line: str, most: int) -> list[Cycle]:
    """The newest cycles of a line."""
    return last_cycles(ledger, line, _STATES, most)
