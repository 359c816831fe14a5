"""What both models said to the same questions, side by side, for a person who has to decide.

In: a ledger and a judged cycle.  Out: `Both` for every question that both answered; those that
changed most come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from ft2ollama.loop import exam
from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.place import cycles_folder
from ft2ollama.loop.states import Cycle
from ft2ollama.loop.steps import config_of, detail_of


@dataclass(frozen=True)
class Both:
    """A question, what is wanted, and the two answers. score: of the new answer, 0 to
    1.  gain: how much it rose."""

    set_name: str
    question: str
    wanted: str
    before: str
    after: str
    score: float
    gain: float


def both_answers(ledger: Ledger, cycle: Cycle) -> list[Both]:
    """Empty before both models were asked, or when the cycle's files are gone."""
    judged = detail_of(ledger, cycle.run_id, "EVALUATED")
    made = detail_of(ledger, cycle.run_id, "REGISTERED")
    dataset = cycles_folder() / cycle.run_id / "dataset"
    if not judged or not (dataset / "fresh.jsonl").is_file():
        return []
    old, new = _said(ledger, judged["champion_digest"]), _said(ledger, made["digest"])
    found = []
    config = config_of(cycle)
    for one in exam.items_of(ledger, cycle.line, dataset, config.reply_tokens, config.sets):
        key = (one.kept_as, one.version, one.item_id)
        if key in old and key in new:
            found.append(_both(one, old[key], new[key]))
    return sorted(found, key=lambda both: (both.set_name != "fresh", -abs(both.gain)))


def _both(one: exam.Asked, before: Any, after: Any) -> Both:
    wanted = ", ".join(one.item.facts) or (one.item.reference or "")
    score = after.scores["score"]
    gain = score - before.scores["score"]
    question = str(one.item.messages[-1]["content"])
    return Both(one.set_name, question, wanted, before.output, after.output, score, round(gain, 4))


def _said(ledger: Ledger, digest: str) -> dict[tuple[str, int, str], Any]:
    result = t.eval_result
    wanted = select(result).where(result.c.model_digest == digest)
    with ledger.read() as connection:
        rows = connection.execute(wanted).all()
    return {(row.set_name, row.version, row.item_id): row for row in rows}
