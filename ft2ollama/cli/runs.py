"""`ft2ollama runs`: what was trained, exported and published here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.runs import Run


@click.command()
@click.pass_obj
def runs(output: Output) -> None:
    """List the runs, newest first; run ids go to stdout."""
    from ft2ollama.runs import all_runs, runs_root

    found = all_runs()
    if not found:
        output.say(
            f"no runs in {runs_root().absolute()} yet: ft2ollama demo, or ft2ollama train CONFIG"
        )
        return
    rows = []
    for run in found:
        stages = run.record["stages"]
        train, publish = stages.get("train", {}), stages.get("publish", {})
        exports = [name.removeprefix("export ") for name, stage in stages.items()
                   if name.startswith("export ") and stage["status"] == "done"]  # fmt: skip
        loss = f"{train['last_loss']:.3f}" if train.get("last_loss") is not None else "-"
        rows.append(
            [
                run.id,
                _status(run, train),
                loss,
                ", ".join(exports) or "-",
                publish["name"] if publish.get("status") == "done" else _status(run, publish),
            ]
        )
        output.event("run", id=run.id, folder=str(run.folder), stages=stages)
    if not output.as_json:
        output.table("", ["run", "training", "loss", "exported", "published"], rows, run="bold")
        if not output.console.is_terminal:
            for run in found:
                output.result(run.id)


def _status(run: Run, stage: dict[str, Any]) -> str:
    """A stage that says `running` while nobody holds the run was killed."""
    status = str(stage.get("status", "-"))
    return "broken off" if status == "running" and not run.is_in_use() else status
