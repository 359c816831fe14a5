"""`ft2ollama init`: the config it writes loads, and passes a dry run."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_tiny import write_rows
from tiny_settings import QWEN2_7B

from ft2ollama.base import Base
from ft2ollama.config import load_config

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_config_loads_and_passes_a_dry_run(
    command: Command, tiny: Base, tmp_path: Path
) -> None:
    write_rows(tmp_path / "faq.json")
    done = command("init", "--model", str(tiny.folder), "--yes", "--lang", "en")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "faq.yaml"
    assert "ft2ollama train faq.yaml" in done.stderr
    text = (tmp_path / "faq.yaml").read_text("utf-8")
    assert text.isascii()
    assert [line for line in text.splitlines() if len(line) > 100 and "tiny" not in line] == []
    loaded = load_config(tmp_path / "faq.yaml")
    assert loaded.config.cutoff_len == 256
    assert loaded.config.ollama_name == "faq"
    dry = command("train", "faq.yaml", "--dry-run")
    assert dry.returncode == 0, dry.stderr


def test_nothing_is_overwritten(command: Command, tiny: Base, tmp_path: Path) -> None:
    write_rows(tmp_path / "faq.json")
    (tmp_path / "faq.yaml").write_text("mine")
    done = command("init", "--model", str(tiny.folder), "--yes")
    assert done.returncode == 2
    assert "--name another-name" in done.stderr
    assert (tmp_path / "faq.yaml").read_text() == "mine"


def test_a_chinese_name_is_the_files_name(command: Command, tiny: Base, tmp_path: Path) -> None:
    data = tmp_path / "数据"
    data.mkdir()
    write_rows(data / "客服.json")
    done = command(
        "init", "新模型", "--model", str(tiny.folder), "--data", "数据/客服.json", "--yes",
        LC_ALL="zh_CN.UTF-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "下一步" in done.stderr
    assert "学习率" in (tmp_path / "新模型/客服.yaml").read_text("utf-8")
    config = load_config(tmp_path / "新模型/客服.yaml").config
    assert config.ollama_name == "my-model"
    assert command("train", "新模型/客服.yaml", "--dry-run").returncode == 0


def test_another_card_gets_another_config(command: Command, tmp_path: Path) -> None:
    """7 B on 24 GB: the mildest change that fits is in the file."""
    folder = tmp_path / "seven"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN2_7B))
    write_rows(tmp_path / "faq.json")
    done = command("init", "--model", "seven", "--gpu", "24GB", "--yes")
    assert done.returncode == 0, done.stderr
    config = load_config(tmp_path / "faq.yaml").config
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 8
    assert config.learning_rate == 2e-4
    assert config.export_quant == "Q4_K_M"
    estimated = command("estimate", "faq.yaml", "--gpu", "24GB")
    assert estimated.returncode == 0, estimated.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--yes",), ("--model is needed",)),
        (("--model", "{model}", "--yes"), ("--data is needed", "one.json, two.json")),
        (("--model", "{model}", "--data", "gone.json", "--yes"), ("gone.json", "does not exist")),
        (("--model", "nothing", "--data", "one.json", "--yes"), ("nothing called 'nothing'",)),
        (("--model", "{model}", "--data", "bad.jsonl", "--yes"), ("bad.jsonl:2:",)),
        (("--model", "{model}", "--data", "one.json", "--gpu", "x"), ("no card of that name",)),
    ],
)
def test_mistakes_name_the_fix(
    args: tuple[str, ...], words: tuple[str, ...], command: Command, tiny: Base, tmp_path: Path
) -> None:
    for name in ("one.json", "two.json"):
        write_rows(tmp_path / name)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"instruction": "a", "output": "b"}\n{"instruction": \n')
    if "two.json" in " ".join(words):
        bad.unlink()
    done = command("init", *(arg.replace("{model}", str(tiny.folder)) for arg in args))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "fix:" in done.stderr
    for word in words:
        assert word in done.stderr
    assert not list(tmp_path.glob("*.yaml"))


def test_it_asks_where_it_can(tiny: Base, tmp_path: Path) -> None:
    write_rows(tmp_path / "faq.json")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ft2ollama", "init"],
        stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True,
    )  # fmt: skip
    os.close(slave)
    os.write(master, f"{tiny.folder}\nsupport\n".encode())
    out, err = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0, err
    assert out.strip() == "support.yaml"
    assert "Name of the new model in Ollama [faq]" in err
