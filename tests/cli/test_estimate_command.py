"""`ft2ollama estimate` and the plan of `train`, as a user types them."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_settings import QWEN2_7B

from ft2ollama.base import Base

Command = Callable[..., subprocess.CompletedProcess[str]]

WATCH = """
import atexit, sys
atexit.register(lambda: print("imported:", [n for n in ("torch", "transformers", "peft")
                                             if n in sys.modules]))
from ft2ollama.cli import main
main({args!r})
"""


def told(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """The `done` event of --json."""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return next(event for event in events if event["event"] == "done")


def test_the_bill_of_a_config(command: Command, config: Path) -> None:
    done = command("estimate", str(config), COLUMNS="100")
    assert done.returncode == 0, done.stderr
    assert " GB memory, " in done.stdout
    for word in (
        "counted with the model's tokenizer", "weights", "optimizer", "activations", "allocator",
        "± 10 %; each further token", "Ollama's copy", "publish",
        "QLoRA, NF4", "full fine-tuning", "it fits",
    ):  # fmt: skip
        assert word in done.stderr


def test_no_torch_and_less_than_a_second(config: Path) -> None:
    code = WATCH.format(args=["estimate", str(config)])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "imported: []" in done.stdout
    assert after.ru_utime - before.ru_utime < 2.0  # 0.9 s alone; a loaded machine counts more


def test_config_json_alone_is_enough(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN2_7B))
    done = command(
        "--json", "estimate", "model_name_or_path=model", "dataset=nowhere.json", "--gpu", "H200",
        "per_device_train_batch_size=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nowhere.json" in done.stderr
    found = told(done)
    assert found["steps"] == 0
    assert 15 < sum(term["gb"] for term in found["terms"][:2]) < 15.5  # type: ignore[index]
    assert found["disk_gb"] > 15


def test_a_size_and_a_card_are_enough(command: Command) -> None:
    done = command("estimate", "--params", "7B", "--gpu", "RTX 4090", "quantization_bit=4")
    assert done.returncode == 0, done.stderr
    done = command("estimate", "--params", "7B", "--gpu", "16GB")
    assert done.returncode == 4, done.stderr
    assert "it does not fit" in done.stderr
    assert "cutoff_len=" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), ("nothing to estimate", "--params 7B")),
        (("--params", "7B", "--gpu", "RTX 9999"), ("no card of that name", "RTX 4090", "H100")),
        (("--params", "seven"), ("is no model size", "--params 7B")),
        (("model_name_or_path=no/where", "dataset=x"), ("could not be fetched", "--params 7B")),
        (("model_name_or_path=gone.gguf", "dataset=x"), ("does not exist",)),
        (("model_name_or_path=x", "dataset=x", "--layers", "4"), ("--layers", "--params")),
        (("--params", "7B", "lora_rnak=4"), ("did you mean lora_rank",)),
    ],
)
def test_mistakes_name_the_fix(
    command: Command, args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = command("estimate", *args)
    assert done.returncode in (2, 4)
    assert "Traceback" not in done.stderr
    assert "should not have happened" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_the_plan_of_a_training_shows_what_it_takes(command: Command, config: Path) -> None:
    done = command("--json", "train", str(config), "--dry-run")
    plan = json.loads(done.stdout.splitlines()[0])
    assert plan["event"] == "plan"
    assert 0.6 < plan["memory_gb"] < 1.2
    assert plan["minutes"] > 0
    for word in ("memory", "time", "disk"):
        assert f"  {word} " in done.stderr


def test_a_training_that_cannot_fit_is_refused_before_it_starts(
    command: Command, config: Path, tiny: Base, tmp_path: Path
) -> None:
    """By its config.json the activations of all rows at once are some terabytes."""
    folder = shutil.copytree(tiny.folder, tmp_path / "huge")
    shape = {"hidden_size": 1 << 11, "intermediate_size": 1 << 13, "num_hidden_layers": 100}
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **shape}))
    rows = [{"instruction": f"say {i}", "output": "word " * 20} for i in range(6000)]
    (tmp_path / "many.json").write_text(json.dumps(rows))
    done = command(
        "train", str(config), f"model_name_or_path={folder}", "dataset=many.json",
        "per_device_train_batch_size=1000000",
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "does not fit into the memory" in done.stderr
    assert "fix: per_device_train_batch_size=" in done.stderr
    assert not list(Path(tmp_path).glob("runs/*"))


def test_a_run_keeps_its_estimate(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text())
    kept = record["estimate"]
    assert kept["peak_gb"] > 0.5
    assert {term["name"] for term in kept["terms"]} >= {"weights", "adapter", "libraries"}


def test_a_real_training_stays_near_its_estimate(config: Path, tmp_path: Path) -> None:
    """Peak of a whole process, by the kernel's count."""
    rows = [{"instruction": f"say {i}", "output": "word " * 230} for i in range(16)]
    (tmp_path / "long.json").write_text(json.dumps(rows))
    code = """
import re, sys
from ft2ollama.cli import cli
cli.main(sys.argv[1:], standalone_mode=False)
# Not ru_maxrss: that begins with what the parent took.
status = open("/proc/self/status").read()
print("peak", int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024 / 1e9)
"""
    args = [
        "train", str(config), f"dataset={tmp_path / 'long.json'}", "per_device_train_batch_size=8",
        "max_steps=3", "proof_replies=0",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True,
        cwd=tmp_path,
    )  # fmt: skip
    run, peak = done.stdout.splitlines()
    predicted = json.loads((tmp_path / run / "run.json").read_text())["estimate"]["peak_gb"]
    assert predicted == pytest.approx(float(peak.split()[1]), rel=0.15)
