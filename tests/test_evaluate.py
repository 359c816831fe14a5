"""What `eval` asks and how it counts, without any model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.data.conversation import Conversation, Message
from ft2ollama.data.from_config import rules_of
from ft2ollama.data.questions import Question
from ft2ollama.data.render import Renderer, Tokenizer
from ft2ollama.data.split import split
from ft2ollama.errors import UsageError
from ft2ollama.evaluate.columns import Column, Said, Share, ask_all, farthest, summary
from ft2ollama.evaluate.gather import Wanted, gather
from ft2ollama.evaluate.material import Item, choose_rows, from_questions, from_rows
from ft2ollama.evaluate.speakers import Job, in_ollama
from ft2ollama.ollama_api import Ollama
from ft2ollama.runs import create_run
from ft2ollama.template import choose_template


def row(*turns: str, system: str = "", **more: Any) -> Conversation:
    roles = ("user", "assistant")
    said: list[Any] = [{"role": "system", "content": system}] if system else []
    said += [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return Conversation(tuple(said), "rows.jsonl:1", **more)


ROWS = [row(f"第{n}个问题？", f"答案是{n}。") for n in range(30)]


def test_the_choice_depends_on_what_is_said_alone() -> None:
    chosen = choose_rows(ROWS, 8)
    assert chosen == choose_rows([*reversed(ROWS), *ROWS], 8)
    assert choose_rows(ROWS, 4) == chosen[:4]
    assert len(choose_rows(ROWS, 99)) == 30


def test_the_last_learned_answer_is_asked_for() -> None:
    tools = ({"type": "function", "function": {"name": "f", "parameters": {}}},)
    call: Message = {"role": "assistant", "content": "", "tool_calls": []}
    rows = [
        row("Q1", "A1", "Q2", "A2", system="S"),
        row("Q1", "A1", "Q2", "A2", unlearned=frozenset({3})),
        row("Q", "A", tools=tools),
        Conversation(({"role": "user", "content": "Q"}, call), "rows.jsonl:4"),
    ]
    found = from_rows(rows, None, "Be brief.", count=9, tokens=20)
    asked = {item.reference: [turn["content"] for turn in item.messages] for item in found.items}
    assert asked == {"A2": ["S", "Q1", "A1", "Q2"], "A1": ["Be brief.", "Q1"]}
    assert {item.limit for item in found.items} == {20}
    assert found.notes == ("2 rows not asked for: with tools, or with no answer in words",)
    assert found.samples == ()
    assert found.held == 4


def test_rows_that_cannot_be_rendered_are_left_out_of_both(tiny: Base) -> None:
    config = Config(model_name_or_path="m", dataset="d", cutoff_len=40)
    renderer = Renderer(
        choose_template("chatml", None, {}), Tokenizer(tiny.folder), rules_of(config)
    )
    rows = [row("Q", "Yes, in words."), row("Long?", "word " * 100)]
    found = from_rows(rows, renderer, "", count=9, tokens=500)
    (item,) = found.items
    tokens = len(renderer.tokenizer.encode("Yes, in words.")[0])
    assert (item.reference, item.limit) == ("Yes, in words.", 2 * tokens + 16)
    assert len(found.samples) == 1
    assert "1 rows left out: 1 " in found.notes[0]
    assert from_rows(rows, renderer, "", count=9, tokens=5).items[0].limit == 5


ITEMS = (
    Item("a:1", ({"role": "user", "content": "3 mal 3?"},), 9, reference="Das ist 9."),
    Item("a:2", ({"role": "user", "content": "好？"},), 9, reference="好的。"),
    Item("q:1", ({"role": "user", "content": "Who?"},), 9, facts=("Nova|诺娃",)),
)


def column(name: str, *said: tuple[str, bool], **more: Any) -> Column:
    replies = iter(Said(text, stopped, 10, 0.5) for text, stopped in said)
    return Column(name, "m", "here", ask_all(lambda *_: next(replies), ITEMS), **more)


def test_the_scores_of_a_column_by_hand() -> None:
    good = column("tuned", ("Das ist 9.\n", True), ("好的。", True), ("我是诺娃", True), loss=0.5)
    bad = column("base", ("Das ist 8.", True), ("no " * 40, False), ("Anova", False))
    assert good.scores.chrf == pytest.approx(100)
    assert (good.scores.exact, good.scores.numbers) == (Share(2, 2), Share(1, 1))
    assert (good.scores.facts, good.scores.stopped) == (Share(1, 1), Share(3, 3))
    assert good.scores.tokens_per_s == 20.0
    assert (bad.scores.exact, bad.scores.numbers) == (Share(0, 2), Share(0, 1))
    assert (bad.scores.facts, bad.scores.stopped) == (Share(1, 1), Share(1, 3))
    assert bad.scores.loops == Share(1, 3)
    assert json.loads(json.dumps(good.as_dict()))["replies"][1]["reply"] == "好的。"
    lines = dict(summary([bad, good]))
    assert lines["loss (nats/token)"] == ["–", "0.500"]
    assert lines["exact answers"] == ["0 of 2", "2 of 2"]
    assert lines["tokens/s"] == ["20.0", "20.0"]
    told = farthest([bad, good], 2)
    assert len(told) == 2
    assert told[0][1] in ([bad.replies[0].said.text, good.replies[0].said.text],
                          [bad.replies[1].said.text, good.replies[1].said.text])  # fmt: skip
    empty = Column("published", "", "Ollama", missing="why")
    assert dict(summary([bad, empty]))["chrF (0 to 100)"][1] == "–"
    assert farthest([empty], 3) == []
    assert [item.place for item, _ in farthest([bad, empty], 1)] == ["a:2"]


def test_questions_are_chosen_and_carry_their_facts() -> None:
    questions = [Question(f"Frage {n}?", (str(n),), f"q.jsonl:{n}") for n in range(20)]
    found = from_questions(questions, "S", count=5, tokens=7).items
    assert found == from_questions(questions[::-1], "S", count=5, tokens=7).items
    assert len(found) == 5
    for item in found:
        assert item.messages[0] == {"role": "system", "content": "S"}
        assert item.messages[1]["content"] == f"Frage {item.facts[0]}?"
        assert (item.reference, item.limit) == (None, 7)


def test_an_ollama_that_is_not_there_is_a_reason() -> None:
    run = create_run("x", "")
    config = Config(model_name_or_path="m", dataset="d")
    material = from_questions([Question("Q", ("A",))], "", count=1, tokens=1)
    job = Job(run, config, choose_template("chatml", None, {}), material, lambda *_: None)
    found = in_ollama(job, "published", Ollama("127.0.0.1:9"), "model")
    assert "no Ollama answers at" in found.missing
    assert "fix: " in found.missing
    assert found.replies == ()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [{"instruction": one.messages[0]["content"], "output": one.messages[1]["content"]}
             for one in ROWS]  # fmt: skip
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return path


def test_where_rows_and_questions_come_from(data: Path, tmp_path: Path) -> None:
    run = create_run("x", "")
    asked = tmp_path / "q.jsonl"
    asked.write_text('{"question": "Who?", "expect": ["Nova"]}\n{"question": "Why?"}\n')
    config = Config(model_name_or_path="m", dataset=str(data), val_size=6, proof_prompts=asked)
    found = gather(run, config, None, Wanted(rows=4))
    held = {one.messages[0]["content"] for one in split(ROWS, 6)[1]}
    rows = [item for item in found.material.items if item.reference is not None]
    assert len(rows) == 4
    assert {item.messages[0]["content"] for item in rows} < held
    assert [item.facts for item in found.material.items[4:]] == [("Nova",)]
    assert (found.rows_of, found.questions_of) == ("val_size 6", str(asked))
    named = gather(run, config, None, Wanted(data=str(data), rows=30))
    assert named.material.held == 30
    assert named.material.notes[0].startswith("24 of 30 rows were trained on")
    with pytest.raises(UsageError, match="expect"):
        gather(run, config, None, Wanted(questions=asked))


def test_nothing_to_measure_on(data: Path) -> None:
    run = create_run("x", "")
    config = Config(model_name_or_path="m", dataset=str(data))
    with pytest.raises(UsageError, match="nothing to measure") as error:
        gather(run, config, None, Wanted())
    assert "--data" in error.value.fix
    gone = Config(model_name_or_path="m", dataset=str(data.with_name("gone.jsonl")), val_size=6)
    with pytest.raises(UsageError) as error:
        gather(run, gone, None, Wanted())
    assert "the held-out rows cannot be read" in error.value.why
