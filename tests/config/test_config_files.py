"""Files that are no config: broken YAML, other encodings, nothing there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ft2ollama.config import load_config
from ft2ollama.errors import ConfigError

Fail = Callable[..., ConfigError]
NEEDED = "model_name_or_path: base\ndataset: train.json\n"
NO_COLON = "no ': ' (colon and blank) between key and value"
FULL_WIDTH = "the colon is the full-width '：'; write ': ' (colon and blank)"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("lora_rank:8\nseed: 1\n", "1:1", NO_COLON),
        ("seed: 1\nlora_rank 8\nhub: x\n", "2:1", NO_COLON),
        ("lora_rank：8\nseed: 1\n", "1:1", FULL_WIDTH),
        ("seed: 1\nlora_rank：8\n", "2:1", FULL_WIDTH),
        ("seed: 1\n\tlora_rank: 8\n", "2:1", "a tab cannot indent here; use spaces"),
        ("seed: 1\n  hub: x\n", "2:1", "wrong indentation; keys begin at the left margin"),
        (
            "default_system: Answer: yes\n",
            "1:23",
            "a second ': ' in this line; put text with ': ' in quotes",
        ),
        ("lora_target: [a, b\nseed: 1\n", "2:5", "expected ',' or ']', but got ':'"),
        (
            "seed: 1\n---\nseed: 2\n",
            "2:1",
            "a second document ('---') begins here; a config is one document",
        ),
        ("- seed\n- 1\n", "1:1", "must be lines of 'key: value', not a list"),
        ("train\n", "1:1", "must be lines of 'key: value', not the text 'train'"),
        ("[a, b]: c\n", "1:1", "a key must be a plain word"),
        ("seed: *x\n", "1:7", "found undefined alias 'x'"),
        ("seed: 1\nhub: a\x07b\n", "2:7", "character U+0007 cannot be in a text file"),
    ],
)
def test_not_yaml(fail: Fail, text: str, place: str, problem: str) -> None:
    error = fail(text)
    assert error.what == "train.yaml is not a config"
    assert error.why == f"train.yaml:{place}: {problem}"
    line = place.split(":")[0]
    assert error.fix == f"correct line {line}; a line is 'key: value', such as lora_rank: 16"


def test_nested_without_end(fail: Fail) -> None:
    error = fail("a: " + "[" * 100_000)
    assert error.why == "train.yaml: lists or mappings are nested too deeply"


def test_aliases_that_multiply(fail: Fail) -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{new}: &{new} [{','.join(['*' + old] * 10)}]")
    error = fail(NEEDED + "\n".join(lines))
    assert "its aliases (*name) make too many values" in error.why


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "---\n", "\ufeff"])
def test_empty_file(fail: Fail, text: str) -> None:
    error = fail(text)
    assert str(error) == (
        "train.yaml is empty\n"
        "  a config has two keys at least\n"
        "  fix: printf 'model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct\\ndataset: train.json\\n' "
        "> train.yaml"
    )


def test_gbk_file(fail: Fail) -> None:
    error = fail("seed: 1\ndefault_system: 你好\n".encode("gb18030"))
    assert str(error) == (
        "train.yaml is not UTF-8\n"
        "  train.yaml:2: byte 0xC4 cannot be read; perhaps it is GBK\n"
        "  fix: iconv -f GB18030 -t UTF-8 train.yaml > utf8.yaml"
    )


def test_utf16_file(fail: Fail) -> None:
    error = fail(NEEDED.encode("utf-16"))
    assert str(error) == (
        "train.yaml is not UTF-8\n"
        "  it is UTF-16, as PowerShell's > writes it\n"
        "  fix: iconv -f UTF-16 -t UTF-8 train.yaml > utf8.yaml"
    )


def test_a_model_in_place_of_a_config(fail: Fail) -> None:
    error = fail(b"GGUF" + b"\0" * 2_000_000, name="model.gguf")
    assert error.why == "it has 2.0 MB; a config is a page of text"


def test_missing_file_and_the_near_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.yaml").write_text(NEEDED)
    with pytest.raises(ConfigError) as caught:
        load_config(Path("trian.yaml"))
    assert str(caught.value) == (
        "cannot read trian.yaml\n  there is no such file\n  fix: did you mean train.yaml?"
    )
    with pytest.raises(ConfigError, match="cannot read nowhere") as caught:
        load_config(Path("nowhere/train.yaml"))
    assert caught.value.why == "there is no folder nowhere"
    with pytest.raises(ConfigError) as caught:
        load_config(Path("lora_rank=8"))
    assert caught.value.why == "a config file comes before key=value"


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(NEEDED)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert (caught.value.why, caught.value.fix) == (
        "it is a folder",
        f"give the file: {tmp_path / 'b.yaml'}",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(NEEDED)
    path.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_config(path)


_PIECES = st.sampled_from(
    ["lora_rank", "seed", "bf16", "zz", "deepspeed", ": ", ":", "\n", "- ", "[", "]", "{", "}",
    "&a ",
     "*a", "!!int ", "!x ", "'", '"', "|", ">", "#", ",", "1e5", "null", "true", "\t", "  ", "---",
     "? ", "<<", "：", "\0", "\ufeff", "ollama_parameters", "dataset", "%", "\\ud800"]
)  # fmt: skip


@settings(deadline=None)  # a busy machine is no fault of the text
@given(st.lists(_PIECES, max_size=14).map("".join), st.booleans())
def test_any_text_is_loaded_or_explained(
    tmp_path_factory: pytest.TempPathFactory, text: str, needed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(NEEDED * needed + text, "utf-8")
    for words in ([], [f"seed={text}", f"default_system={text}", text]):
        error = None
        try:
            load_config(path, words)
        except ConfigError as caught:
            error = caught
        assert error is None or (error.what and error.why and error.fix)
