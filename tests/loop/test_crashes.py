"""kill -9 at every durable step of a cycle, once more in the recovery, and then it recovers.

A cycle is taken from the nearest of four saved moments, so that a late point costs no training. The
cheap points are always run; FT2OLLAMA_ALL_CRASHES=1 runs the dear ones too, and all to the end.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cycle_rig import Rig
from sqlalchemy import select

from ft2ollama.files import sha256_file
from ft2ollama.loop import states
from ft2ollama.loop import tables as t
from ft2ollama.loop.swap import deployment_of
from ft2ollama.ollama_server import Server

pytestmark = [pytest.mark.ollama, pytest.mark.slow]

ALL = bool(os.environ.get("FT2OLLAMA_ALL_CRASHES"))
# Where a test begins -> the points that are passed from there to the next beginning.
FROM: dict[str, tuple[str, ...]] = {
    "": (
        "before CREATED", "after CREATED", "before SNAPSHOTTED", "after SNAPSHOTTED",
        "data set written", "before CURATED", "after CURATED",
    ),
    "after CURATED": (
        "trained", "before TRAINED", "after TRAINED", "exported", "before EXPORTED",
        "after EXPORTED",
    ),
    "after EXPORTED": (
        "proved", "registration written down", "before REGISTERED", "after REGISTERED",
        "answer kept", "before EVALUATED", "after EVALUATED", "before APPROVED", "after APPROVED",
    ),
    "after APPROVED": (
        "before SWAPPING", "after SWAPPING", "alias moved", "move written down",
        "statement written", "before PROMOTED", "after PROMOTED",
    ),
}  # fmt: skip
POINTS = [(start, point) for start, points in FROM.items() for point in points]
DEAR = {start: set(FROM[start]) for start in ("after CURATED", "after EXPORTED")}
DEAR["after EXPORTED"] -= {"registration written down", "answer kept"}


@dataclass
class Saved:
    """The moments, and what an undisturbed cycle made of the same rows."""

    rig: Rig
    folder: Path
    reference: dict[str, Any]
    passed: list[str]
    digests: dict[str, dict[str, str]] = field(default_factory=dict)

    def save(self, moment: str) -> None:
        shutil.copytree(self.rig.folder, self.folder / moment)
        names = [name for name in self.rig.server.models() if name.startswith("shop:")]
        for name in names:  # a second name keeps the blobs
            self.rig.server.copy(name, f"kept-{name}")
        self.digests[moment] = {name: self.rig.server.models()[name] for name in names}

    def restore(self, moment: str) -> None:
        shutil.rmtree(self.rig.folder)
        shutil.copytree(self.folder / moment, self.rig.folder)
        self.rig.remove_models()
        for name, digest in self.digests[moment].items():
            self.rig.server.copy(f"kept-{name}", name)
            assert self.rig.server.models()[name] == digest


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, ollama_server: Server
) -> Iterator[Saved]:
    folder = tmp_path_factory.mktemp("crashes")
    rig = Rig(folder / "rig", ollama_server.host, ollama_server.models, tiny_base)
    rig.folder.mkdir()
    rig.write()
    rig.fill(1, 24)
    shutil.copytree(rig.folder, folder / "before")
    count = folder / "passed"
    assert rig.retrain(FT2OLLAMA_CRASH_COUNT=str(count))["state"] == "PROMOTED"
    passed = [line.split(" ", 1)[1] for line in count.read_text().splitlines()]
    made = Saved(rig, folder / "saved", outcome(rig), passed, {"begin": {}})
    shutil.copytree(folder / "before", made.folder / "begin")
    made.restore("begin")
    for moment in list(FROM)[1:]:
        kill(rig, moment)
        made.save(moment)
    yield made
    rig.remove_models()
    for name in rig.server.models():
        if name.startswith("kept-shop:"):
            rig.server.delete(name)


def kill(rig: Rig, point: str, *options: str) -> int:
    """Start and be killed there; the exit code, which is 0 when the point is never passed."""
    done = rig.run(*rig.command, *options, FT2OLLAMA_CRASH_AT=point)
    assert done.returncode in (-9, 0), done.stderr
    return done.returncode


def outcome(rig: Rig) -> dict[str, Any]:
    """What has to be the same however often a cycle was killed."""
    record = t.run_record
    with rig.ledger() as ledger:
        (cycle,) = states.last_cycles(ledger, rig.name, (*states.NEXT, *t.CLOSED_STATES), 9)
        assert states.broken_links(ledger, cycle.run_id) == []
        with ledger.read() as connection:
            wanted = select(record.c.rid, record.c.role, record.c.verdict, record.c.samples)
            verdicts = connection.execute(wanted.order_by(record.c.rid)).all()
        folder = rig.folder / "data/cycles" / cycle.run_id
        found: dict[str, Any] = {
            "verdicts": [tuple(row) for row in verdicts],
            "files": {
                path.name: sha256_file(path) for path in (folder / "dataset").glob("*.jsonl")
            },
        }
        if not cycle.is_open:
            assert cycle.state == "PROMOTED"
            move = deployment_of(ledger, cycle.run_id)
            assert (move["state"], move["to_digest"]) == ("verified", rig.alias())
            weights = folder / cycle.run_id / "model/model.safetensors"
            found["weights"] = sha256_file(weights)
            made = [name for name in rig.server.models() if name.startswith(f"{rig.name}:2")]
            assert made == [move["to_tag"]]
    rig.sound()
    return found


def test_every_point_is_known(saved: Saved) -> None:
    assert list(dict.fromkeys(saved.passed)) == [point for _, point in POINTS]


@pytest.mark.parametrize(("start", "point"), POINTS)
def test_a_kill_and_one_in_the_recovery(saved: Saved, start: str, point: str) -> None:
    if point in DEAR.get(start, ()) and not ALL:
        pytest.skip("FT2OLLAMA_ALL_CRASHES=1 runs it")
    rig = saved.rig
    saved.restore(start or "begin")
    assert kill(rig, point) == -9
    taken = point not in ("before CREATED", "after CREATED", "before SNAPSHOTTED")
    if taken:
        rig.fill(1000, 5)  # they belong to the next cycle
    options = () if point == "before CREATED" else ("--resume",)
    if not start and not ALL:
        for again in ("1", "after CURATED") if point != "after CURATED" else ():
            assert kill(rig, again, *options) == -9
        found = outcome(rig)
        assert found == {name: saved.reference[name] for name in ("verdicts", "files")}
        return
    code = kill(rig, "1", *options)
    assert code == (0 if point == "after PROMOTED" else -9)
    done = rig.retrain(*options)
    assert (done["code"], done["state"]) in [(0, "PROMOTED"), (0, "idle")], done
    assert outcome(rig) == saved.reference
    assert rig.retrain("--resume")["state"] == "idle"


def test_ctrl_c_and_a_kill_while_the_child_trains(saved: Saved) -> None:
    rig = saved.rig
    saved.restore("after CURATED")
    events = next((rig.folder / "data/cycles").glob("*")) / "train.events.jsonl"

    stopped = rig.start(session=True)
    _wait_for(events.exists)
    os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does: parent and child
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert f"ft2ollama retrain {rig.config} --resume" in said
    events.unlink()

    killed = rig.start()
    _wait_for(events.exists)
    killed.kill()
    killed.wait(timeout=60)
    assert rig.retrain("--resume")["state"] == "busy"  # the child has the lock
    _wait_for(lambda: not _busy(rig))
    killed.communicate(timeout=60)
    assert rig.retrain("--resume")["state"] == "PROMOTED"
    assert outcome(rig) == saved.reference


def _wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def _busy(rig: Rig) -> bool:
    """Does somebody hold the lock of the line?"""
    with (rig.folder / "data/shop.lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
