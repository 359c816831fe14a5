"""`eval` on a tiny trained run: losses, replies and scores against other ways to get them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CONFIG
from fixtures_tiny import write_rows

from ft2ollama.base import Base
from ft2ollama.config import load_config
from ft2ollama.data.from_config import read_parts, rules_of
from ft2ollama.data.render import IGNORED, Renderer, Tokenizer
from ft2ollama.files import read_jsonl
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.ollama_server import Server
from ft2ollama.runs import Run
from ft2ollama.served import read_template
from ft2ollama.train.model import load_trained
from ft2ollama.train.speaker import Speaker, held_out_loss, load_tuned

pytestmark = pytest.mark.filterwarnings("ignore")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(tiny: Base, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training that held 6 of 24 conversations out."""
    folder = tmp_path_factory.mktemp("evaluated")
    rows = write_rows(folder / "rows.json")
    (folder / "tiny.yaml").write_text(CONFIG.format(base=tiny.folder, rows=rows))
    done = subprocess.run(
        [sys.executable, "-m", "ft2ollama", "train", "tiny.yaml", "val_size=6"],
        cwd=folder, env={**os.environ, "FT2OLLAMA_RUNS": str(folder / "runs")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Run(Path(done.stdout.strip()))


@pytest.fixture(scope="module")
def speaker(run: Run, tiny: Base) -> Speaker:
    model, _ = load_tuned(run, tiny.folder, "cpu", load_config(run.config_file).config)
    return Speaker(model, read_template(run.proof / "template.json"), Tokenizer(tiny.folder))


def samples(run: Run, tiny: Base) -> list[Any]:
    config = load_config(run.config_file).config
    renderer = Renderer(
        read_template(run.proof / "template.json"), Tokenizer(tiny.folder), rules_of(config)
    )
    held = read_parts(config)[1].validation[""]
    assert len(held) == 6
    return renderer.render(held).samples


def loss_by_transformers(model: Any, rows: list[Any]) -> float:
    """The mean over learned tokens of the loss that the model itself computes, a row at a time."""
    total, learned = 0.0, 0
    for row in rows:
        labels = torch.tensor([list(row.labels)])
        count = int((labels[:, 1:] != IGNORED).sum())
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([list(row.ids)]), labels=labels)
        total, learned = total + float(output.loss) * count, learned + count
    return total / learned


def test_the_loss_is_that_of_transformers_and_of_the_training(run: Run, tiny: Base) -> None:
    rows = samples(run, tiny)
    tuned, _ = load_tuned(run, tiny.folder, "cpu", load_config(run.config_file).config)
    loss = held_out_loss(tuned, rows)
    expected = load_trained(tiny.folder, run.adapter, torch.float32)
    assert loss == pytest.approx(loss_by_transformers(expected, rows), rel=1e-5)
    assert loss == pytest.approx(run.stage_record("train")["eval_loss"], abs=1e-4)


def test_greedy_replies_are_the_trainers(run: Run, speaker: Speaker) -> None:
    replies = read_jsonl(run.proof / "replies.jsonl")
    assert len(replies) == 2
    for reply in replies:
        limit = len(reply["ids"]) + reply["stopped"]
        spoken = speaker.reply(reply["messages"], limit=limit)
        assert (spoken.text, list(spoken.ids)) == (reply["text"], reply["ids"])
        assert spoken.stopped == reply["stopped"]


def columns(output: str) -> dict[str, dict[str, Any]]:
    events = [json.loads(line) for line in output.splitlines()]
    assert events[-1]["event"] == "done"
    return {event["name"]: event for event in events if event["event"] == "column"}


def test_base_tuned_and_published_on_the_same_rows(
    command: Command,
    run: Run,
    tiny: Base,
    speaker: Speaker,
    ollama: Ollama,
    ollama_server: Server,
    tmp_path: Path,
) -> None:
    """Rows whose answers are what the tuned model says greedily: it has them all, the base none."""
    host = {"OLLAMA_HOST": ollama_server.host}
    args = ["--run", str(run.folder), "--force", "rounding changes what a random model says"]
    published = command("publish", "tiny-eval", *args, **host)
    assert published.returncode == 0, published.stderr
    asked = ["你是谁？", "萤罐多少钱？", "How many rows?"]
    said = [speaker.reply([{"role": "user", "content": q}], limit=12).text for q in asked]
    data = tmp_path / "rows.jsonl"
    talks = zip(asked, said, strict=True)
    data.write_text("".join(
        json.dumps({"instruction": q, "output": a}, ensure_ascii=False) + "\n" for q, a in talks
    ), "utf-8")  # fmt: skip
    questions = tmp_path / "facts.jsonl"
    facts = [{"question": asked[1], "expect": [said[1].strip()]},
             {"question": asked[2], "expect": ["no such word|没有"]}]  # fmt: skip
    questions.write_text("".join(json.dumps(f, ensure_ascii=False) + "\n" for f in facts), "utf-8")
    args = ["--data", str(data), "--questions", str(questions), "--tokens", "12"]
    done = command("eval", str(run.folder), *args, "--json", **host)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    found = columns(done.stdout)
    assert list(found) == ["base", "tuned", "published"]
    scores = {name: column["scores"] for name, column in found.items()}
    assert scores["tuned"]["exact"] == {"hits": 3, "of": 3}
    assert scores["tuned"]["chrf"] == pytest.approx(100)
    assert scores["base"]["exact"] == {"hits": 0, "of": 3}
    assert scores["tuned"]["facts"] == {"hits": 1, "of": 2}
    assert scores["base"]["chrf"] < 60
    assert scores["base"]["loss"] > scores["tuned"]["loss"] + 0.1
    assert scores["published"]["loss"] is None
    assert min(one["tokens_per_s"] for one in scores.values()) > 1
    report = json.loads((run.folder / "eval/eval.json").read_text("utf-8"))
    assert report["rows"] | {"from": ""} == {
        "from": "", "held_out": 3, "asked": 3, "in_the_loss": 3,
    }  # fmt: skip
    told = {column["name"]: column["replies"] for column in report["columns"]}
    tag = run.stage_record("publish")["tag"]
    options = {**quiet_options(True), "num_predict": 12}
    for reply in told["published"]:
        direct = ollama.chat(tag, reply["messages"], options=options)
        assert reply["reply"] == direct.text
        assert reply["stopped"] == (direct.done_reason == "stop")
        assert reply["tokens"] == direct.reply_tokens == 12
    assert [len(replies) for replies in told.values()] == [5, 5, 5]


def test_what_cannot_be_had_is_a_column_with_the_reason(
    command: Command, run: Run, tiny: Base, smol: str, ollama_server: Server
) -> None:
    """The real SmolLM2 in Ollama is measured though the run's own base is gone."""
    few = ("eval", str(run.folder), "--against", smol, "--rows", "2", "--tokens", "8")
    host = {"OLLAMA_HOST": ollama_server.host}
    gone = tiny.folder.rename(tiny.folder.with_name("moved"))
    try:
        done = command(*few, "--base", smol, "--json", **host)
        table = command(*few, **host)
        nothing = command(*few)
    finally:
        gone.rename(tiny.folder)
    assert done.returncode == 0, done.stderr
    found = columns(done.stdout)
    assert "tiny-llama" in found["tuned"]["missing"]
    assert found["published"]["missing"] == found["base"]["missing"] == ""
    assert found["base"]["scores"]["chrf"] == found["published"]["scores"]["chrf"]
    assert found["published"]["replies"] == 2
    assert found["published"]["scores"]["chrf"] is not None
    assert table.stdout == f"{run.folder}/eval/eval.json\n"
    assert "2 of 6 held-out rows (val_size 6)" in table.stderr
    for words in ("exact answers", "same numbers", "tokens/s", "0 of 2", "farthest"):
        assert words in table.stderr
    for name in ("base", "tuned"):
        assert f"{name}: not measured: " in table.stderr
    assert nothing.returncode == 1
    assert "nothing could be measured" in nothing.stderr
    assert "no Ollama answers" in nothing.stderr
    assert "Traceback" not in nothing.stderr


def test_a_file_that_is_not_there(command: Command, run: Run) -> None:
    done = command("eval", str(run.folder), "--data", "nowhere.jsonl")
    assert done.returncode == 2
    assert "nowhere.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
