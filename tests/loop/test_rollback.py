"""Back from a promoted model, and what is left of a rejected one: whole cycles on a real Ollama."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cycle_rig import Rig
from sqlalchemy import select

from ft2ollama.aliases import digest_of
from ft2ollama.loop import regression, states
from ft2ollama.loop import tables as t
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.leftovers import tidy
from ft2ollama.loop.settings import RetrainConfig
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server
from ft2ollama.versions import lines_of

pytestmark = [pytest.mark.ollama, pytest.mark.slow]


@pytest.fixture
def rig(tmp_path: Path, tiny_base: Path, ollama_server: Server) -> Iterator[Rig]:
    made = Rig(tmp_path, ollama_server.host, ollama_server.models, tiny_base)
    made.write(trigger={"rows": 5, "few": 5, "days": 0})
    made.fill(1, 24)
    yield made
    made.sound()
    made.remove_models()


def deployments(rig: Rig) -> list[tuple[str, str]]:
    with rig.ledger() as ledger, ledger.read() as connection:
        row = t.deployment
        return [
            (one.action, one.state)
            for one in connection.execute(select(row.c.action, row.c.state).order_by(row.c.id))
        ]


def weights(rig: Rig, run_id: str) -> list[str]:
    folder = rig.folder / "data/cycles" / run_id
    return sorted(p.name for p in folder.rglob("*") if p.suffix in (".safetensors", ".gguf"))


def result(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_back_to_the_base_a_cooldown_and_a_second_cycle(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rig.retrain()
    assert first["state"] == "PROMOTED"
    assert "back: ft2ollama rollback shop" in first["stderr"]
    monkeypatch.setenv("FT2OLLAMA_RUNS", str(rig.folder / "runs"))
    base, tuned = (digest_of(rig.server, name) for name in ("shop:base", rig.name))
    assert digest_of(rig.server, "shop:previous") == base != tuned

    # Killed before the name moves: nothing happened, and the next one settles it.
    for point, now in (("rollback intended", tuned), ("rolled back", base)):
        killed = rig.run("rollback", rig.name, FT2OLLAMA_CRASH_AT=point)
        assert killed.returncode == -9, killed.stderr
        assert rig.alias() == now
    assert deployments(rig) == [
        ("publish", "verified"), ("rollback", "failed"), ("rollback", "intent"),
    ]  # fmt: skip
    again = rig.run("rollback", rig.name)
    assert again.returncode == 2
    assert "no version to go back to" in again.stderr
    forward = rig.run("rollback", rig.name, "--to", first["run"])
    assert forward.returncode == 0, forward.stderr
    assert "counts only rows" not in forward.stderr
    assert rig.alias() == tuned
    back = rig.run("rollback", rig.name)
    assert f"{rig.name}:latest is shop:base now (the untuned base)" in back.stderr
    assert "for 7 days retrain --if-due counts only rows that come from now on" in back.stderr
    assert rig.alias() == base
    assert "shop:latest is shop:base now" in rig.run("history", rig.name).stderr
    ours = [row for row in deployments(rig) if row[0] == "rollback"]
    assert [state for _, state in ours] == ["failed", "verified", "verified", "verified"]
    told = [line["tag"] for line in lines_of(rig.server, rig.name)]
    assert told[-3:] == ["shop:base", f"shop:{first['run']}", "shop:base"]

    told = rig.run("--json", "loop", "status").stdout.splitlines()
    (line,) = [one for one in map(json.loads, told) if one["event"] == "line"]
    assert line["live"]["tag"] == "shop:base"
    assert [one["action"] for one in line["moves"]][-1] == "rollback"
    assert "was rolled back to shop:base" in line["why"]
    rig.fill(100, 4)
    plan = result(rig.run("--json", "retrain", str(rig.config), "--dry-run"))
    assert plan["due"] is False
    assert "was rolled back to shop:base" in plan["why"]
    idle = rig.retrain("--if-due")
    assert (idle["code"], idle["state"]) == (0, "idle")

    rig.fill(104, 20)
    second = rig.retrain("--if-due")
    assert second["state"] == "PROMOTED", second["stderr"]
    assert "of 8 that earlier cycles held out" in " ".join(second["stderr"].split())
    assert digest_of(rig.server, "shop:previous") == base
    with rig.ledger() as ledger, ledger.read() as connection:
        held = [row["rid"] for row in regression.newest(connection, "shop/regression")]
        asked = t.eval_result
        rows = connection.execute(
            select(asked.c.rid, asked.c.model_digest).where(asked.c.rid.in_(held))
        ).all()
    # Both sets of eight were asked of the base and of the second model, the first of the first.
    assert len(held) == 16
    assert len(rows) == len(set(rows)) == 8 + 16 + 16
    # The version that was rolled back from is passed over.
    assert rig.run("rollback", rig.name).returncode == 0
    assert rig.alias() == base


def test_of_a_rejected_cycle_only_small_evidence_stays(rig: Rig) -> None:
    rig.write(gate={"thin_evidence": False})
    done = rig.retrain()
    run_id = done["run"]
    assert done["state"] == "NEEDS_HUMAN"
    assert weights(rig, run_id) == ["model-F16.gguf", "model.safetensors"]
    killed = rig.run("loop", "reject", run_id, FT2OLLAMA_CRASH_AT="weights removed")
    assert killed.returncode == -9
    with rig.ledger() as ledger:
        cycle = states.find(ledger, run_id)
        assert cycle is not None
        assert cycle.state == "REJECTED"
    assert weights(rig, run_id) == []
    folder = rig.folder / "data/cycles" / run_id
    assert (folder / "dataset/train.jsonl").is_file()
    assert (folder / run_id / "proof/proof.md").is_file()
    assert (folder / run_id / "loss.png").is_file()

    assert not [name for name in rig.server.models() if name.startswith(f"{rig.name}:2")]


def test_weights_stay_for_the_newest_and_for_what_ollama_has(
    ledger: Ledger, ollama: Ollama, smol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path))
    ends = {"a": "PROMOTED", "b": "PROMOTED", "c": "REJECTED", "d": "PROMOTED", "e": "PROMOTED"}
    for number, (run_id, state) in enumerate(ends.items()):
        training = tmp_path / "cycles" / run_id / run_id
        for name in ("model.safetensors", "checkpoints/1/trainer.json", "proof/proof.md"):
            (training / name).parent.mkdir(parents=True, exist_ok=True)
            (training / name).write_text("x" * 10)
        with ledger.begin() as connection:
            connection.execute(t.run.insert().values(
                run_id=run_id, line="stand", state=state, base_ref="b", base_sha256="0", config={},
                config_sha256="0", code_version="0", seed=1, created_ms=number))  # fmt: skip
    for tag in ("stand:b", "stand:c"):
        ollama.copy(smol, tag)

    def left() -> str:
        return "".join(path.parent.name for path in sorted(tmp_path.rglob("model.safetensors")))

    config = RetrainConfig(name="stand", train=Path("x"), keep=2, keep_rejected=True)
    away = Ollama("127.0.0.1:9")
    assert str(tidy(ledger, away, config)) == ""  # it cannot say what it has
    assert left() == "abcde"
    freed = tidy(ledger, ollama, config)
    assert (freed.bytes, freed.versions) == (20, ("stand:c",))
    assert left() == "bcde"
    ollama.delete("stand:b")
    assert tidy(ledger, ollama, config).bytes == 20
    assert left() == "cde"
    assert tidy(ledger, away, config.model_copy(update={"keep_rejected": False})).bytes == 20
    assert left() == "de"
    assert not (tmp_path / "cycles/a/a/checkpoints").exists()
    assert len(list(tmp_path.rglob("proof.md"))) == 5
