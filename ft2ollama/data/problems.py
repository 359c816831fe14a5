"""What is wrong with a row: a code, a place, the values; the words come from `catalogue.py`.

A problem is a value, not a text, so that it can be counted, written to a file, told in English or
Chinese, and tested. Rows with an `error` cannot be trained on; a `warning` wants to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


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
