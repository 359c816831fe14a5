"""Two months of a line in a ledger: rows, cycles of every ending, a rollback; no training."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, insert, update

from ft2ollama.loop import states
from ft2ollama.loop import tables as t
from ft2ollama.loop.gate import Artefact, Bars, Contest, Scored, Verdict, judge
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback
from ft2ollama.loop.records import Exchange, Feedback
from ft2ollama.loop.texts import kept

DAY = 86_400_000
NOW = 1_795_371_000_000  # 2026-11-22
ENDS = {Verdict.PASS: "APPROVED", Verdict.NEEDS_HUMAN: "NEEDS_HUMAN"}
_WAY = ("SNAPSHOTTED", "CURATED", "TRAINED", "EXPORTED", "REGISTERED", "EVALUATED")


def digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()


@dataclass
class Story:
    ledger: Ledger
    line: str = "shop"
    host: str = "http://127.0.0.1:1"  # nobody listens there

    def __post_init__(self) -> None:
        self.random = random.Random(7)
        self.rids: list[str] = []
        self.judged = 0
        self.live: str | None = None

    def days(self, first: int, last: int, most: int = 30) -> None:
        """Corrected answers on each of these days before now."""
        for ago in range(first, last - 1, -1):
            rows, said = [], []
            for _ in range(self.random.randrange(most)):
                rid = f"{len(self.rids):032x}"
                ts = NOW - ago * DAY + self.random.randrange(DAY // 4)
                question = f"What about {digest(rid)[:8]}?"
                rows.append(Exchange([{"role": "user", "content": question}], question, "No.", ts,
                                     rid=rid, http_status=200, done_reason="stop"))  # fmt: skip
                said.append(Feedback("correction", ts, "test", rid=rid, text="Yes."))
                self.rids.append(rid)
            with self.ledger.begin() as connection:
                add_exchanges(connection, ("proxy", "http://127.0.0.1:11434"), rows)
                add_feedback(connection, said)

    def cycle(
        self,
        ago: float,
        rows: Mapping[str, int],
        sets: Mapping[str, tuple[int, float, float]],
        *,
        failed: str = "",
        until: str = "",
    ) -> str:
        """One cycle with so many rows of each verdict and these scores (items, before, after).

        failed: why it failed before the gate.  until: it is at work in this state.
        """
        begun = NOW - int(ago * DAY)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(begun / 1000))
        run_id = f"{stamp}-{digest(str(ago))[:6]}"
        config = {"retrain": {"name": self.line, "train": "/home/me/train.yaml"}, "train": "a: 1"}
        with _clock(begun), self.ledger.begin() as connection:
            states.create(
                connection, run_id=run_id, line=self.line, base_ref="ollama:smollm2:135m",
                base_sha256=digest("base"), config=config, config_sha256=digest("config"),
                code_version="0.1", seed=1, parent_run=None,
            )  # fmt: skip
            connection.execute(
                update(t.run).where(t.run.c.run_id == run_id).values(created_ms=begun)
            )
        details = {
            "CURATED": {"dataset": f"sha256:{digest(run_id)}"},
            "REGISTERED": {"tag": f"{self.line}:{run_id}", "digest": digest(run_id)},
            "EVALUATED": {"champion_digest": self.live or digest("base"), "from_digest": self.live},
        }
        cycle = states.find(self.ledger, run_id)
        assert cycle is not None
        for number, state in enumerate(_WAY, 1):
            with _clock(begun + number * 70_000):
                if failed and state == "EXPORTED":
                    states.advance(self.ledger, cycle, "FAILED", {"error": failed}, error=failed)
                    return run_id
                cycle = states.advance(
                    self.ledger, cycle, state, details.get(state),
                    also=lambda connection, state=state: self._also(  # type: ignore[misc]
                        connection, run_id, state, rows, sets
                    ),
                )  # fmt: skip
                if state == until:
                    return run_id
        with _clock(begun + 500_000):
            self._end(cycle, sets)
        return run_id

    def _also(
        self,
        connection: Connection,
        run_id: str,
        state: str,
        rows: Mapping[str, int],
        sets: Mapping[str, tuple[int, float, float]],
    ) -> None:
        if state == "CURATED":
            verdicts = [verdict for verdict, count in rows.items() for _ in range(count)]
            for rid, verdict in zip(self.rids[self.judged :], verdicts, strict=False):
                connection.execute(insert(t.run_record).values(
                    run_id=run_id, rid=rid, role="new", verdict=verdict, samples=["x"],
                    rule="low_rating" if verdict == "drop" else None,
                ))  # fmt: skip
        if state == "EVALUATED":
            for name, (items, before, after) in sets.items():
                for model, score in (
                    (self.live or digest("base"), before),
                    (digest(run_id), after),
                ):
                    self._answers(connection, model, name, run_id, (items, score))

    def _answers(
        self, connection: Connection, model: str, name: str, run_id: str, asked: tuple[int, float]
    ) -> None:
        items, score = asked
        for number in range(items):
            item = f"{run_id if name == 'fresh' else ''}{number}"
            key = {"model_digest": model, "set_name": f"{self.line}/{name}", "version": 1,
                   "item_id": item}  # fmt: skip
            known = t.eval_result.select().filter_by(**key)
            if connection.execute(known).first() is None:
                right = number * 37 % 101 < score * 101
                connection.execute(insert(t.eval_result).values(
                    **key, run_id=run_id, model_ref="x", output="", scores={"score": float(right)}
                ))  # fmt: skip

    def _end(self, cycle: states.Cycle, sets: Mapping[str, tuple[int, float, float]]) -> None:
        """As contest.decide and swap do, without a server."""

        def answers(which: int) -> dict[str, dict[str, Scored]]:
            return {
                name: {
                    str(n): Scored(float(n < round(one[0] * one[which])),
                                   n < round(one[0] * one[which]))
                    for n in range(int(one[0]))
                }
                for name, one in sets.items()
            }  # fmt: skip

        artefact = Artefact("d", "d", 4096, 145_000_000, 20.0)
        verdict, rulings = judge(Contest(artefact, artefact, answers(1), answers(2)), Bars())
        rows = [
            {"run_id": cycle.run_id, "rule": one.rule, "value": one.value,
             "threshold": one.threshold, "passed": one.passed,
             "detail": {**kept(one.why), "hard": one.hard, "number": number}}
            for number, one in enumerate(rulings)
        ]  # fmt: skip
        bad = ", ".join(one.rule for one in rulings if not one.passed)
        to = ENDS.get(verdict, "REJECTED")
        cycle = states.advance(
            self.ledger, cycle, to, error=None if to == "APPROVED" else f"{verdict.value}: {bad}",
            also=lambda connection: connection.execute(insert(t.gate_result), rows),  # type: ignore[arg-type,return-value]
        )  # fmt: skip
        if to == "APPROVED":
            cycle = states.advance(self.ledger, cycle, "SWAPPING")
            self.move(cycle.run_id, "publish", cycle.created_ms + 500_000)
            states.advance(self.ledger, cycle, "PROMOTED", error=None)
            with self.ledger.read() as connection:
                wanted = t.run_record.select().filter_by(run_id=cycle.run_id)
                self.judged += len(connection.execute(wanted).all())

    def move(self, run_id: str, action: str, ts_ms: int) -> None:
        """The name becomes this cycle's version."""
        with self.ledger.begin() as connection:
            connection.execute(insert(t.deployment).values(
                host=self.host, alias=f"{self.line}:latest", from_digest=self.live,
                to_digest=digest(run_id), to_tag=f"{self.line}:{run_id}", run_id=run_id,
                action=action, state="verified", actor="anna", ts_ms=ts_ms,
            ))  # fmt: skip
        self.live = digest(run_id)

    def tell(self) -> Mapping[str, Any]:
        """The whole story; the ids of the cycles that matter."""
        self.days(58, 40)
        first = self.cycle(39.5, {"keep": 190, "eval_fresh": 40, "drop": 33},
                           {"golden": (240, 0.31, 0.62), "fresh": (40, 0.1, 0.7),
                            "general": (60, 0.5, 0.5)})  # fmt: skip
        self.days(39, 33)
        self.cycle(
            32.2, {"keep": 60, "eval_fresh": 12, "drop": 20}, {}, failed="CUDA out of memory"
        )
        self.cycle(31.9, {"keep": 62, "eval_fresh": 12, "drop": 22},
                   {"golden": (240, 0.62, 0.55), "fresh": (12, 0.2, 0.5),
                    "general": (60, 0.5, 0.48), "must_pass": (5, 1, 0.8)})  # fmt: skip
        self.days(31, 26)
        second = self.cycle(25.1, {"keep": 130, "eval_fresh": 30, "drop": 41},
                            {"golden": (240, 0.62, 0.74), "fresh": (30, 0.13, 0.8),
                             "general": (60, 0.5, 0.52), "must_pass": (5, 1, 1)})  # fmt: skip
        self.days(24, 15)
        third = self.cycle(14.4, {"keep": 150, "eval_fresh": 28, "drop": 18},
                           {"golden": (240, 0.74, 0.79), "fresh": (28, 0.1, 0.68),
                            "general": (60, 0.52, 0.51), "must_pass": (5, 1, 1)})  # fmt: skip
        self.move(second, "rollback", NOW - 11 * DAY)
        self.days(14, 8)
        last = self.cycle(7.3, {"keep": 90, "eval_fresh": 20, "drop": 25},
                          {"golden": (120, 0.74, 0.76), "fresh": (20, 0.15, 0.6),
                           "general": (60, 0.52, 0.5)})  # fmt: skip
        self.days(7, 0, 12)
        return {"first": first, "second": second, "third": third, "last": last}


@contextmanager
def _clock(ms: int) -> Iterator[None]:
    """States change at this time."""
    with patch.object(states, "now_ms", lambda: ms):
        yield
