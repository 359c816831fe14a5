"""The `define` blocks that a derived Go template may call, in defines.gotmpl beside this file.

Go's own functions cannot trim, and Ollama's `json` writes no blanks and escapes < > &, so these
blocks trim as Python's str.strip does and write JSON as Jinja's `tojson` does (`tool4`: with
indent=4; the value of `items` is then taken to be an object of plain values). `chars` copies byte
by byte only where it must; U+2028 and U+2029 may stay escaped. They use recursion,
`slice` by bytes (`len (slice . 1)` is the length less one), `printf "%T"`, and `range` over a
number, which is Go 1.24: Ollama 0.9.3 has it. `template` always has an argument, because newer
Ollamas refuse it without one (ollama template/template.go, Identifiers).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_BEGIN = '{{- define "'


def blocks(names: set[str]) -> str:
    """The text of these blocks and of all that they call, in the order of the file."""
    known = _known()
    wanted, left = set[str](), set(names)
    while left:
        name = left.pop()
        wanted.add(name)
        left |= set(re.findall(r'template "([^"]+)"', known[name])) - wanted
    return "".join(text for name, text in known.items() if name in wanted).rstrip("\n")


@cache
def _known() -> dict[str, str]:
    text = Path(__file__).with_name("defines.gotmpl").read_text("utf-8")
    parts = text.split(_BEGIN)[1:]
    return {part[: part.index('"')]: _BEGIN + part for part in parts}
