"""The config of a retrain, when one is due, and which questions the gate asks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from ft2ollama.errors import ConfigError
from ft2ollama.loop import exam, states
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.contamination import Retired
from ft2ollama.loop.curate.dataset import record_set_sha256
from ft2ollama.loop.curate.store import eval_items, pending_rids, retire
from ft2ollama.loop.due import is_due
from ft2ollama.loop.gate import Bars
from ft2ollama.loop.ledger import Ledger, add_exchanges, now_ms
from ft2ollama.loop.notify import notify
from ft2ollama.loop.place import slug
from ft2ollama.loop.records import Exchange
from ft2ollama.loop.settings import Gate, Notify, Sets, Trigger, read_config
from ft2ollama.loop.states import advance

DAY = 86_400_000


def config(folder: Path, text: str) -> Path:
    (folder / "train.yaml").write_text("model_name_or_path: x")
    path = folder / "retrain.yaml"
    path.write_text(text)
    return path


def fill(ledger: Ledger, ids: Iterable[int]) -> None:
    rows = [Exchange([{"role": "user", "content": f"q{n}"}], f"q{n}", "a", n, rid=f"{n:032x}")
            for n in ids]  # fmt: skip
    with ledger.begin() as connection:
        add_exchanges(connection, ("test", ""), rows)


def test_paths_are_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "golden.jsonl").write_text("")
    found = read_config(
        config(tmp_path, "name: shop\ntrain: train.yaml\nsets: {golden: golden.jsonl}\n")
    )
    assert found.train == tmp_path / "train.yaml"
    assert found.sets == Sets(golden=tmp_path / "golden.jsonl")
    assert type(found).model_validate(found.model_dump(mode="json")) == found


def test_every_problem_is_told_with_its_place(tmp_path: Path) -> None:
    text = "nane: shop\ngate: {speed: fast, sped: 1}\nkeep: 1\nsets:\n  golden: [a]\n"
    with pytest.raises(ConfigError) as raised:
        read_config(config(tmp_path, text))
    said = raised.value.why.replace(f"{tmp_path}/", "")
    assert [line.partition(": ")[0] for line in said.splitlines()] == [
        "retrain.yaml", "retrain.yaml", "retrain.yaml:1:1", "retrain.yaml:2:15",
        "retrain.yaml:2:27", "retrain.yaml:3:7", "retrain.yaml:5:11",
    ]  # fmt: skip
    assert "did you mean name?" in said
    assert "did you mean speed?" in said
    with pytest.raises(ConfigError, match="1 problem") as raised:
        read_config(config(tmp_path, "name: shop\ntrain: other.yaml\n"))
    assert "retrain.yaml:2:8: train: there is no file" in raised.value.why


def test_the_gate_of_a_config_is_the_gate() -> None:
    assert Gate().bars() == Bars()


def test_names_that_differ_lock_apart() -> None:
    assert slug("shop") == "shop"
    assert len({slug(name) for name in ("a:b", "a/b", "a-b")}) == 3


def test_when_it_is_due(ledger: Ledger) -> None:
    trigger = Trigger(rows=6, few=3, days=7)
    fill(ledger, range(2))
    assert not is_due(ledger, "shop", trigger, 0).due
    fill(ledger, range(2, 4))
    assert is_due(ledger, "shop", trigger, 0).due  # nothing was ever promoted

    end(ledger, "a", "PROMOTED")
    fill(ledger, range(10, 14))
    now = now_ms()
    soon = is_due(ledger, "shop", trigger, now)
    assert (soon.due, soon.pending) == (False, 4)
    assert is_due(ledger, "shop", trigger, now + 7 * DAY + 1).due
    fill(ledger, range(14, 16))
    assert is_due(ledger, "shop", trigger, now).due

    end(ledger, "b", "REJECTED")
    same = is_due(ledger, "shop", trigger, now)
    assert (same.due, same.pending) == (False, 6)
    assert "b was rejected with these very 6 rows" in same.why
    fill(ledger, [20])
    assert is_due(ledger, "shop", trigger, now).due


def end(ledger: Ledger, run_id: str, state: str) -> None:
    """A cycle that took what was pending, and ended so."""
    way = ["SNAPSHOTTED", "CURATED", "TRAINED", "EXPORTED", "REGISTERED", "EVALUATED"]
    way += ["REJECTED"] if state == "REJECTED" else ["APPROVED", "SWAPPING", "PROMOTED"]
    with ledger.begin() as connection:
        rids = pending_rids(connection, "shop")
        states.create(
            connection, run_id=run_id, line="shop", base_ref="b", base_sha256="0", config={},
            config_sha256="0", code_version="0", seed=1,
            record_set_sha256=record_set_sha256(rids),
        )  # fmt: skip
        connection.execute(t.run_record.insert(), [
            {"run_id": run_id, "rid": rid, "role": "new", "verdict": "drop", "rule": "thumb"}
            for rid in rids
        ])  # fmt: skip
    cycle = states.find(ledger, run_id)
    assert cycle is not None
    for one in way:
        cycle = advance(ledger, cycle, one)


def test_a_set_is_frozen_once_and_again_when_its_file_changes(
    ledger: Ledger, tmp_path: Path
) -> None:
    path, fresh = tmp_path / "golden.jsonl", tmp_path / "data"
    fresh.mkdir()
    (fresh / "fresh.jsonl").write_text("")
    lines = [json.dumps({"question": f"When {n}?", "expect": [str(n)]}) for n in (10, 20)]
    path.write_text("\n".join(lines))

    def freeze(tokens: int = 16) -> list[exam.Asked]:
        with ledger.begin() as connection:
            exam.freeze(connection, "shop", Sets(golden=path), tokens, 5)
        return exam.items_of(ledger, "shop", fresh, tokens, Sets(golden=path))

    first = freeze()
    assert [one.version for one in first] == [1, 1]
    assert {one.item.facts for one in first} == {("10",), ("20",)}
    assert freeze() == first
    longer = freeze(24)  # answers with room to end are other answers: both models are asked again
    assert [one.item.limit for one in longer] == [24, 24]
    assert {one.item_id for one in longer}.isdisjoint(one.item_id for one in first)
    assert exam.items_of(ledger, "shop", fresh, 16, Sets()) == []  # no longer in the config

    with ledger.begin() as connection:
        (item, _) = eval_items(connection)
        retire(connection, [Retired(item, "r")], 6)
    (left,) = freeze()  # the file is as it was: what was retired stays out
    assert left.version == 2

    path.write_text("\n".join([*lines, json.dumps({"question": "Who?", "expect": ["Tom"]})]))
    third = freeze()
    assert [one.version for one in third] == [3, 3, 3]
    assert {one.item_id for one in first} < {one.item_id for one in third}
    with ledger.read() as connection:
        count = select(func.count()).select_from(t.eval_set)
        assert connection.execute(count).scalar_one() == 3


def test_rows_with_answers_are_a_set_too(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "什么时候？"}, {"role": "assistant", "content": "周一。"}]
    path = tmp_path / "golden.jsonl"
    path.write_text(json.dumps({"messages": talk}, ensure_ascii=False))
    (item,) = exam.read_items(path, 16).items
    assert (item.reference, item.facts) == ("周一。", ())


def test_a_hook_hears_how_it_ended_and_cannot_harm(tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "told"
    hook = Notify(command=f'echo "$FT2OLLAMA_EVENT" > {file}; cat >> {file}', on=("promoted",))
    notify(hook, "promoted", {"line": "店"}, said.append)
    assert file.read_text() == 'promoted\n{"event": "promoted", "line": "店"}'
    file.unlink()
    notify(hook, "rejected", {}, said.append)
    assert not file.exists()
    assert said == []
    notify(Notify(command="exit 3", webhook="http://127.0.0.1:9/"), "failed", {}, said.append)
    assert len(said) == 2


def ft2ollama(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ft2ollama", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_timer_runs_this_config(tmp_path: Path) -> None:
    path = config(tmp_path, "name: shop\ntrain: train.yaml\n")
    line = ft2ollama("schedule", str(path), "--at", "mon 4:30", "--as", "cron")
    assert line.stdout.startswith(f"30 4 * * 1 cd {tmp_path} && ")
    assert line.stdout.endswith(f"-m ft2ollama retrain {path} --if-due\n")
    assert ft2ollama("schedule", str(path), "--as", "cron", "--install").returncode == 2

    done = ft2ollama("schedule", str(path), "--as", "systemd", "--install")
    assert "systemctl --user enable --now ft2ollama-retrain-shop.timer" in done.stderr
    timer = Path.home() / ".config/systemd/user/ft2ollama-retrain-shop.timer"
    assert done.stdout == f"{timer}\n"
    assert "OnCalendar=Sun *-*-* 03:00:00" in timer.read_text()
    assert f"retrain {path} --if-due" in timer.with_suffix(".service").read_text()


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_person_decides_only_where_one_is_asked(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path))
    done = ft2ollama("loop", word, "20261122-030000-abcdef")
    assert done.returncode == 2
    assert "there is no such cycle" in done.stderr
