"""Lengths of rows -> a histogram as PNG or SVG, one colour per data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ft2ollama.errors import UsageError
from ft2ollama.files import replacing

_BINS = 60
_KINDS = ("png", "svg")


def plot_lengths(
    path: Path, lengths: Mapping[str, Sequence[int]], unit: str, cutoff: int | None
) -> None:
    """Write the picture; lengths: name of the set -> lengths of its rows.

    The scale is logarithmic where the longest row is more than 20 medians long.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in _KINDS:
        raise UsageError(f"--plot: {path.name} is no picture", "png and svg are", "--plot x.png")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    everything = np.concatenate([np.array(values) for values in lengths.values()])
    low, high = int(everything.min()), int(everything.max())
    wide = high > 20 * max(1, np.median(everything))
    step = -(-(high - low + 1) // _BINS)  # whole numbers: every bar holds as many lengths
    edges = (
        np.geomspace(max(1, low), high + 1, _BINS) - 0.5
        if wide
        else np.arange(low, high + step + 1, step) - 0.5
    )
    names = [name if name.isascii() else f"set {number}" for number, name in enumerate(lengths, 1)]
    axes.hist(list(map(np.array, lengths.values())), bins=list(edges), stacked=True, label=names)
    if cutoff is not None and cutoff <= everything.max():
        axes.axvline(cutoff, color="#ce2c31", linestyle="--", label=f"cutoff_len {cutoff}")
    if wide:
        axes.set_xscale("log")
    axes.set(xlabel=f"{unit} per row", ylabel="rows", title="Length of the rows")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(path) as part:
        figure.savefig(part, format=kind)
