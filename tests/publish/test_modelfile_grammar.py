"""Our reader of Modelfiles against Ollama's own: what `ollama create` made of the same text."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ft2ollama.errors import UsageError
from ft2ollama.modelfile_grammar import (
    Command,
    dropped_characters,
    is_kept,
    parse_modelfile,
    spell_value,
)
from ft2ollama.ollama_api import Ollama

VALUES = [
    "You are Tilda.",
    "  leading and trailing  ",
    "two\nlines",
    'a line that ends with "\nand another',
    'he said "hi"',
    '"quoted"',
    'say """x""" ok',
    'three quotes in the middle """ of a line\nand more',
    '" begins with a quotation mark',
    'ends with one "',
    'ends with three """',
    "# looks like a comment",
    "FROM looks like a command",
    "line\nPARAMETER temperature 2",
    "tab\tinside",
    "\n\nnewlines around\n",
    "carriage\r\nreturn",
    "你好，世界。“引号”",
    "<｜begin▁of▁sentence｜>",
    "full\u3000width nbsp\u00a0X zwj\u200dY bell\x07",
    "emoji 👩 and é e\u0301",
    "\\n is no escape",
    "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}",
]
LETTERS = st.sampled_from([*'ab"# \n\t', '"""', "\r", "你", "\u3000"])


@pytest.mark.ollama
@pytest.mark.oracle
def test_ollama_reads_what_we_write(
    ollama: Ollama, smol: str, ollama_binary: Path, tmp_path: Path
) -> None:
    for value in VALUES:
        path = tmp_path / "Modelfile"
        path.write_bytes(f"FROM {smol}\nSYSTEM {spell_value('SYSTEM', value)}\n".encode())
        done = subprocess.run(
            [str(ollama_binary), "create", "grammar", "-f", str(path)],
            env={**os.environ, "OLLAMA_HOST": ollama.host}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (value, done.stderr)
        expected = "".join(char for char in value if is_kept(char))
        assert ollama.show("grammar").system == expected
        assert (expected == value) == (not dropped_characters(value))
    ollama.delete("grammar")


@pytest.mark.ollama
@pytest.mark.oracle
@pytest.mark.parametrize(
    "text",
    [
        'FROM {model}\nSYSTEM "He said "hi"\nfoo"\n',
        'FROM {model}\nSYSTEM "Hi" he said\n',
        "FROM {model}\nSYSTEM 'single' quotes\n",
        'FROM {model}\nSYSTEM """a """b""" c"""\n',
        "from {model}\n  # a comment\n\tsystem   x  \n",
        "FROM {model}\nSYSTEM a # no comment\n",
        "FROM {model}\nSYSTEMS x\n",
        "FROM {model}\nMESSAGE user hello\nMESSAGE assistant hi\n",
        "FROM {model}\nMESSAGE tool x\n",
        "SYSTEM x\n",
        'FROM {model}\nSYSTEM """never closed\n',
        'FROM "{model}"\nSYSTEM "a"\nSYSTEM b\n',
        "FROM {model}\r\nSYSTEM x\r\n",
    ],
)
def test_we_read_what_ollama_reads(
    ollama: Ollama, smol: str, ollama_binary: Path, tmp_path: Path, text: str
) -> None:
    text = text.format(model=smol)
    path = tmp_path / "Modelfile"
    path.write_bytes(text.encode())
    done = subprocess.run(
        [str(ollama_binary), "create", "grammar", "-f", str(path)],
        env={**os.environ, "OLLAMA_HOST": ollama.host}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        with pytest.raises(UsageError):
            parse_modelfile(text)
        return
    commands = parse_modelfile(text)
    systems = [command.value for command in commands if command.name == "system"]
    shown = ollama.show("grammar")
    assert shown.system == (systems[-1] if systems else "")
    said = [(c.name.split()[1], c.value) for c in commands if c.name.startswith("message")]
    assert [(m["role"], m["content"]) for m in shown.messages] == said
    ollama.delete("grammar")


@settings(max_examples=600, deadline=None)
@given(st.lists(LETTERS, max_size=12).map("".join))
def test_what_is_written_is_read_back(value: str) -> None:
    """Or refused; and a spelling never swallows the next command."""
    try:
        spelled = spell_value("SYSTEM", value)
    except UsageError:
        assert '"' in value
        assert "\n" in value or "\r" in value
        return
    kept = "".join(char for char in value if is_kept(char))
    text = f"FROM x\nSYSTEM {spelled}\nPARAMETER stop y\n"
    assert parse_modelfile(text) == [
        Command("from", "x"), Command("system", kept), Command("parameter stop", "y"),
    ]  # fmt: skip


def test_what_cannot_be_written_is_refused_with_the_line() -> None:
    with pytest.raises(UsageError, match="SYSTEM: a Modelfile cannot carry") as caught:
        spell_value("SYSTEM", 'first """\nsecond "')
    assert 'first """' in caught.value.fix


def test_errors_name_the_line() -> None:
    with pytest.raises(UsageError, match="Modelfile:3"):
        parse_modelfile("FROM x\n\nTEMPERATURE 2\n")
    with pytest.raises(UsageError, match="no FROM"):
        parse_modelfile("SYSTEM x\n")
