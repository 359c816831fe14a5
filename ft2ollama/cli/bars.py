"""Steps that a library reports by callbacks, as one bar after the other."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ft2ollama.cli.output import Output


class Bars:
    """The bar of the step that is under way; a new title ends it and begins another."""

    def __init__(self, output: Output) -> None:
        self._output, self._stack = output, ExitStack()
        self._title = ""
        self._meter: Any = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def move(self, title: str, done: int, of: int, unit: str = "rows") -> None:
        """Show where a step is.  of: 0 where nobody knows.  unit: `bytes`, or a word for people."""
        if title != self._title:
            self.end()
            self._title = title
            self._meter = self._stack.enter_context(self._bar(title, of, unit))
        if self._meter is not None:
            self._meter(done, of)

    def end(self) -> None:
        """End the bar, so that something else can be printed."""
        self._stack.close()
        self._title = ""

    def _bar(self, title: str, of: int, unit: str) -> Any:
        if not of:
            return self._output.waiting(title)
        return self._output.bytes(title) if unit == "bytes" else self._output.counting(title, unit)
