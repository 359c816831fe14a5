"""The commands on a tiny model: stdout is the result, stderr is for people, JSON lines are JSON."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ft2ollama.cli.output import sparkline
from ft2ollama.ollama_server import Server

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_train_says_the_plan_and_gives_the_run(command: Command, config: Path) -> None:
    done = command("train", str(config), "lora_rank=2")
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip())
    assert (run / "adapter/adapter_model.safetensors").is_file()
    for part in (
        "plan",
        "LoRA rank 2, alpha 4",
        "override",
        "tiny.yaml:5",
        "loss.png",
        "trained 12",
    ):
        assert part in done.stderr
    assert "\x1b" not in done.stderr
    listed = command("runs")
    assert listed.stdout.strip() == run.name
    assert "done" in listed.stderr


def test_json_lines(command: Command, config: Path) -> None:
    done = command("--json", "train", str(config))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "plan"
    assert kinds[-1] == "done"
    assert kinds.count("step") == 12
    steps = [event for event in events if event["event"] == "step"]
    assert set(steps[0]) == {
        "event", "step", "steps", "loss", "grad_norm", "lr", "tokens", "tokens_per_s", "seconds",
        "mem_gb",
    }  # fmt: skip
    failed = command("--json", "train", "nowhere.yaml")
    assert json.loads(failed.stdout.splitlines()[-1])["code"] == failed.returncode == 2


def test_a_dry_run_writes_nothing(command: Command, config: Path, tmp_path: Path) -> None:
    done = command("train", str(config), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "nothing was trained" in done.stderr
    assert command("runs").stdout == ""


def test_quiet_says_only_errors_and_output_dir_is_the_run_folder(
    command: Command, config: Path, tmp_path: Path
) -> None:
    done = command("-q", "train", str(config), f"output_dir={tmp_path / 'mine'}")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.strip() == str(tmp_path / "mine")
    again = command("train", str(config), f"output_dir={tmp_path / 'mine'}", "-q")
    assert again.stdout == done.stdout
    forced = command("train", str(config), f"output_dir={tmp_path / 'mine'}", "--force")
    assert "trained 12 steps" in forced.stderr
    assert command("-q", "train", "nowhere.yaml").stderr.startswith("error: ")


def test_the_log_keeps_the_traceback_that_the_screen_does_not_show(
    command: Command, trained: Path
) -> None:
    (trained / "adapter/adapter_model.safetensors").write_bytes(b"broken")
    done = command("export", str(trained))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "Traceback" in (trained / "log.txt").read_text()
    assert "Traceback" in command("-vv", "export", str(trained)).stderr


@pytest.mark.ollama
def test_publish_a_tiny_model(command: Command, trained: Path, ollama_server: Server) -> None:
    done = command("publish", "tiny", OLLAMA_HOST=ollama_server.host, COLUMNS="100")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "tiny:latest"
    assert "20 of 20 equal by token ids" in done.stderr
    assert re.search(r"! +effect +words only the training taught +none in 8", done.stderr)
    assert "the training changed no word that counts" in done.stderr  # 12 steps: told, not refused
    assert f"published tiny:latest -> tiny:{trained.name}" in done.stderr
    again = command("publish", "tiny:prod", OLLAMA_HOST=ollama_server.host)
    assert "its inputs have not changed" in again.stderr
    assert again.stdout.strip() == "tiny:prod"


@pytest.mark.ollama
def test_fine_tune_the_model_that_ollama_has(
    command: Command, config: Path, trained: Path, ollama_server: Server
) -> None:
    """`ollama:NAME` is the GGUF blob of a model; the adapter then runs on that very blob."""
    assert command("publish", "first", OLLAMA_HOST=ollama_server.host).returncode == 0
    host = {"OLLAMA_HOST": ollama_server.host}
    done = command(
        "train", str(config), "model_name_or_path=ollama:first", "run_name=second", **host
    )
    assert done.returncode == 0, done.stderr
    base = json.loads((Path(done.stdout.strip()) / "run.json").read_text())["base"]
    first = json.loads((trained / "gguf/model-Q8_0.json").read_text())
    assert base["kind"] == "ollama"
    assert base["sha256"] == first["sha256"]
    adapter = command("publish", "second", "--as", "adapter", **host)
    assert adapter.returncode == 0, adapter.stderr
    assert "20 of 20 equal" in adapter.stderr
    unknown = command("train", str(config), "model_name_or_path=ollama:frist", **host)
    assert unknown.returncode == 2
    assert "first" in unknown.stderr


def test_sparkline() -> None:
    assert sparkline([4.0, 2.0, 1.0, 0.0]) == "█▅▃▁"
    assert len(sparkline(list(map(float, range(1000))))) <= 48
    assert sparkline([]) == ""


def test_held_out_rows_are_needed(command: Command, config: Path) -> None:
    done = command("train", str(config), "early_stopping_steps=2")
    assert done.returncode == 2
    assert "early_stopping_steps needs conversations that are held out" in done.stderr
    assert "fix: val_size=0.1" in done.stderr
