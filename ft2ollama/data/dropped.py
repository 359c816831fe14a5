"""Rows that were left out -> a file that lists each of them with its reason.

In: what reading and rendering dropped (`bad_rows: drop`).  Out: `dropped.jsonl`, a row a line:
place, code, key, problem, fix, row. Who mends the rows can feed the file in again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ft2ollama.data.catalogue import sentence
from ft2ollama.data.problems import Dropped
from ft2ollama.files import write_text
from ft2ollama.language import Language

FILE = "dropped.jsonl"


def write_dropped(path: Path, dropped: Sequence[Dropped], language: Language) -> None:
    """Write the list, whole or not at all; an older one goes when nothing was dropped."""
    if not dropped:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(_json(_entry(one, language)) + "\n" for one in dropped))


def _entry(one: Dropped, language: Language) -> dict[str, Any]:
    what, fix = sentence(one.problem, language)
    problem = one.problem
    return {
        "place": problem.place,
        "code": problem.code,
        "key": problem.key,
        "problem": what,
        "fix": fix,
        "row": one.row,
    }


def _json(entry: dict[str, Any]) -> str:
    """Readable JSON; escaped where a text holds half a character, which UTF-8 cannot write."""
    text = json.dumps(entry, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(entry, default=str)
    return text
