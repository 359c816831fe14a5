"""Lengths on a terminal: percentiles and a histogram of each set, and a table of cutoff_len."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ft2ollama.cli.data_words import words
from ft2ollama.cli.output import Output
from ft2ollama.data.stats import cost, cutoffs, histogram, percentiles
from ft2ollama.language import Language

if TYPE_CHECKING:
    from ft2ollama.cli.data_inputs import Inputs
    from ft2ollama.data.measure import Measured

_WIDTH = 40  # letters of the longest bar


@dataclass(frozen=True)
class SetLengths:
    """lengths: of each usable row, in tokens, or in characters without a model."""

    name: str
    lengths: tuple[int, ...]
    rows: tuple[Measured, ...]


def measure(output: Output, inputs: Inputs) -> list[SetLengths]:
    """The length of every row of every set."""
    total, done, found = sum(len(one.conversations) for one in inputs.sets), 0, []
    with output.counting("measuring", "rows") as meter:
        for one in inputs.sets:
            measured: list[Measured] = []
            if inputs.model is None:
                lengths = [
                    sum(len(message["content"] or "") for message in row.messages)
                    for row in one.conversations
                ]
            else:
                for _, counted, _ in inputs.model.measure(one.conversations):
                    done += 1
                    meter(done, total)
                    measured += [counted] if counted else []
                lengths = [row.tokens for row in measured]
            found.append(SetLengths(one.name, tuple(lengths), tuple(measured)))
    return [one for one in found if one.lengths]


def lengths_of(sets: Sequence[SetLengths]) -> dict[str, tuple[int, ...]]:
    """Name -> lengths."""
    return {one.name: one.lengths for one in sets}


def show_stats(
    output: Output, inputs: Inputs, sets: Sequence[SetLengths], language: Language
) -> None:
    """Everything, set by set, then what cutoff_len costs over all of them."""
    word = words(language)
    unit = word["tokens" if inputs.model else "characters"]
    if inputs.about:
        output.say(f"  {inputs.about}")
    _show_percentiles(output, sets, word, unit)
    for one in sets:
        _show_histogram(output, one, word["length"].format(unit=unit))
    rows = [row for one in sets for row in one.rows]
    if rows:
        _show_costs(output, inputs, rows, word)
    else:
        output.say(f"\n  {word['no_model']}")


def _show_percentiles(
    output: Output, sets: Sequence[SetLengths], word: Mapping[str, str], unit: str
) -> None:
    heads: list[str] = []
    rows = []
    for one in sets:
        found = percentiles(one.lengths)
        names = {0: word["shortest"], 50: word["median"], 100: word["longest_row"]}
        heads = [word["set"], word["rows"], *(names.get(p, f"{p} %") for p in found), unit]
        values = [f"{value:,}" for value in found.values()]
        rows.append([one.name, f"{len(one.lengths):,}", *values, f"{sum(one.lengths):,}"])
        output.event("lengths", set=one.name, rows=len(one.lengths), percentiles=found)
    output.table("", heads, rows, right=heads[1:])


def _show_histogram(output: Output, one: SetLengths, unit: str) -> None:
    bars = histogram(one.lengths)
    most = max(bar.rows for bar in bars)
    width = max(len(f"{bar.low:,}-{bar.high:,}") for bar in bars)
    output.say(f"  {one.name}: {unit}")
    for bar in bars:
        size = _WIDTH * bar.rows / most
        drawn = "█" * int(size) + ("▌" if size % 1 >= 0.5 else "") or "▏" * bool(bar.rows)
        label = f"{bar.low:,}-{bar.high:,}".rjust(width)
        output.console.print(f"  [dim]{label}[/] [cyan]{drawn}[/] {bar.rows:,}")
    output.say("")


def _show_costs(
    output: Output, inputs: Inputs, rows: Sequence[Measured], word: Mapping[str, str]
) -> None:
    batch = inputs.config.per_device_train_batch_size
    learned = sum(row.learned for row in rows) or 1
    names = ("cutoff", "over", "lost", "dropped_tokens", "padding", "packing")
    heads = [word[name] for name in names]
    lines = []
    for value in cutoffs(max(row.tokens for row in rows), inputs.config.cutoff_len):
        found = cost(rows, value, batch)
        chosen = value == inputs.config.cutoff_len
        lines.append(
            [
                f"[bold]> {value:,}[/]" if chosen else f"{value:,}",
                _share(found.over, len(rows)),
                _share(found.lost, learned),
                _share(found.dropped, learned),
                f"{100 * found.padding:.0f} %",
                f"{100 * found.packing:.0f} %",
            ]
        )
        output.event("cutoff", **found.__dict__)
    output.table(word["cost"], heads, lines, right=heads)
    output.say(f"  {word['cost_note'].format(batch=batch)}")


def _share(part: int, whole: int) -> str:
    if not part:
        return "0"
    share = 100 * part / whole
    return f"{part:,} ({share:.0f} %)" if share >= 1 else f"{part:,} (< 1 %)"
