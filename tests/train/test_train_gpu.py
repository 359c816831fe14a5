"""benchmarks/train_gpu.py runs from end to end without a GPU, with a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # torch, transformers and bitsandbytes warn
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_benchmark_runs_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import train_gpu

    options = ["--tiny", "--here", "--steps", "7", "--folder", str(tmp_path / "model")]
    train_gpu.main([*options, "--out", str(tmp_path / "lines.jsonl")])
    out, told = capsys.readouterr()
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [line["end"] for line in lines] == ["ok"] * 7, told
    assert "WRONG" not in out
    checks = [said for line in lines for said in line["said"] if "limit" in said]
    assert len(checks) == 4
    assert all(0 <= said["value"] <= said["limit"] for said in checks)
    curves = {
        tuple(line["line"][1:]): [said["loss"] for said in line["said"] if "loss" in said]
        for line in lines
        if line["line"][0] == "ours"
    }
    auto, again, plain = (curves["W1", variant] for variant in ("auto", "all", "plain"))
    assert len(auto) == 7
    assert again == auto  # recomputing changes no bit
    assert plain == pytest.approx(auto, abs=2e-2)  # bfloat16
    assert len(curves["W2", "auto"]) == 7
    sys.stderr.write(out)
