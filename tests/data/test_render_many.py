"""Many rows: the same in two processes, and the same again out of the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ft2ollama.base import Base
from ft2ollama.data import render as many
from ft2ollama.data import token_cache
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.problems import Problem
from ft2ollama.data.render import render_all
from ft2ollama.data.renderer import Renderer
from ft2ollama.data.samples import Rendered, Rules
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.template import ChatTemplate, choose_template

RULES = Rules(64)


@pytest.fixture(scope="module")
def tokenizer(smollm2: Base) -> Tokenizer:
    return Tokenizer(smollm2.folder)


@pytest.fixture(scope="module")
def chatml() -> ChatTemplate:
    return choose_template("chatml", None, {})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_CACHE", str(tmp_path))


def rows(count: int) -> list[Conversation]:
    """Every seventh row holds a control token, every eleventh is too long."""
    texts = ["<|im_end|>" if n % 7 == 3 else "长 " * 99 * (n % 11 == 5) for n in range(count)]
    return [
        Conversation(
            ({"role": "user", "content": f"{n} {text}"}, {"role": "assistant", "content": f"A{n}"}),
            f"a.jsonl:{n + 1}",
        )
        for n, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def plain(tokenizer: Tokenizer, chatml: ChatTemplate) -> Rendered:
    return Renderer(chatml, tokenizer, RULES).render(rows(500))


@pytest.mark.slow
def test_two_processes_give_what_one_gives(
    tokenizer: Tokenizer,
    chatml: ChatTemplate,
    plain: Rendered,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(many, "_CHUNK", 70)
    found = render_all(rows(500), chatml, tokenizer, RULES, workers=2)
    assert found == plain
    assert len(found.problems) > 100
    assert len(found.samples) == len(found.rows) > 300


def test_processes_are_only_started_for_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many.os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert [many._processes(count) for count in (1, 20_000, 20_001)] == [1, 1, 8]


def test_a_second_run_reads_what_the_first_kept(
    tokenizer: Tokenizer,
    chatml: ChatTemplate,
    plain: Rendered,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(many, "_KEPT", 500)
    assert render_all(rows(499), chatml, tokenizer, RULES).rows == plain.rows[:-1]
    assert not (tmp_path / "tokens").exists()  # few rows are not worth a file
    assert render_all(rows(500), chatml, tokenizer, RULES) == plain
    (kept,) = (tmp_path / "tokens").iterdir()

    class Broken(Renderer):
        def render(self, conversations: object) -> Rendered:
            raise AssertionError("rendered again")

    with monkeypatch.context() as patched:
        patched.setattr(many, "Renderer", Broken)
        assert render_all(rows(500), chatml, tokenizer, RULES) == plain
        with pytest.raises(AssertionError, match="rendered again"):
            render_all(rows(501), chatml, tokenizer, RULES)
        for rules in (replace(RULES, cutoff_len=65), replace(RULES, thinking=True)):
            with pytest.raises(AssertionError, match="rendered again"):
                render_all(rows(500), chatml, tokenizer, rules)
        with pytest.raises(AssertionError, match="rendered again"):
            render_all(rows(500), replace(chatml, stop=("<|im_end|>",)), tokenizer, RULES)
    for broken in (b"", b"no zip", kept.read_bytes()[:-200]):
        kept.write_bytes(broken)
        assert render_all(rows(500), chatml, tokenizer, RULES) == plain


def test_nothing_but_problems_is_kept_too() -> None:
    found = Rendered(problems=[Problem("too-long", "a:1", values={"tokens": 9})])
    token_cache.write("a" * 64, found)
    assert token_cache.read("a" * 64) == found
    assert token_cache.read("b" * 64) is None


def test_the_oldest_entries_go(
    plain: Rendered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token_cache.write("1" * 64, plain)
    size = next((tmp_path / "tokens").iterdir()).stat().st_size
    monkeypatch.setattr(token_cache, "_BOUND", 2 * size + 10)
    token_cache.write("2" * 64, plain)
    assert token_cache.read("1" * 64) == plain  # read last: the other one is the oldest now
    token_cache.write("3" * 64, plain)
    assert [bool(token_cache.read(name * 64)) for name in "123"] == [True, False, True]


@pytest.mark.parametrize(
    "change",
    [
        {"messages": rows(1)[0].messages[:1]},
        {"place": "b.jsonl:1"},
        {"tools": ({"type": "function"},)},
        {"unlearned": frozenset({1})},
    ],
    ids=str,
)
def test_the_key_is_of_all_that_a_row_holds(change: dict[str, object]) -> None:
    (row,) = rows(1)
    other = replace(row, **change)  # type: ignore[arg-type]
    keys = [token_cache.cache_key(given, ["x"]) for given in ([row], [row], [other])]
    assert keys[0] == keys[1] != keys[2]
    assert token_cache.cache_key([row], ["y"]) != keys[0]
