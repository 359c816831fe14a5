"""What is wrong with a row: a code, a place, the values; the words come from `catalogue.py`.

A problem is a value, not a text, so that it can be counted, written to a file, told in English or
Chinese, and tested. Rows with an `error` cannot be trained on; a `warning` wants to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ft2ollama.language import Language

# code -> language -> (what is wrong, what to do); both may name the problem's values in {braces}.
Texts = Mapping[str, Mapping[Language, tuple[str, str]]]


@dataclass(frozen=True)
class Problem:
    """code: a key of the catalogue.  place: `file:line` or `file: row n`.  key: `turns[2].value`.

    values: what the catalogue's sentences name.
    """

    code: str
    place: str
    key: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["error", "warning"] = "error"


class BadRow(Exception):
    """Why one row cannot be used; the place is added where it is known."""

    def __init__(self, code: str, key: str = "", **values: Any) -> None:
        super().__init__(code)
        self.code = code
        self.key = key
        self.values = values

    def at(self, place: str) -> Problem:
        """The problem of the row at `place`."""
        return Problem(self.code, place, self.key, self.values)


@dataclass(frozen=True)
class Dropped:
    """A row that was left out (`bad_rows: drop`). row: as it was read; anything JSON can hold."""

    problem: Problem
    row: Any


class Warn(Protocol):
    """Takes what was understood and yet looks wrong."""

    def __call__(self, code: str, key: str = "", **values: Any) -> None:
        """Note a warning; `code` and `values` as for BadRow."""


def unsaid(code: str, key: str = "", **values: Any) -> None:
    """A `Warn` that nobody listens to."""


class BadFile(Exception):
    """Why a file or an entry of dataset_info.json cannot be read on."""

    def __init__(self, code: str, place: str, key: str = "", **values: Any) -> None:
        super().__init__(code)
        self.problem = Problem(code, place, key, values)

    @classmethod
    def of(cls, problem: Problem) -> BadFile:
        """The same for a problem that is at hand."""
        return cls(problem.code, problem.place, problem.key, **problem.values)
