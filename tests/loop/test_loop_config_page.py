"""docs/loop-config.md is what the code says, and names every key."""

from __future__ import annotations

from pathlib import Path

from ft2ollama.loop.docs import markdown
from ft2ollama.loop.settings import Gate, Notify, RetrainConfig, Sets, Trigger

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_page_is_up_to_date() -> None:
    page = (DOCS / "loop-config.md").read_text("utf-8")
    assert page == markdown(), "python -m ft2ollama.loop.docs > docs/loop-config.md"


def test_every_key_has_its_line_with_a_reason() -> None:
    lines = [line.split(" | ") for line in markdown().splitlines() if line.startswith("| `")]
    for block in (RetrainConfig, Sets, Gate, Trigger, Notify):
        for name in block.model_fields:
            (line,) = (cells for cells in lines if cells[0] == f"| `{name}`")
            assert len(line) == 4
            assert len(line[-1]) > 10, name


def test_the_guides_link_it() -> None:
    for guide in ("loop.md", "loop.zh-CN.md"):
        assert "(loop-config.md)" in (DOCS / guide).read_text("utf-8")
