"""The loss curve as a picture (PNG and SVG) in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ft2ollama.files import replacing


def plot_loss(
    losses: Sequence[tuple[int, float]],
    eval_losses: Sequence[tuple[int, float]],
    folder: Path,
    title: str,
) -> list[Path]:
    """Draw (step, nats per token) pairs; returns the files written."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, values = zip(*losses, strict=True)
    axes.plot(
        steps, values, color="#2563eb", linewidth=1.8, marker="o", markersize=3, label="training"
    )
    if eval_losses:
        steps, values = zip(*eval_losses, strict=True)
        axes.plot(steps, values, color="#dc2626", marker="s", markersize=5, label="held out")
        axes.legend(frameon=False)
    axes.set(xlabel="optimizer step", ylabel="loss (nats per learned token)", ylim=(0, None))
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    written = []
    with mpl.rc_context({"svg.hashsalt": "ft2ollama"}):
        for suffix in ("png", "svg"):
            path = folder / f"loss.{suffix}"
            with replacing(path) as part:
                figure.savefig(part, format=suffix, dpi=150)
            written.append(path)
    return written
