"""`ft2ollama data ...` as people run it: exit codes, both languages, files, plain text, JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from tiny_tokenizers import byte_level

Command = Callable[..., subprocess.CompletedProcess[str]]

GOOD = [{"instruction": f"What is {n} times {n}?", "output": f"It is {n * n}."} for n in range(20)]
BAD = {"instruction": "讲个笑话。", "output": "很抱歉，我无法回答这个问题。"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """rows.jsonl is clean, warn.jsonl has a refusal, broken.jsonl a line that is no JSON."""
    lines = [json.dumps(row) for row in GOOD]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "warn.jsonl").write_text("\n".join([*lines, json.dumps(BAD)]), "utf-8")
    (tmp_path / "broken.jsonl").write_text("\n".join([lines[0], "{oops", *lines[1:]]), "utf-8")
    byte_level(tmp_path / "model")
    return tmp_path


def report_of(done: subprocess.CompletedProcess[str], folder: Path) -> list[dict[str, Any]]:
    path = folder / done.stdout.strip()
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_clean_data(command: Command, folder: Path) -> None:
    done = command("data", "check", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    assert "20 rows, and nothing to mend" in done.stderr
    assert done.stdout.strip() == ""
    assert not list(Path(os.environ["FT2OLLAMA_RUNS"]).glob("data-check/*"))


def test_warnings_and_strict(command: Command, folder: Path) -> None:
    done = command("data", "check", "warn.jsonl")
    assert done.returncode == 0
    assert "warn.jsonl:21 turns[2]" in done.stderr
    (entry,) = report_of(done, folder)
    assert entry["code"] == "refusal"
    assert entry["place"] == "warn.jsonl:21"
    assert entry["fix"]
    assert command("data", "check", "warn.jsonl", "--strict").returncode == 2


def test_rows_that_cannot_be_trained_on(command: Command, folder: Path) -> None:
    done = command("data", "check", "broken.jsonl", "--report", "all.jsonl")
    assert done.returncode == 2
    assert "broken.jsonl:2:" in done.stderr
    assert done.stdout.strip() == "all.jsonl"
    assert [entry["code"] for entry in report_of(done, folder)] == ["json-broken"]
    assert re.search(r"broken\.jsonl +21 +20 +1 ", done.stderr), done.stderr
    assert command("data", "check", "broken.jsonl", "bad_rows=drop").returncode == 0


def test_chinese(command: Command, folder: Path) -> None:
    for said in (command("data", "check", "warn.jsonl", "--lang", "zh"),
                 command("data", "check", "warn.jsonl", LC_ALL="zh_CN.UTF-8")):  # fmt: skip
        assert "回答是拒绝" in said.stderr
        assert "1 处值得看一看" in said.stderr
        assert "数据集" in said.stderr
        assert report_of(said, folder)[0]["problem"].startswith("回答是拒绝")


def test_json_lines(command: Command, folder: Path) -> None:
    done = command("data", "check", "warn.jsonl", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["problem", "set", "done"]
    assert events[0]["place"] == "warn.jsonl:21"
    assert (events[1]["rows"], events[1]["usable"], events[1]["dropped"]) == (21, 21, 0)
    assert (events[2]["errors"], events[2]["warnings"]) == (0, 1)


def test_a_config_brings_model_and_proof_questions(command: Command, folder: Path) -> None:
    (folder / "proof.jsonl").write_text('{"question": "What is 3 times 3?"}\n')
    text = (
        "model_name_or_path: model\ndataset: rows.jsonl\ncutoff_len: 64\nproof_prompts: proof.jsonl"
    )
    (folder / "faq.yaml").write_text(text)
    done = command("data", "check", "faq.yaml")
    assert done.returncode == 0, done.stderr
    assert "model, template its own, cutoff_len 64" in done.stderr
    assert "proof.jsonl:1 question  this proof question is 100 % the same" in done.stderr
    assert "tokens per role: user" in done.stderr
    done = command("data", "check", "faq.yaml", "cutoff_len=40")
    assert "dropped-too-long  20 ×" in done.stderr


def test_a_config_whose_model_is_not_here(command: Command, folder: Path) -> None:
    (folder / "faq.yaml").write_text("model_name_or_path: no-such-model\ndataset: rows.jsonl\n")
    done = command("data", "check", "faq.yaml")
    assert done.returncode == 0
    assert "without the model, tokens are not checked: nothing called no-such-model" in done.stderr
    done = command("data", "check", "rows.jsonl", "--model", "no-such-model")
    assert done.returncode == 2
    assert "error: nothing called no-such-model here" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check",), "Missing argument"),
        (("check", "rows.jsonl", "cutof_len=3"), "cutoff_len"),
        (("check", "none.jsonl"), "none.jsonl"),
        (("preview", "rows.jsonl"), "tokens need a model"),
        (("preview", "rows.jsonl", "--model", "model", "--row", "99"), "there are 20"),
        (("preview", "rows.jsonl", "--model", "model", "--place", "x:1"), "no usable row at x:1"),
        (("stats", "rows.jsonl", "--plot", "a.pdf"), "no picture"),
        (("check", "a.yaml", "rows.jsonl"), "a config stands alone"),
    ],
)
def test_mistakes(command: Command, folder: Path, words: tuple[str, ...], said: str) -> None:
    done = command("data", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_preview_without_colour(command: Command, folder: Path) -> None:
    done = command("data", "preview", "rows.jsonl", "--model", "model", "--row", "1")
    assert done.returncode == 0, done.stderr
    text = done.stderr.replace("\n", "")
    assert "⟦I│t│ │i│s│ │0│.│<|im_end|>⟧" in text
    assert "<|im_start|>│u│s│e│r│⏎" in text
    assert "\x1b" not in done.stderr
    assert command("data", "preview", "rows.jsonl", "--model", "model").stderr.count("learned") == 4


def test_preview_of_a_place_as_a_page(command: Command, folder: Path) -> None:
    words = ("--model", "model", "--place", "warn.jsonl:21", "--html", "row.html", "--lang", "zh")
    done = command("data", "preview", "warn.jsonl", *words)
    assert done.stdout.strip() == "row.html"
    page = (folder / "row.html").read_text("utf-8")
    assert "warn.jsonl:21" in page
    assert "模型看到什么" in page
    assert page.count('class="l') > 40


def test_stats(command: Command, folder: Path) -> None:
    words = ("rows.jsonl", "--model", "model", "cutoff_len=47", "--plot", "lengths.svg")
    done = command("data", "stats", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "lengths.svg"
    assert "<svg" in (folder / "lengths.svg").read_text()
    assert "what cutoff_len would cost" in done.stderr
    assert re.search(r"> 47 +10 \(50 %\)", done.stderr), done.stderr
    assert "█" in done.stderr
    bare = command("data", "stats", "rows.jsonl", "--lang", "zh")
    assert "长度（字符）" in bare.stderr
    assert "cutoff_len 的代价" not in bare.stderr
