"""A drafted golden set: what the gate reads, of rows that a person stands for or liked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ft2ollama.cli import cli
from ft2ollama.loop.exam import read_items
from ft2ollama.loop.extract import Wanted, facts_of, golden_draft
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback
from ft2ollama.loop.records import Exchange, Feedback

SOURCE = ("proxy", "http://127.0.0.1:11434")


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ("You can send it back for 30 days.", ["30"]),
        ("In hall A1.", ["A1"]),
        ("Call 0431-55-70-80, code KETT11.", ["0431-55-70-80", "KETT11"]),
        ("保修两年，满99元包邮。", ["99"]),
        ("三十天内可以退货。", ["三十"]),
        ("The workshop in Kiel.", ["The workshop in Kiel"]),
        ("a|b", []),
        ("Ask whoever sits at the desk beside the door of the second hall.", []),
    ],
)
def test_facts(answer: str, facts: list[str]) -> None:
    assert facts_of(answer) == facts


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Twelve questions: two liked, six corrected, four nobody has said anything of."""
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path))
    made = Ledger.open(tmp_path / "ledger.db")
    rows, said = [], []
    for n in range(12):
        question, rid = f"How long does parcel {n} take?", f"r{n}"
        asked = [{"role": "user", "content": question}]
        rows.append(Exchange(asked, question, f"It takes {n + 20} hours.", n, rid=rid))
        if n < 2:
            said.append(Feedback("thumb", n, "api", rid=rid, value=1))
        elif n < 8:
            text = "Nobody knows how long that one will be on the road." if n == 7 else f"{n} days."
            said.append(Feedback("correction", n, "api", rid=rid, text=text))
    with made.begin() as connection:
        add_exchanges(connection, SOURCE, rows)
        add_feedback(connection, said)
    return made


def test_liked_answers_first_and_a_third_at_most(shop: Ledger) -> None:
    with shop, shop.read() as connection:
        drafted, without = golden_draft(connection, Wanted())
    assert len(drafted) == 2  # of eight rows that count
    assert {str(one["expect"]) for one in drafted} == {"['20']", "['21']"}
    assert without == 1


def test_the_gate_reads_the_draft(shop: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    words = ["collect", "export", str(path), "--format", "golden", "--lang", "zh"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "已从人工撰写、改正或点赞的回答起草 2 道题" in done.stderr
    assert "略去 1 条" in done.stderr
    assert done.stdout.strip() == str(path)
    rows: list[Mapping[str, Any]] = [json.loads(one) for one in path.read_text().splitlines()]
    items = read_items(path, 20).items
    assert sorted(list(item.facts) for item in items) == sorted(row["expect"] for row in rows)
    assert all(row["answer"].startswith("It takes") for row in rows)
