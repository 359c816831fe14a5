"""Whole cycles through a real Ollama, on a model so small that one takes seconds.

It learns one answer to everything, which no untrained model gives: the gate sees a real gain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cycle_rig import ANSWER, Rig, write_questions

from ft2ollama.loop import states
from ft2ollama.loop.curate.store import pending_rids
from ft2ollama.loop.swap import deployment_of
from ft2ollama.ollama_server import Server

pytestmark = [pytest.mark.ollama, pytest.mark.slow]


@pytest.fixture
def rig(tmp_path: Path, tiny_base: Path, ollama_server: Server) -> Iterator[Rig]:
    made = Rig(tmp_path, ollama_server.host, ollama_server.models, tiny_base)
    made.write()
    made.fill(1, 24)
    yield made
    made.sound()
    made.remove_models()


def pending(rig: Rig) -> list[str]:
    with rig.ledger() as ledger, ledger.read() as connection:
        return pending_rids(connection, rig.name)


def test_rows_become_a_model_that_answers_through_the_alias(rig: Rig) -> None:
    assert rig.run("retrain", str(rig.config), "--dry-run").stdout == "not due\n"
    four = [rig.start() for _ in range(4)]
    ends = [process.communicate(timeout=300) for process in four]
    said = sorted(json.loads(out.splitlines()[-1])["state"] for out, _ in ends)
    assert said == ["PROMOTED", "busy", "busy", "busy"], ends
    assert [process.returncode for process in four] == [0] * 4
    with rig.ledger() as ledger:
        (cycle,) = states.last_cycles(ledger, rig.name, ("PROMOTED",), 9)
        assert states.broken_links(ledger, cycle.run_id) == []
        move = deployment_of(ledger, cycle.run_id)
    assert move["state"] == "verified"
    assert (move["from_digest"], move["to_digest"]) == (None, rig.alias())
    reply = rig.server.chat(rig.name, [{"role": "user", "content": "Where?"}])
    assert reply.text.strip() == ANSWER
    assert pending(rig) == []

    again = rig.retrain("--if-due")
    assert (again["code"], again["state"]) == (0, "idle")

    told = rig.run("--json", "lineage", rig.name)
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["run_id"] == cycle.run_id
    assert found["verdicts"] == {"eval_fresh": 8, "keep": 16}
    row = rig.run("--json", "lineage", "--record", f"{1:032x}")
    (seen,) = json.loads(row.stdout.splitlines()[-1])["cycles"]
    assert (seen["run_id"], seen["tag"]) == (cycle.run_id, f"{rig.name}:{cycle.run_id}")
    shown = rig.run("loop", "status")
    assert cycle.run_id in shown.stderr
    assert "0 of 200" in shown.stderr


def test_a_model_that_fails_the_gate_gives_its_rows_back(rig: Rig) -> None:
    must = write_questions(rig.folder / "must.jsonl", [("What is the capital?", "Paris")])
    rig.write(sets={"must_pass": must.name}, trigger={"rows": 5})
    before = pending(rig)
    done = rig.retrain()
    assert (done["code"], done["state"]) == (3, "REJECTED")
    assert done["why"] == "FAIL: must_pass"
    assert rig.alias() is None
    assert pending(rig) == before
    assert not [name for name in rig.server.models() if name.startswith(f"{rig.name}:2")]

    idle = rig.retrain("--if-due")
    assert (idle["code"], idle["state"]) == (0, "idle")
    assert "with these very 24 rows" in idle["why"]
    rig.fill(100, 1)
    due = rig.run("--json", "retrain", str(rig.config), "--dry-run")
    assert json.loads(due.stdout.splitlines()[-1])["due"]


def test_a_person_decides_where_the_evidence_is_thin(rig: Rig) -> None:
    hook = f"cat >> {rig.folder}/told.jsonl"
    rig.write(gate={"thin_evidence": False}, notify={"command": hook})
    done = rig.retrain()
    assert (done["code"], done["state"]) == (3, "NEEDS_HUMAN")
    run_id = done["run"]
    told = (rig.folder / "told.jsonl").read_text()
    assert json.loads(told)["event"] == "needs_human"
    assert rig.retrain("--if-due")["run"] == run_id
    assert rig.alias() is None

    assert rig.run("loop", "approve", run_id).returncode == 0
    other = rig.somebody_moves_the_alias()
    done = rig.run("--json", "retrain", str(rig.config), "--resume")
    assert done.returncode == 3
    assert "was changed by somebody else" in done.stderr
    assert rig.alias() == other
    with rig.ledger() as ledger:
        cycle = states.find(ledger, run_id)
        assert cycle is not None
        assert cycle.state == "FAILED"
        assert deployment_of(ledger, run_id)["state"] == "failed"
    assert len(pending(rig)) == 24
