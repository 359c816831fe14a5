"""The only place with rich: what people see goes to stderr, results and JSON lines to stdout.

On a terminal there are bars with unit, rate and time left; into a file there is one plain line per
ten seconds of a step and one at its end. NO_COLOR and --no-color are respected.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

_LINE_EVERY_S = 10.0
_BARS = "▁▂▃▄▅▆▇█"
_current: Output | None = None


def current() -> Output:
    """The output of the running command (a plain one before the options are read)."""
    return _current or Output()


class Output:
    """Where a command talks."""

    def __init__(
        self,
        *,
        verbose: int = 0,
        quiet: bool = False,
        as_json: bool = False,
        no_color: bool = False,
    ) -> None:
        global _current
        _current = self
        self.verbose, self.quiet, self.as_json = verbose, quiet, as_json
        self._no_color = no_color
        self._console: Console | None = None
        self._log: logging.Handler | None = None
        self._silent = False

    @property
    def console(self) -> Console:
        """rich's console on stderr, made on first use."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                stderr=True,
                quiet=self.quiet,
                no_color=self._no_color or None,
                highlight=False,
                soft_wrap=True,
            )
        return self._console

    def mute(self) -> None:
        """Say nothing but a failure: another process of the same training speaks."""
        self.quiet = self._silent = True
        self.as_json = False
        logging.getLogger().addHandler(logging.NullHandler())

    # --- results
    def result(self, text: str, **event: Any) -> None:
        """The command's result on stdout: one line of text, or with --json an event `done`."""
        if self._silent:
            return
        if self.as_json:
            self.event("done", **event)
        else:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    @contextmanager
    def silent_results(self) -> Iterator[None]:
        """Keep the results of the steps inside off stdout: only the whole command has a result."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def event(self, kind: str, **fields: Any) -> None:
        """A JSON line on stdout when --json is on."""
        if self.as_json:
            line = json.dumps({"event": kind, **fields}, ensure_ascii=False, default=str)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    # --- lines for people
    def say(self, text: str) -> None:
        """A line."""
        self.console.print(text, markup=False)

    def dim(self, text: str) -> None:
        """A piece of a line, in the background."""
        self.console.print(text, style="dim", markup=False, end="")

    def title(self, text: str) -> None:
        """The head of a part."""
        self.console.print(f"\n[bold cyan]{_escaped(text)}[/]")

    def done(self, text: str) -> None:
        """A line that ends a step."""
        self.console.print(f"[green]✓[/] {_escaped(text)}")

    def warn(self, text: str) -> None:
        """A line the user should not miss."""
        self.console.print(f"[yellow]![/] {_escaped(text)}")

    def fields(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """name, value, where the value comes from."""
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column(overflow="fold")
        grid.add_column(style="dim", overflow="fold")
        for name, value, reason in rows:
            grid.add_row(f"  {_escaped(name)}", _escaped(value), _escaped(reason))
        self.console.print(grid, soft_wrap=False)

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Sequence[str] = (),
        **styles: str,
    ) -> None:
        """A table; a column's style by its name. Without columns it has no head. A column named
        `run` is never folded, so that its ids can be copied. Columns in `right` hold numbers.
        Cells may hold rich markup.
        """
        from rich import box
        from rich.table import Table

        table = Table(
            title=title or None,
            box=box.SIMPLE_HEAD if columns else None,
            show_header=bool(columns),
            title_justify="left",
            title_style="bold",
        )
        for column in columns or [""] * len(rows[0]):
            style = styles.get(column)
            table.add_column(
                column,
                style=style,
                justify="right" if column and column in right else "left",
                overflow="fold",
                no_wrap=column == "run",
            )
        for row in rows:
            table.add_row(*row)
        self.console.print(table, soft_wrap=False)

    # --- progress
    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """A step whose length is unknown: a spinner with the seconds passed."""
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        if not self.console.is_terminal or self.quiet:
            began = time.monotonic()
            yield
            if (seconds := time.monotonic() - began) > 1:
                self.say(f"{text}: {seconds:.1f} s")
            return
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        ) as bar:
            bar.add_task(_escaped(text), total=None)
            yield

    @contextmanager
    def bytes(self, text: str) -> Iterator[Meter]:
        """A step measured in bytes; call the meter with (done, total)."""
        with self._bar(text, "bytes") as meter:
            yield meter

    @contextmanager
    def counting(self, text: str, unit: str) -> Iterator[Meter]:
        """A step measured in things; call the meter with (done, total)."""
        with self._bar(text, unit) as meter:
            yield meter

    @contextmanager
    def _bar(self, text: str, unit: str) -> Iterator[Meter]:
        meter = (
            BarMeter(self.console, text, unit)
            if self.console.is_terminal and not self.quiet
            else LineMeter(self, text, unit)
        )
        try:
            yield meter
        finally:
            meter.close()

    # --- failures and the log
    def keep_log(self, path: Path) -> None:
        """Write everything the libraries log, and any traceback, to `path` as well."""
        self.close()
        logging.raiseExceptions = False  # a full disk is told once, as an error of ours
        self._log = logging.FileHandler(path, encoding="utf-8")
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(self._log)
        logging.getLogger("ft2ollama").setLevel(logging.INFO)
        logging.getLogger("ft2ollama").info("command: %s", " ".join(sys.argv[1:]))

    def close(self) -> None:
        """End the log."""
        if self._log is not None:
            logging.getLogger().removeHandler(self._log)
            self._log.close()
            self._log = None

    def failure(self, error: UserError, trace: str) -> None:
        """What, why, fix; the traceback with -vv, and always in the run's log."""
        if self._log is not None:
            logging.getLogger("ft2ollama").error("%s\n%s", error, trace)
        self.quiet = False
        self.console.quiet = False
        if self.verbose >= 2:
            self.console.print(trace, markup=False)
        self.console.print(f"[bold red]error:[/] {_escaped(error.what)}")
        for line in error.why.splitlines():
            self.console.print(f"  {_escaped(line)}")
        if error.fix:
            self.console.print(f"  [green]fix:[/] {_escaped(error.fix)}")
        self.event("error", what=error.what, why=error.why, fix=error.fix, code=int(error.code))


class Meter:
    """A progress callback `meter(done, total)`; `note` adds a word on the right."""

    def __call__(self, done: int, total: int) -> None:
        """Show the progress."""
        raise AssertionError("a meter is a BarMeter or a LineMeter")

    def note(self, text: str) -> None:
        """Show `text` beside the bar."""

    def close(self) -> None:
        """End the display."""


class BarMeter(Meter):
    """A bar on a terminal."""

    def __init__(self, console: Console, text: str, unit: str) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        amount: list[ProgressColumn] = (
            [DownloadColumn(), TransferSpeedColumn()]
            if unit == "bytes"
            else [MofNCompleteColumn(), TextColumn(unit)]
        )
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=max(8, min(24, console.width - 84))),
            *amount,
            TextColumn("{task.fields[note]}", style="cyan"),
            TextColumn("eta"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(_escaped(text), total=None, note="")
        self._bar.start()

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total or None)

    def note(self, text: str) -> None:
        """Show `text` between the rate and the time left."""
        self._bar.update(self._task, note=text)

    def close(self) -> None:
        """Take the bar away; the caller says what came of it."""
        self._bar.stop()


class LineMeter(Meter):
    """Plain lines for a file or a pipe."""

    def __init__(self, output: Output, text: str, unit: str) -> None:
        self._output, self._text, self._unit = output, text, unit
        self._began = self._last = time.monotonic()
        self._note = ""

    def __call__(self, done: int, total: int) -> None:
        """Print a line when the last is ten seconds old."""
        now = time.monotonic()
        if now - self._last < _LINE_EVERY_S:
            return
        self._last = now
        rate = done / max(now - self._began, 1e-9)
        left = (total - done) / rate if rate else 0.0
        if self._unit == "bytes":
            amount = f"{done / 1e6:.0f}/{total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s"
        else:
            amount = f"{done}/{total} {self._unit}, {rate:.2g}/s"
        note = f", {self._note}" if self._note else ""
        self._output.say(f"{self._text}: {amount}{note}, {left:.0f} s left")

    def note(self, text: str) -> None:
        """Keep `text` for the next line."""
        self._note = text


def sparkline(values: Sequence[float], width: int = 48) -> str:
    """A curve in one line of text; the highest value is the full block, zero the lowest."""
    if not values:
        return ""
    step = max(1, -(-len(values) // width))
    points = [max(values[i : i + step]) for i in range(0, len(values), step)]
    top = max(points) or 1.0
    return "".join(_BARS[min(7, int(8 * max(point, 0.0) / top))] for point in points)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
