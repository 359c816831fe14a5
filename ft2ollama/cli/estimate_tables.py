"""How an estimate looks: the job, the sums with their terms, the other methods, what to change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.estimate import Estimate, Job, Place, Term

_GB = "     GB"  # over numbers that end at the same column
_MARKS = {"yes": "[green]✓[/]", "tight": "[yellow]![/]", "no": "[red]✗[/]"}


def show(output: Output, job: Job, place: Place, found: Estimate, keys: Collection[str]) -> None:
    """Everything. keys: of the config, because only those are suggested."""
    output.title("the training")
    output.fields(_job(job, place))
    output.say("")
    each = f"± 10 %; each further token of a batch adds {found.token_mb:.2f} MB"
    _sum(output, "memory while training", found.terms, each)
    if found.peak_gb > found.phases[0].gb:
        late = max(found.phases, key=lambda phase: phase.gb)
        output.say(f"  the peak comes later: {late.name}, {late.gb:.2f} GB")
        output.say(f"  ({late.words})\n")
    _sum(output, "disk", found.disk, "")
    output.table(
        "time",
        ["step", "what", "about"],
        [[one.name, one.words, minutes(one.minutes) if one.minutes else "?"]
         for one in found.stages],
    )  # fmt: skip
    _methods(output, job, place)
    _suggestions(output, job, place, keys)
    _verdict(output, found)


def summary(found: Estimate) -> str:
    """One line: what a script or a plan shows."""
    where = "memory" if found.device == "cpu" else "GPU memory"
    time = minutes(sum(stage.minutes for stage in found.stages))
    if not found.minutes:
        time = f"{found.tokens_per_s:,.0f} tokens/s"
    return f"{found.peak_gb:.1f} GB {where}, {found.disk_gb:.1f} GB disk, {time}"


def memory_line(found: Estimate) -> tuple[str, str]:
    """(size, what of) for a plan."""
    late = max(found.phases, key=lambda phase: phase.gb)
    return f"about {late.gb:.1f} GB", f"{late.name}; {found.free_gb:.1f} GB are free"


def minutes(value: float) -> str:
    """Minutes as people say them."""
    if value < 1.5:
        return f"{max(1, round(value * 60))} s"
    if value < 120:
        return f"{value:.0f} min"
    return f"{value / 60:.1f} h" if value < 48 * 60 else f"{value / 60 / 24:.1f} days"


def _job(job: Job, place: Place) -> list[tuple[str, str, str]]:
    shape, rows = job.shape, job.rows
    size = f"{shape.weights / 1e9:.3g} B weights, {shape.layers} layers of {shape.hidden}"
    data = f"{rows.count:,} conversations, {rows.mean:,.0f} tokens each, {rows.longest:,} at most"
    step = f"{job.batch} x {job.accumulation} conversations" if job.accumulation > 1 else (
        f"{job.batch} conversations"
    )  # fmt: skip
    steps = f"{job.steps:,} of {step}" if job.steps else step
    rank = f", rank {job.rank}" if job.method == "lora" else ""
    room = f"{place.free / 1e9:.1f} GB free of {place.capacity / 1e9:.1f} GB"
    return [
        ("model", shape.name, size),
        ("data", data if rows.known else "none", rows.how),
        ("method", f"{job.name}{rank}", f"{job.trained / 1e6:,.1f} M weights learn"),
        ("steps", steps, f"{job.tokens:,.0f} tokens in all" if job.steps else "per step"),
        ("machine", place.name, room),
    ]


def _sum(output: Output, title: str, terms: Sequence[Term], words: str) -> None:
    rows = [[term.name, term.words, _gb(term.gb)] for term in terms]
    rows.append(["[bold]sum[/]", words, f"[bold]{_gb(sum(term.gb for term in terms))}[/]"])
    output.table(title, ["part", "from", _GB], rows)


def _gb(value: float) -> str:
    return f"{value:>7,.2f}" if value >= 0.005 else " < 0.01"


def _methods(output: Output, job: Job, place: Place) -> None:
    from ft2ollama.estimate.suggest import compare

    rows = [
        [
            _MARKS[one.fits],
            f"[bold]{one.name}[/]" if one.name == job.name else one.name,
            _gb(one.gb),
            "" if one.name == job.name else f"{one.times:.2f} x",
        ]
        for one in compare(job, place)
    ]
    output.table("the same with another method", ["", "method", _GB, "time"], rows)


def _suggestions(output: Output, job: Job, place: Place, keys: Collection[str]) -> None:
    from ft2ollama.estimate.suggest import suggest

    found = suggest(job, place, keys)
    for one in found:
        output.event("suggestion", **one.__dict__)
    if not found:
        return
    rows = [
        [_MARKS[one.fits], one.settings, _gb(one.gb), f"{one.times:.2f} x", one.price]
        for one in found
    ]
    output.table("what to change", ["", "key=value", _GB, "time", "price"], rows)


def _verdict(output: Output, found: Estimate) -> None:
    size = f"{found.peak_gb:.1f} GB ± 10 %"
    if found.fits == "yes":
        output.done(f"it fits: {size}, {found.free_gb:.1f} GB are free")
    elif found.fits == "tight":
        output.warn(f"it is tight: {size}, {found.free_gb:.1f} GB are free")
    else:
        output.warn(f"it does not fit: {size}, there are {found.capacity_gb:.1f} GB")
