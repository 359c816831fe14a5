"""A whole source that holds nothing to import, and where the same data can be had."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """code: of `texts.TEXTS`; values for its sentences."""

    def __init__(self, code: str, place: str, **values: Any) -> None:
        super().__init__(code)
        self.code, self.place, self.values = code, place, values
