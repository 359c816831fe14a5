"""The loss curve as a picture (PNG and SVG) in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ft2ollama.files import replacing

_SMOOTH_FROM = 30  # points; a short curve is shown as it is
_SPAN = 20  # the smooth line looks back over a twentieth of the training


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
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_training(axes, losses)
    top = max(value for _, value in (*losses, *eval_losses))
    if eval_losses:
        _draw_held_out(axes, eval_losses)
    axes.set(xlabel="optimizer step", ylabel="loss (nats per learned token)", ylim=(0, 1.05 * top))
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    written = []
    with mpl.rc_context({"svg.hashsalt": "ft2ollama", "svg.fonttype": "none"}):
        for suffix in ("png", "svg"):
            path = folder / f"loss.{suffix}"
            with replacing(path) as part:
                figure.savefig(part, format=suffix, dpi=150)
            written.append(path)
    return written


def smooth(values: Sequence[float]) -> list[float]:
    """A running mean that forgets: each point weighs 1 - 2 / (span + 1) of the one after it.

    The weights are normalised, so the line starts at the first value instead of rising from zero.
    """
    keep = 1 - 2 / (max(2.0, len(values) / _SPAN) + 1)
    found, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        found.append(total / weight)
    return found


def _draw_training(axes: object, losses: Sequence[tuple[int, float]]) -> None:
    steps, values = zip(*losses, strict=True)
    plot = axes.plot  # type: ignore[attr-defined]
    if len(values) < _SMOOTH_FROM:
        plot(steps, values, color="#2563eb", lw=1.8, marker="o", markersize=3, label="training")
        return
    plot(steps, values, color="#2563eb", alpha=0.3, lw=1, label="training")
    plot(steps, smooth(values), color="#2563eb", lw=1.8, label="training, smoothed")


def _draw_held_out(axes: object, losses: Sequence[tuple[int, float]]) -> None:
    steps, values = zip(*losses, strict=True)
    plot = axes.plot  # type: ignore[attr-defined]
    plot(steps, values, color="#dc2626", lw=1.4, marker="s", markersize=4, label="held out")
    best, lowest = min(losses, key=lambda pair: pair[1])
    axes.annotate(  # type: ignore[attr-defined]
        f"{lowest:.3f}", (best, lowest), xytext=(0, -14), textcoords="offset points",
        ha="center", fontsize=8, color="#dc2626",
    )  # fmt: skip
