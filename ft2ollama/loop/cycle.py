"""One cycle: collected rows -> a judged model under the alias, in steps that survive a kill.

In: a config, a place (ledger, server, lock).  Out: `Outcome`. An open cycle is gone on with, else
one is begun when there is a reason. The steps are in `steps`, `contest` and `swap`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone

from sqlalchemy import Connection, update
from sqlalchemy.exc import OperationalError

from ft2ollama import __version__
from ft2ollama.config import load_config
from ft2ollama.errors import GateError, Interrupted, MachineError, UserError
from ft2ollama.files import sha256_text
from ft2ollama.loop import contest, exam, states, steps, swap
from ft2ollama.loop import tables as t
from ft2ollama.loop.crashpoint import crashpoint
from ft2ollama.loop.due import is_due
from ft2ollama.loop.goods import training_text
from ft2ollama.loop.ledger import now_ms
from ft2ollama.loop.notify import notify
from ft2ollama.loop.place import Place
from ft2ollama.loop.records import canonical
from ft2ollama.loop.settings import RetrainConfig
from ft2ollama.loop.states import Cycle, advance
from ft2ollama.loop.steps import NoGood, Step, config_of, detail_of
from ft2ollama.loop.texts import Sentence
from ft2ollama.publish import public_names
from ft2ollama.runs import Run
from ft2ollama.train.bases import named_base
from ft2ollama.versions import delete_superfluous

STEPS: Mapping[str, Step] = {**steps.STEPS, **contest.STEPS}
_TRIES = 3  # after which a cycle is closed and gives its rows back
_UNPROMOTED = ("REJECTED", "FAILED", "ABANDONED")


@dataclass(frozen=True)
class Outcome:
    """cycle: None when nothing was due.  why: for people."""

    cycle: Cycle | None
    why: str = ""


def retrain(
    place: Place, config: RetrainConfig, *, if_due: bool = False, resume: bool = False
) -> Outcome:
    """Go on with the open cycle of the line, or begin one. Raises what a step raises.

    resume: begin none.  if_due: only when the trigger says so. A cycle that raised stays open and
    is gone on with by the next call, three times; GateError and NoGood close it at once.
    """
    cycle = states.open_cycle(place.ledger, config.name)
    if cycle is not None and cycle.state == "NEEDS_HUMAN":
        return Outcome(cycle)
    if cycle is None:
        due = is_due(place.ledger, config.name, config.trigger, now_ms())
        if resume or not due.pending or (if_due and not due.due):
            return Outcome(None, Sentence("none-open") if resume else due.why)
        place.server.version()
        cycle = begin(place, config)
    else:
        place.server.version()
        place.say(Sentence("going-on", run=cycle.run_id, state=cycle.state))
    return Outcome(_to_its_end(place, cycle))


def begin(place: Place, config: RetrainConfig) -> Cycle:
    """A new cycle in CREATED; the sets of the gate are frozen in the same transaction."""
    text = training_text(config.train)
    base = named_base(load_config(config.train, ["dataset=train.jsonl"]).config)
    kept = {"retrain": config.model_dump(mode="json"), "train": text}
    parent = swap.promoted_before(place.ledger, config.name)
    now = datetime.now(timezone.utc)
    run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    tidy(place, config.name)
    crashpoint("before CREATED")
    with place.ledger.begin() as connection:
        exam.freeze(connection, config.name, config.sets, config.reply_tokens, now_ms())
        states.create(
            connection, run_id=run_id, line=config.name, base_ref=base.ref,
            base_sha256=base.sha256, config=kept, config_sha256=sha256_text(canonical(kept)),
            code_version=__version__, seed=config.seed,
            parent_run=parent.run_id if parent else None,
        )  # fmt: skip
    crashpoint("after CREATED")
    place.say(Sentence("begins", run=run_id, line=config.name))
    found = states.find(place.ledger, run_id)
    assert found is not None
    return found


def _to_its_end(place: Place, cycle: Cycle) -> Cycle:
    """Step by step, until nothing is left to do or a person is wanted."""
    try:
        while cycle.state in STEPS:
            cycle = STEPS[cycle.state](place, cycle)
    except Exception as error:
        _after_failure(place, cycle.run_id, error)
        raise
    if cycle.state == "PROMOTED":
        with suppress(UserError):
            delete_superfluous(place.server, _alias(place, cycle), config_of(cycle).keep)
    tidy(place, cycle.line)
    _tell(place, cycle)
    return cycle


def _after_failure(place: Place, run_id: str, error: Exception) -> None:
    """Count the try, or close the cycle; what is not the cycle's fault does not count."""
    if isinstance(error, (Interrupted, MachineError, OperationalError)):
        return
    cycle = states.find(place.ledger, run_id)
    if cycle is None or not cycle.is_open:
        return
    told = f"{error.what}: {error.why}" if isinstance(error, UserError) else str(error)
    told = told.strip(": ")
    if isinstance(error, (GateError, NoGood)) or cycle.attempt + 1 >= _TRIES:
        tell = close(place, cycle, "FAILED", told)
        _tell(place, tell)
        return
    here = t.run.c.run_id == run_id
    with place.ledger.begin() as connection:
        connection.execute(update(t.run).where(here).values(attempt=cycle.attempt + 1, error=told))


def close(place: Place, cycle: Cycle, to: str, why: str) -> Cycle:
    """An open cycle -> FAILED or REJECTED; an intent that was not carried out has failed."""

    def write(connection: Connection) -> None:
        swap.set_state(connection, cycle.run_id, "failed")

    closed = advance(place.ledger, cycle, to, {"error": why}, also=write, error=why)
    tidy(place, cycle.line)
    return closed


def tidy(place: Place, line: str) -> None:
    """Remove versions of cycles that were not promoted; a public name keeps what it points at."""
    with suppress(UserError):
        have = place.server.models()
        for cycle in states.last_cycles(place.ledger, line, _UNPROMOTED, 20):
            _, tag = public_names(line, Run(place.training(cycle.run_id)))
            if tag in have:
                place.server.delete(tag)


def _alias(place: Place, cycle: Cycle) -> str:
    return public_names(cycle.line, Run(place.training(cycle.run_id)))[0]


def _tell(place: Place, cycle: Cycle) -> None:
    message = {
        "line": cycle.line, "cycle": cycle.run_id, "state": cycle.state, "error": cycle.error,
        **detail_of(place.ledger, cycle.run_id, "REGISTERED"),
    }  # fmt: skip
    notify(config_of(cycle).notify, cycle.state.lower(), message, place.say)
