"""`ft2ollama runs`: what was trained, exported and published here."""

from __future__ import annotations

import click

from ft2ollama.cli.output import Output


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
                train.get("status", "-"),
                loss,
                ", ".join(exports) or "-",
                publish.get("name", "-")
                if publish.get("status") == "done"
                else publish.get("status", "-"),
            ]
        )
        output.event("run", id=run.id, folder=str(run.folder), stages=stages)
    if not output.as_json:
        output.table("", ["run", "training", "loss", "exported", "published"], rows, run="bold")
        if not output.console.is_terminal:
            for run in found:
                output.result(run.id)
