"""docs/config.md is what the code says, and says everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ft2ollama.config import Config
from ft2ollama.config.compat import FOREIGN
from ft2ollama.config.docs import markdown
from ft2ollama.config.schema import SECTIONS, section_of, unit_of

ROOT = Path(__file__).resolve().parents[2]


def test_page_is_generated() -> None:
    page = (ROOT / "docs" / "config.md").read_text("utf-8")
    assert page == markdown(), "python -m ft2ollama.config.docs > docs/config.md"


def test_the_command_prints_it() -> None:
    command = [sys.executable, "-m", "ft2ollama.config.docs"]
    done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    assert done.stdout.decode("utf-8") == markdown()


def test_every_key_has_section_unit_and_reason() -> None:
    page = markdown()
    for name, field in Config.model_fields.items():
        assert section_of(name) in SECTIONS, name
        assert unit_of(name), name
        reason = (field.description or "").strip()
        assert len(reason) > 40, name
        assert reason.endswith("."), name
        assert f"\n| `{name}` | " in page
    assert {section_of(name) for name in Config.model_fields} == set(SECTIONS)


def test_every_foreign_key_is_told() -> None:
    page = markdown()
    assert [name for name in FOREIGN if f"`{name}`" not in page] == []


def test_tables_are_well_formed() -> None:
    width = 0
    for line in markdown().splitlines():
        cells = line.replace("\\|", "").count("|")
        if line.startswith("|"):
            assert width in (0, cells), line
        width = cells if line.startswith("|") else 0
