"""`ft2ollama export --calibrate FILE`: statistics for a run that was trained without them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_statistics_from_a_file(command: Command, trained: Path, rows: Path) -> None:
    assert not (trained / "calibration.safetensors").exists()  # export_quant was Q8_0
    plain = command("export", "--quant", "Q4_0")
    assert plain.returncode == 0, plain.stderr
    assert "not calibrated: --calibrate DATA" in plain.stderr
    before = Path(plain.stdout.strip()).read_bytes()
    done = command("--json", "export", "--quant", "Q4_0", "--calibrate", str(rows))
    assert done.returncode == 0, done.stderr
    assert "calibrated on 24 conversations" in done.stderr
    assert "held-out error -" in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert "calibrated" in [event["event"] for event in events]
    path = Path(events[-1]["path"])
    assert path.read_bytes() != before
    assert len(path.read_bytes()) == len(before)
    report = json.loads(path.with_suffix(".json").read_text())["calibrated"]
    assert {entry["mode"] for entry in report} <= {"exact", "imatrix", "calibrated"}


def test_a_file_that_is_no_data(command: Command, trained: Path, tmp_path: Path) -> None:
    missing = command("export", "--quant", "Q4_0", "--calibrate", str(tmp_path / "none.json"))
    assert missing.returncode == 2
    assert "does not exist" in missing.stderr
    assert not (trained / "gguf").exists()
