"""`ft2ollama --help` starts in a fraction of a second and imports nothing heavy."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "gguf",
    "numpy",
    "rich",
    "pydantic",
    "ollama",
)

WATCH = """
import atexit, sys
heavy = {heavy!r}
atexit.register(lambda: print("imported:", [name for name in heavy if name in sys.modules]))
from ft2ollama.cli import main
main({args!r})
"""


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = WATCH.format(heavy=HEAVY, args=args)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imported: []" in done.stdout


def test_help_costs_less_than_a_third_of_a_second_of_cpu() -> None:
    def children() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    best = 9.9
    for _ in range(3):
        before = children()
        subprocess.run(
            [sys.executable, "-m", "ft2ollama", "--help"], stdout=subprocess.DEVNULL, check=True
        )
        best = min(best, children() - before)
    assert best < 0.3


def test_export_of_an_adapter_imports_no_torch(trained: Path) -> None:
    code = WATCH.format(
        heavy=("torch", "transformers", "peft"), args=["export", str(trained), "--as", "adapter"]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "adapter-F16.gguf" in done.stdout
    assert "imported: []" in done.stdout


def test_every_command_is_in_the_help_and_on_the_page(command: Callable[..., object]) -> None:
    from ft2ollama.cli import COMMANDS

    root = Path(__file__).parent.parent.parent
    # a process of its own: click keeps the names of the help option of a command that has run
    words = [sys.executable, "-m", "ft2ollama.cli.docs"]
    page = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert (root / "docs/cli.md").read_text("utf-8") == page, f"{' '.join(words[1:])} > docs/cli.md"
    for readme in ("README.md", "README.zh-CN.md"):
        text = (root / readme).read_text("utf-8")
        for one in COMMANDS:
            assert f"`{one.name}" in text, f"{readme} does not name {one.name}"
        from ft2ollama.errors import ExitCode

        for code in ExitCode:
            assert f"| {int(code)} |" in text, f"{readme} does not explain exit code {int(code)}"
