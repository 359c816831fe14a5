"""A row as a reader hands it on: its place, and the row or what hinders reading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ft2ollama.data.problems import Problem


@dataclass(frozen=True)
class Broken:
    """In place of a row that could not be read: the problem and the text of the row."""

    problem: Problem
    text: str


class Placed(NamedTuple):
    """A row, or `Broken`, and where it stands."""

    place: str
    row: Any
