"""The examples of docs/data.md and of its Chinese version are what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ft2ollama.config.compat import FOREIGN
from ft2ollama.config.schema import Config
from ft2ollama.data.dataset_info import _KEYS
from ft2ollama.data.load import load_dataset

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("data.md", "data.zh-CN.md")


def examples(page: str) -> dict[str, str]:
    """File name -> text: a line with the name in backquotes and a colon, then the block."""
    text = (DOCS / page).read_text("utf-8")
    return dict(re.findall(r"^`([\w.]+)`[:：]\n\n```\w+\n(.*?)^```$", text, re.M | re.S))


@pytest.mark.parametrize("page", PAGES)
def test_every_example_is_read_without_a_problem(page: str, tmp_path: Path) -> None:
    found = examples(page)
    assert len(found) == 8
    for name, text in found.items():
        (tmp_path / name).write_text(text, "utf-8")
    for name in found:
        kind, dot, _ = name.partition(".")
        if kind in ("dataset_info", "shop", "support"):
            continue
        loaded = load_dataset([name], tmp_path)
        assert dot
        assert not loaded.warnings
        assert f"({kind})" in loaded.notes[0]
    entries = load_dataset(["shop", "support"], tmp_path)
    assert not entries.warnings
    assert len(entries.conversations) == 1 + 3


def test_both_pages_have_the_same_examples() -> None:
    assert examples(PAGES[0]) == examples(PAGES[1])


@pytest.mark.parametrize("page", PAGES)
def test_keys_are_those_of_the_code(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert {key for key in _KEYS if f"`{key}`" not in text} == set()
    for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S):
        keys = set(yaml.safe_load(block)) | {"custom_dataset_info"}
        assert keys <= set(Config.model_fields) | set(FOREIGN)
