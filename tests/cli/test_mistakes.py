"""A user's mistakes: three lines (what, why, fix), the right exit code, nothing half-made."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ft2ollama.base import Base
from ft2ollama.ollama_server import Server

Command = Callable[..., subprocess.CompletedProcess[str]]


def said(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """The exit code, and an error of what, why and fix that holds `parts`; no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    error = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert len(error) >= 3, done.stderr
    assert error[-1].startswith("  fix: "), done.stderr
    assert all(line.startswith("  ") for line in error[1:])
    for part in parts:
        assert part in done.stderr, done.stderr
    assert done.stdout == ""


def runs_in(folder: Path) -> list[Path]:
    return list((Path(os.environ["FT2OLLAMA_RUNS"])).glob("*/run.json"))


def test_no_ollama_running(command: Command, trained: Path) -> None:
    done = command("publish", "my-model", OLLAMA_HOST="127.0.0.1:9")
    said(done, 4, "http://127.0.0.1:9", "ollama serve")
    assert "publish" not in json.loads((trained / "run.json").read_text())["stages"]
    assert not (trained / "gguf").exists()


@pytest.mark.parametrize("name", ["我的模型", "my model", "-x", "a/b/c/d", "x:" + "t" * 90])
def test_a_name_that_ollama_would_refuse(command: Command, trained: Path, name: str) -> None:
    said(command("publish", "--", name), 2, "fix: ")
    assert not (trained / "gguf").exists()


def test_a_missing_data_file(command: Command, config: Path) -> None:
    done = command("train", str(config), "dataset=rosw.json")
    said(done, 2, "rosw.json does not exist", "did you mean rows.json?", "fix: dataset=rows.json")
    assert not runs_in(config.parent)


def test_broken_json_at_a_line(command: Command, config: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a" "output": "b"}\n')
    said(
        command("train", str(config), f"dataset={bad}"),
        2,
        f"{bad}:2:21: broken JSON: Expecting ','",
    )
    assert not runs_in(config.parent)


def test_a_misspelt_key_and_a_wrong_value_at_once(command: Command, config: Path) -> None:
    text = config.read_text().replace("lora_rank: 4", "lora_rnak: 4").replace("1e-2", "fast")
    config.write_text(text)
    done = command("train", str(config))
    said(done, 2, f"{config}:4:1: lora_rnak: no such key; did you mean lora_rank?", ":5:16: ")
    assert not runs_in(config.parent)


def test_a_missing_config_and_a_missing_model(command: Command, config: Path) -> None:
    said(command("train", "tniy.yaml"), 2, "tniy.yaml")
    said(command("train"), 2, "no config given")
    said(command("train", str(config), "model_name_or_path=./nowhere"), 2, "nowhere")
    said(command("train", str(config), "model_name_or_path=./nowhere.gguf"), 2, "does not exist")
    said(command("train", "--resume", "nothing"), 2, "no run 'nothing'")


def test_an_unknown_command_and_option(command: Command) -> None:
    done = command("trian")
    assert done.returncode == 2
    assert "Did you mean one of: 'retrain', 'train'?" in done.stderr
    assert command("train", "--forse").returncode == 2


def test_an_adapter_that_does_not_fit_the_base(
    command: Command, trained: Path, smollm2: Base
) -> None:
    done = command("export", "--base", str(smollm2.folder))
    said(done, 2, "q_proj", "32")
    assert not (trained / "gguf").exists() or not list((trained / "gguf").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system with 6 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(command: Command, trained: Path, small_disk: Path) -> None:
    moved = small_disk / "run"
    subprocess.run(["cp", "-r", str(trained), str(moved)], check=True)
    done = command("export", str(moved), "--quant", "F32")
    said(done, 4, "not enough disk space", "needed")
    assert not list((moved / "gguf").glob("*"))
    assert command("export", str(trained), "--quant", "F32").returncode == 0


def test_a_full_disk_in_training(command: Command, config: Path, small_disk: Path) -> None:
    fill = small_disk / "fill"
    fill.write_bytes(bytes(shutil.disk_usage(small_disk).free - 60_000))
    done = command("train", str(config), FT2OLLAMA_RUNS=str(small_disk / "runs"))
    said(done, 4, "disk")
    fill.unlink()
    assert command("train", str(config), FT2OLLAMA_RUNS=str(small_disk / "runs")).returncode == 0


def _start(config: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ft2ollama", "--json", "train", str(config), *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_ctrl_c_in_training_then_the_printed_command(command: Command, config: Path) -> None:
    running = _start(config, "num_train_epochs=40")
    assert running.stdout is not None
    for line in running.stdout:
        if json.loads(line)["event"] == "step":
            running.send_signal(signal.SIGINT)
            break
    _out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert "checkpoint saved" in err
    resume = re.search(r"fix: ft2ollama (train --resume \S+)", err)
    assert resume is not None
    done = command(*resume[1].split())
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip())
    steps = [json.loads(line)["step"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 241))
    assert len(steps) <= 242, "the resumed training began anew"
    assert (run / "adapter/adapter_model.safetensors").is_file()


def test_kill_9_during_export_leaves_no_file_that_looks_finished(
    command: Command, trained: Path
) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "ft2ollama", "export", str(trained), "--quant", "F32"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = trained / "gguf"
    end = time.monotonic() + 60
    while not (folder.exists() and any(folder.iterdir())):
        assert time.monotonic() < end
        assert running.poll() is None
        time.sleep(0.0005)
    running.kill()
    running.wait()
    assert not list(folder.glob("*.gguf"))
    assert json.loads((trained / "run.json").read_text())["stages"]["export model F32"][
        "status"
    ] == ("running")
    done = command("export", str(trained), "--quant", "F32")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir() if path.suffix == ".gguf"] == ["model-F32.gguf"]


@pytest.mark.ollama
def test_a_wrong_template_is_caught_and_nothing_is_published(
    command: Command, trained: Path, ollama_server: Server
) -> None:
    """A run whose proof says another prompt than Ollama builds, as a wrong Go template would."""
    path = trained / "proof/template.json"
    template = json.loads(path.read_text())
    template["gotmpl"] = template["gotmpl"].replace("<|im_end|>\n", "<|im_end|>")
    path.write_text(json.dumps(template))
    done = command("publish", "wrong", "--run", str(trained), OLLAMA_HOST=ollama_server.host)
    said(done, 3, "nothing was published", "first difference at token")
    names = command("chat", "wrong", "Hi", OLLAMA_HOST=ollama_server.host)
    said(names, 2, "wrong")
    assert "refused" in (trained / "proof/proof.md").read_text()
