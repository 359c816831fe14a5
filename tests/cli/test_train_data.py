"""`ft2ollama train` on data that is not one clean file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_bad_rows_are_dropped_and_each_set_is_measured(
    command: Command, config: Path, rows: Path
) -> None:
    folder = config.parent
    good = json.loads(rows.read_text("utf-8"))
    held = folder / "held"
    held.mkdir()
    for name in ("a", "b"):
        (held / f"{name}.jsonl").write_text(json.dumps(good[0]) + "\n", "utf-8")
    mixed = folder / "mixed.jsonl"
    bad = {"instruction": "问", "output": None}
    mixed.write_text("\n".join(map(json.dumps, [*good, bad])), "utf-8")
    words = [f"dataset={mixed}", "eval_dataset=held/a.jsonl,held/b.jsonl"]
    refused = command("train", str(config), *words)
    assert refused.returncode == 2
    assert f"{mixed}:{len(good) + 1}: output: must be text, not null" in refused.stderr
    assert not list(folder.rglob("run.json"))
    done = command(
        "train",
        str(config),
        *words,
        "bad_rows=drop",
        "eval_on_each_dataset=true",
        FT2OLLAMA_LANG="zh",
    )
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip())
    (dropped,) = map(json.loads, (run / "dropped.jsonl").read_text("utf-8").splitlines())
    assert (dropped["code"], dropped["row"]) == ("text-wanted", bad)
    assert dropped["problem"] == "必须是文本，不能是 null"
    assert "去掉了 1 行" in "".join(done.stderr.split("\n"))
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    sets = {event["set"] for event in events if event["event"] == "eval_set"}
    assert sets == {"held/a.jsonl", "held/b.jsonl"}
    assert [event for event in events if event["event"] == "eval"]
    resolved = (run / "config.yaml").read_text("utf-8")
    assert str((held / "a.jsonl").absolute()) in resolved


def test_the_plan_says_what_the_data_doctor_sees(
    command: Command, config: Path, rows: Path
) -> None:
    good = json.loads(rows.read_text("utf-8"))
    twice = config.parent / "twice.json"
    twice.write_text(json.dumps([*good, good[0]], ensure_ascii=False), "utf-8")
    words = [str(config), f"dataset={twice}"]
    told = " ".join(command("train", "--dry-run", *words).stderr.split())
    assert "worth a look in the data: 1 duplicate; see: ft2ollama data check " in told
    checked = command("data", "check", *words)
    assert "duplicate" in checked.stdout + checked.stderr
    clean = command("train", "--dry-run", str(config)).stderr
    assert "worth a look" not in clean
