"""Every problem the doctor found, a JSON line each: what the terminal has no room for.

In: problems.  Out: a file of {severity, code, place, key, problem, fix, values}, in one language.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ft2ollama.data.catalogue import sentence
from ft2ollama.data.problems import Problem
from ft2ollama.files import write_jsonl
from ft2ollama.language import Language


def as_record(problem: Problem, language: Language) -> dict[str, Any]:
    """A problem with its words, for JSON."""
    what, fix = sentence(problem, language)
    return {
        "severity": problem.severity,
        "code": problem.code,
        "place": problem.place,
        "key": problem.key,
        "problem": what,
        "fix": fix,
        "values": {key: value if _plain(value) else str(value)
                   for key, value in problem.values.items()},
    }  # fmt: skip


def write_report(path: Path, problems: Iterable[Problem], language: Language) -> None:
    """Write all of them, errors first."""
    ordered = sorted(problems, key=lambda problem: problem.severity != "error")
    write_jsonl(path, [as_record(problem, language) for problem in ordered])


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
