"""`ft2ollama doctor`: what this machine can do, and the fix for each "no"."""

from __future__ import annotations

import click

from ft2ollama.cli.output import Output

_MARKS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "no": "[red]✗[/]"}


@click.command()
@click.pass_obj
def doctor(output: Output) -> int:
    """Check this machine. Exit code 4 when something that is needed is missing."""
    from dataclasses import asdict

    from rich.markup import escape

    from ft2ollama.errors import ExitCode
    from ft2ollama.train.threads import choose_threads, set_threads

    set_threads(choose_threads(None))
    with output.waiting("looking at this machine"):
        from ft2ollama.doctor import examine

        findings = examine()
    rows = []
    for finding in findings:
        output.event("finding", **asdict(finding))
        word = "fix: " if finding.state == "no" else ""
        fix = f"\n[dim]{word}{escape(finding.fix)}[/]" if finding.fix else ""
        rows.append([_MARKS[finding.state], finding.what, escape(finding.value) + fix])
    output.table("", [], rows)
    missing = [finding.what for finding in findings if finding.state == "no"]
    if missing:
        output.warn(f"missing: {', '.join(missing)}")
        return int(ExitCode.MACHINE)
    output.done("everything a fine-tune needs is here")
    return int(ExitCode.DONE)
