"""`train_report.md`: one page on a training, for whoever has to trust or repeat it.

In: the plan and the finished run (run.json, events.jsonl).  Out: Markdown in the run folder. Every
number stands in one of those files as well; this page only puts them in order.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ft2ollama.config.expects import spelled
from ft2ollama.files import write_text
from ft2ollama.runs import Run
from ft2ollama.train.plan import Plan
from ft2ollama.train.resume import curve

NAME = "train_report.md"


def write_report(plan: Plan, run: Run, origins: Mapping[str, str]) -> Path:
    """Write the page. origins: key -> where its value came from; keys at their default are left
    out of the table, config.yaml has them all.
    """
    stage = run.stage_record("train")
    parts = [
        f"# Training report: {run.id}\n",
        *_result(plan, run, stage),
        *_data(plan),
        *_cost(stage, run.record.get("estimate", {})),
        *_settings(plan, origins),
        *_evaluations(run),
        *_identity(run, stage),
        *_next(run),
    ]
    path = run.folder / NAME
    write_text(path, "\n".join(parts))
    return path


def _result(plan: Plan, run: Run, stage: Mapping[str, Any]) -> Iterator[str]:
    early = stage["steps"] < stage["planned_steps"]
    rows = [
        ("base model", f"{plan.base.name} (`{plan.base.ref}`)"),
        ("method", f"{plan.config.finetuning_type}, chat template `{plan.template.family}`"),
        ("optimizer steps", f"{stage['steps']} of {stage['planned_steps']}"
         + (", stopped early: the held-out loss fell no more" if early else "")),
        ("training loss", f"{_number(stage['first_loss'])} at the first step, "
         f"{_number(stage['last_loss'])} at the last"),
    ]  # fmt: skip
    if stage.get("eval_loss") is not None:
        rows.append(
            (
                "held-out loss",
                f"{stage['eval_loss']:.4f} at the end; lowest {stage['best_eval_loss']:.4f} "
                f"at step {stage['best_step']}; the {stage['kept']} weights are in `adapter/`",
            )
        )
    yield from _table(("", ""), rows)
    yield "![loss curve](loss.png)\n"


def _data(plan: Plan) -> Iterator[str]:
    yield "## Data\n"
    rows = [
        ("conversations", f"{len(plan.train):,} trained, {len(plan.validation):,} held out"),
        ("one epoch", f"{plan.tokens:,} tokens, {plan.learned:,} of them learned"),
        ("data sets", ", ".join(f"`{Path(name).name}`" for name in plan.config.dataset)),
        ("sha256 of the data", f"`{plan.inputs['data']}`"),
        ("rows left out", f"{len(getattr(plan, 'dropped', ())):,}"),
        *(("note", note) for note in plan.notes),
    ]
    yield from _table(("", ""), rows)


def _cost(stage: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[str]:
    """Predicted against measured; a prediction that nobody made stays empty.

    said: the plan's estimate, of which `minutes` and `peak_gb` are read.
    """
    seconds, minutes = stage["train_seconds"], said.get("minutes")
    foreseen = None if minutes is None else 60 * minutes
    rate = stage["tokens_seen"] / seconds if seconds else 0.0
    yield "## Time and memory\n"
    rows = [
        ("time", _time(foreseen), _time(seconds), _off(foreseen, seconds)),
        ("peak memory", _gigabytes(said.get("peak_gb")), _gigabytes(stage["peak_memory_gb"]),
         _off(said.get("peak_gb"), stage["peak_memory_gb"])),
    ]  # fmt: skip
    yield from _table(("", "predicted", "measured", "measured / predicted"), rows)
    many = f" x {stage['processes']}" if stage["processes"] > 1 else ""
    threads = f", {stage['threads']} thread(s)" if stage["device"] == "cpu" else ""
    yield (
        f"{stage['tokens_seen']:,} tokens seen, {stage['learned_seen']:,} of them learned, "
        f"{rate:,.0f} tokens/s on {stage['device']}{many}{threads}, base weights in "
        f"{stage['compute_dtype']}. Time is that of the training alone, since it was last resumed; "
        "memory is the peak of the first process.\n"
    )


def _settings(plan: Plan, origins: Mapping[str, str]) -> Iterator[str]:
    yield "## Settings\n"
    values = plan.config.model_dump()
    given = [name for name, origin in origins.items() if origin != "default"]
    rows = [(f"`{name}`", f"`{_spelled(values[name])}`", origins[name]) for name in given]
    yield from _table(("key", "value", "from"), rows)
    yield "All other keys have their defaults; `config.yaml` lists every one.\n"


def _evaluations(run: Run) -> Iterator[str]:
    _, evals = curve(run)
    if evals:
        yield "## Held-out loss\n"
        yield from _table(("step", "loss"), ((str(step), f"{loss:.4f}") for step, loss in evals))


def _identity(run: Run, stage: Mapping[str, Any]) -> Iterator[str]:
    yield "## What it was made from, and what it made\n"
    rows = [(name, f"`{digest}`") for name, digest in sorted(stage["inputs"].items())]
    rows += [(f"`{name}`", f"`{digest}`") for name, digest in sorted(stage["outputs"].items())]
    yield from _table(("", "sha256"), rows)
    versions = ", ".join(f"{name} {version}" for name, version in stage["versions"].items())
    yield f"{versions}; Python {platform.python_version()} on {platform.platform()}.\n"


def _next(run: Run) -> Iterator[str]:
    yield "## What to do with it\n"
    yield "```"
    yield f"ft2ollama train --resume {run.id}        # goes on, if it was interrupted"
    yield f"ft2ollama export {run.id}                # a GGUF file"
    yield f"ft2ollama publish NAME --run {run.id}    # into Ollama, with proof"
    yield "```\n"


def _spelled(value: Any) -> str:
    return "null" if value is None else spelled(value)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _gigabytes(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} GB"


def _off(said: float | None, measured: float) -> str:
    return f"{measured / said:.2f}" if said else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""
