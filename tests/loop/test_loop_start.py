"""`init --loop`: two files that retrain takes as they are, for what was collected."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ft2ollama.cli import cli
from ft2ollama.config import load_config
from ft2ollama.errors import DataError, UsageError
from ft2ollama.loop.goods import training_text
from ft2ollama.loop.ledger import Ledger, add_exchanges
from ft2ollama.loop.records import Exchange
from ft2ollama.loop.settings import read_config
from ft2ollama.loop.start import most_asked

Fill = Callable[[int], None]


@pytest.fixture
def fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Put answers that people wrote into a new ledger."""
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def put(count: int) -> None:
        rows = []
        for n in range(count):
            question = sha256(str(n).encode()).hexdigest()[:20]
            asked = [{"role": "user", "content": question}]
            rows.append(Exchange(asked, question, "Ask Tom.", n, rid=f"r{n}", origin="human",
                                 model="qwen:1b" if n else "other", route="/api/chat"))  # fmt: skip
        with Ledger.open() as ledger, ledger.begin() as connection:
            add_exchanges(connection, ("proxy", "x"), rows)

    return put


def init(*words: str) -> Any:
    return CliRunner().invoke(cli, ["init", "--loop", "--yes", "--name", "shop", *words])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_both_files_are_taken_by_retrain(fill: Fill, tiny_base: Path, language: str) -> None:
    fill(12)
    done = init("--model", str(tiny_base), "--lang", language, "deep/shop")
    assert done.stdout.strip() == "deep/shop/loop.yaml"
    config = read_config(Path("deep/shop/loop.yaml"))
    assert (config.name, config.train.name) == ("shop", "train.yaml")
    assert training_text(config.train)
    train = load_config(config.train, ["dataset=train.jsonl"]).config
    assert (train.model_name_or_path, train.template) == (str(tiny_base), "chatml")
    text = Path("deep/shop/train.yaml").read_text("utf-8")
    assert "dataset" not in text
    assert "ollama_name" not in text
    assert ("训练方式" in text) is (language == "zh")


def test_nothing_is_overwritten(fill: Fill, tiny_base: Path) -> None:
    fill(12)
    Path("train.yaml").write_text("mine")
    done = init("--model", str(tiny_base))
    assert isinstance(done.exception, UsageError)
    assert done.exception.what == "train.yaml is there already"
    assert Path("train.yaml").read_text() == "mine"
    assert not Path("loop.yaml").exists()


def test_nothing_collected_yet(fill: Fill, tiny_base: Path) -> None:
    fill(0)
    done = init("--model", str(tiny_base))
    assert isinstance(done.exception, DataError)
    assert "nothing that was collected can be trained on yet" in done.exception.what


def test_the_model_that_answers_is_proposed(fill: Fill) -> None:
    fill(3)
    with Ledger.open() as ledger:
        assert most_asked(ledger) == "ollama:qwen:1b"


def test_a_missing_config_names_the_way(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["retrain", str(tmp_path / "loop.yaml")])
    assert isinstance(done.exception, UsageError)
    assert "ft2ollama init --loop" in done.exception.fix
