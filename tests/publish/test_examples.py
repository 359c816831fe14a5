"""MESSAGE examples: read with every bad line told, added to a version and nothing else changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures_ollama import CHATML
from go_prompts import byte_model

from ft2ollama.errors import DataError
from ft2ollama.examples import add_examples, read_examples
from ft2ollama.ollama_api import Ollama

TALK = (("user", "你是谁？\u3000"), ("assistant", "小杉。\n"), ("user", "x"), ("assistant", "y"))


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


def messages(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": "x"} for role in roles]


def test_a_conversation_is_read(tmp_path: Path) -> None:
    rows = [{"role": role, "content": text} for role, text in TALK]
    assert read_examples(write(tmp_path / "m.jsonl", *rows)) == TALK
    assert read_examples(None) == ()


def test_every_bad_line_is_told(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.jsonl",
        {"role": "user", "content": "ok"},
        {"role": "system", "content": "no"},
        {"role": "assistant"},
        {"role": "assistant", "content": ""},
        ["user", "x"],
    )
    path.write_text(path.read_text("utf-8") + "\n{broken", "utf-8")
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert [line.split(": ")[0] for line in caught.value.why.splitlines()] == [
        f"{path}:{number}" for number in (2, 3, 4, 5, 6)
    ]


@pytest.mark.parametrize("roles", [(), ("user",), ("assistant", "user"), ("user", "user")])
def test_turns(tmp_path: Path, roles: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="not turns of user and assistant"):
        read_examples(write(tmp_path / "m.jsonl", *messages(*roles)))
    with pytest.raises(DataError, match="no such file"):
        read_examples(tmp_path / "none.jsonl")


@pytest.fixture
def tag(ollama: Ollama, tmp_path: Path) -> Iterator[str]:
    ollama.create(
        "shown:v1",
        gguf=byte_model(tmp_path / "m.gguf"),
        template=CHATML,
        system="S",
        parameters={"stop": ["<|im_end|>", "x"], "num_ctx": 512, "num_thread": 1},
        license=["one", "two"],
    )
    yield "shown:v1"
    ollama.delete("shown:v1")


@pytest.mark.ollama
def test_examples_are_added_and_nothing_else_changes(ollama: Ollama, tag: str) -> None:
    before = ollama.show(tag)
    asked = [{"role": "user", "content": "?"}]
    alone = ollama.prompt_tokens(tag, asked)
    add_examples(ollama, tag, TALK)
    after = ollama.show(tag)
    assert [(one["role"], one["content"]) for one in after.messages] == list(TALK)
    assert (after.template, after.system, after.parameters) == (
        before.template, before.system, before.parameters,
    )  # fmt: skip
    assert (after.license, after.digest) == (before.license, before.digest)
    frame = sum(len(f"<|im_start|>{role}\n{text}<|im_end|>\n".encode()) for role, text in TALK)
    assert ollama.prompt_tokens(tag, asked) == alone + frame  # a token a byte
