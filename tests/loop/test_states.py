"""The states of a cycle: what may follow what, one open cycle a line, a chain that shows edits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError

from ft2ollama.errors import JobError
from ft2ollama.loop import states
from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.states import Cycle, advance, broken_links, find, open_cycle

COLUMNS = {
    "base_ref": "b", "base_sha256": "0" * 64, "config": {"name": "店"}, "config_sha256": "1" * 64,
    "code_version": "0", "seed": 1,
}  # fmt: skip


def start(ledger: Ledger, run_id: str = "a", line: str = "shop") -> Cycle:
    with ledger.begin() as connection:
        states.create(connection, run_id=run_id, line=line, **COLUMNS)
    found = find(ledger, run_id)
    assert found is not None
    return found


def through(ledger: Ledger, cycle: Cycle, *way: str) -> Cycle:
    for state in way:
        cycle = advance(ledger, cycle, state, {"to": state})
    return cycle


def test_the_whole_way(ledger: Ledger) -> None:
    cycle = start(ledger)
    assert open_cycle(ledger, "shop") == cycle
    assert cycle.config == {"name": "店"}
    way = ("SNAPSHOTTED", "CURATED", "TRAINED", "EXPORTED", "REGISTERED", "EVALUATED", "APPROVED")
    done = through(ledger, cycle, *way, "SWAPPING", "PROMOTED")
    assert not done.is_open
    assert open_cycle(ledger, "shop") is None
    assert broken_links(ledger, "a") == []
    second = start(ledger, "b")
    assert [one.run_id for one in states.last_cycles(ledger, "shop", ("PROMOTED",), 5)] == ["a"]
    assert open_cycle(ledger, "shop") == second


@pytest.mark.parametrize(
    ("way", "to"),
    [((), "CURATED"), ((), "PROMOTED"), (("SNAPSHOTTED",), "CREATED"), (("FAILED",), "CREATED")],
)
def test_no_step_is_left_out(ledger: Ledger, way: tuple[str, ...], to: str) -> None:
    cycle = through(ledger, start(ledger), *way)
    with pytest.raises(ValueError, match="no way from"):
        advance(ledger, cycle, to)


def test_one_open_cycle_a_line(ledger: Ledger) -> None:
    start(ledger)
    with pytest.raises(IntegrityError):
        start(ledger, "b")
    start(ledger, "c", line="other")


def test_two_processes_cannot_both_go_on(ledger: Ledger) -> None:
    cycle = start(ledger)
    advance(ledger, cycle, "SNAPSHOTTED")
    with pytest.raises(JobError, match="no longer CREATED"):
        advance(ledger, cycle, "SNAPSHOTTED")


def test_a_step_and_what_it_writes_are_one(ledger: Ledger) -> None:
    cycle = start(ledger)

    def fail(_: object) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        advance(ledger, cycle, "SNAPSHOTTED", also=fail, error="x")
    assert find(ledger, "a") == cycle
    assert broken_links(ledger, "a") == []


def test_an_edited_event_is_seen(ledger: Ledger) -> None:
    through(ledger, start(ledger), "SNAPSHOTTED", "CURATED")
    event = t.run_event
    with ledger.begin() as connection:
        connection.execute(update(event).where(event.c.seq == 1).values(detail='{"n":2}'))
    assert broken_links(ledger, "a") == ["event 1 was changed after it was written"]
    with ledger.begin() as connection:
        connection.execute(delete(event).where(event.c.seq == 1))
    assert "event 2 does not follow the one before it" in broken_links(ledger, "a")
    with ledger.begin() as connection:
        connection.execute(update(t.run).values(state="PROMOTED"))
    assert "the cycle is in PROMOTED, its events end in CURATED" in broken_links(ledger, "a")


_STEP = """\
import sys
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.states import advance, find
with Ledger.open(sys.argv[1]) as ledger:
    advance(ledger, find(ledger, "a"), "SNAPSHOTTED")
"""


@pytest.mark.parametrize(("point", "state"), [(1, "CREATED"), (2, "SNAPSHOTTED")])
def test_a_kill_leaves_the_state_before_or_after(tmp_path: Path, point: int, state: str) -> None:
    file = tmp_path / "ledger.db"
    with Ledger.open(file) as ledger:
        start(ledger)
    environment = {**os.environ, "FT2OLLAMA_CRASH_AT": str(point)}
    killed = subprocess.run([sys.executable, "-c", _STEP, str(file)], env=environment, check=False)
    assert killed.returncode == -9
    with Ledger.open(file) as ledger:
        found = find(ledger, "a")
        assert found is not None
        assert found.state == state
        assert broken_links(ledger, "a") == []
