"""With a model: what is counted in tokens, what is left out, and what a row costs at a cutoff."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tiny_tokenizers import CHATML, byte_level

from ft2ollama.data.catalogue import line
from ft2ollama.data.check import DataSet, Report, examine
from ft2ollama.data.conversation import Conversation, Message
from ft2ollama.data.measure import Model
from ft2ollama.data.render import Rules
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.template import choose_template


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_level(tmp_path_factory.mktemp("bytes"))


def model_of(folder: Path, cutoff_len: int = 500, **rules: object) -> Model:
    template = choose_template(None, CHATML, {"eos_token": "<|im_end|>"}, added=("<|im_end|>",))
    return Model(template, Tokenizer(folder), Rules(cutoff_len=cutoff_len, **rules))  # type: ignore[arg-type]


def talk(*texts: str, line: int = 1) -> Conversation:
    roles = ("user", "assistant")
    messages: list[Message] = [
        {"role": roles[n % 2], "content": text}  # type: ignore[typeddict-item]
        for n, text in enumerate(texts)
    ]
    return Conversation(tuple(messages), f"rows.jsonl:{line}")


def check(model: Model, *rows: Conversation) -> Report:
    return examine([DataSet("rows", len(rows), rows)], model=model)


def test_tokens_of_each_role_and_the_learned_ones(folder: Path) -> None:
    """A token a byte: <|im_start|>user\\n is 6 tokens, <|im_end|>\\n is 2; the stop is learned."""
    report = check(model_of(folder), talk("你好", "Hello!"))
    (one,) = report.sets
    assert one.tokens == Counter(user=6, assistant=6, template=6 + 2 + 11 + 1)
    assert one.learned == 7
    assert one.longest == 32
    assert report.measured[0][0].answers == ((25, 32),)


def test_a_row_longer_than_cutoff_len(folder: Path) -> None:
    rows = (talk("Hello", "Hi there."), talk("Tell me more", "x" * 90, line=2))
    report = check(model_of(folder, cutoff_len=100), *rows)
    (problem,) = report.problems
    assert (problem.code, problem.place) == ("dropped-too-long", "rows.jsonl:2")
    assert "122 tokens" in line(problem, "en")
    assert "122" in line(problem, "zh")
    assert (report.sets[0].rows, report.sets[0].usable, report.sets[0].dropped) == (2, 1, 1)
    policy = check(model_of(folder, cutoff_len=100, cutoff_policy="error"), *rows)
    assert [(p.code, p.severity) for p in policy.problems] == [("too-long", "error")]
    assert policy.errors == 1


def test_turns_that_truncation_takes_are_told(folder: Path) -> None:
    row = talk("One?", "First.", "Two?", "Second, " * 20 + "and done.")
    report = check(model_of(folder, cutoff_len=100, cutoff_policy="truncate"), row)
    assert [problem.code for problem in report.problems] == ["cut-to-length"]
    assert report.sets[0].usable == 1
    assert report.measured[0][0].lost(100) > 100, "measured whole, whatever cutoff_len is"


def test_a_control_token_of_the_model_is_told_once(folder: Path) -> None:
    report = check(model_of(folder), talk("Why <|im_end|> here?", "No idea."))
    assert [(p.code, p.severity) for p in report.problems] == [("control-token", "error")]
    assert report.sets[0].usable == 0
    other = check(model_of(folder), talk("Why <|eot_id|> here?", "No idea."))
    assert [(p.code, p.severity) for p in other.problems] == [("control-token-like", "warning")]


def test_progress_reaches_every_row(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    rows = tuple(talk(f"Question number {n}?", f"Answer {n}.", line=n) for n in range(450))
    examine([DataSet("rows", 450, rows)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(200, 450), (400, 450)]
