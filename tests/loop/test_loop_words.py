"""The words of the loop's commands: each in both languages with the same values, and used."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ft2ollama.cli import cli
from ft2ollama.cli.collect_serve import counter
from ft2ollama.cli.loop_words import _WORDS


def _values(text: str) -> set[str]:
    return {str(name) for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("name", _WORDS)
def test_both_languages_say_the_same_values(name: str) -> None:
    assert _values(_WORDS[name]["en"]) == _values(_WORDS[name]["zh"])


def test_every_word_is_used() -> None:
    folder = Path(__file__).parent.parent.parent / "ft2ollama/cli"
    code = "\n".join(path.read_text("utf-8") for path in folder.glob("*.py")
                     if path.name != "loop_words.py")  # fmt: skip
    made = {name for name in _WORDS if name.startswith(("count ", "keeps "))}
    assert [name for name in _WORDS if f'"{name}"' not in code and name not in made] == []


def test_the_state_of_the_proxy_in_a_line() -> None:
    names = ("stored", "spooled", "background", "incomplete", "declined", "loads", "lost", "open",
             "feedback", "passed", "asked_again")  # fmt: skip
    health = {**dict.fromkeys(names, 0), "stored": 3, "spooled": 1, "lost": 2}
    assert counter(health) == "4 kept, 1 of them in the spool, 2 LOST"
    assert counter(health, "zh") == "已存 4，其中 1 在暂存文件，丢失 2！"
    assert counter(dict.fromkeys(names, 1), "zh").count("，") == len(names) - 1


@pytest.mark.parametrize(
    ("language", "wanted"), [("en", "nothing yet: ft2ollama"), ("zh", "还没有数据：ft2ollama")]
)
def test_the_locale_decides(
    language: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path))
    monkeypatch.setenv("FT2OLLAMA_LANG", {"zh": "zh_CN.UTF-8"}.get(language, language))
    runner: Any = CliRunner()
    assert wanted in runner.invoke(cli, ["collect", "status"]).stderr
    monkeypatch.setenv("FT2OLLAMA_LANG", "en")
    assert wanted in runner.invoke(cli, ["collect", "status", "--lang", language]).stderr
