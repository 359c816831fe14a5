"""`ft2ollama schedule CONFIG`: `retrain --if-due` by the scheduler that the machine has."""

from __future__ import annotations

from pathlib import Path

import click

from ft2ollama.cli.output import Output


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--at", default="sun 03:00", show_default=True, help="'sun 03:00', 03:00 or hourly.")
@click.option("--as", "kind", type=click.Choice(["systemd", "cron", "windows"]),
              help="Default: systemd, cron where there is none, windows on Windows.")  # fmt: skip
@click.option("--install", is_flag=True, help="Write the systemd units into your home.")
@click.pass_obj
def schedule(output: Output, config: Path, at: str, kind: str | None, *, install: bool) -> None:
    """Print (or install) a timer that looks whether a retrain is due.

    Example: ft2ollama schedule shop.yaml --at 'sun 03:00' --install
    """
    import shutil
    import sys

    from ft2ollama.errors import UsageError
    from ft2ollama.loop import schedule as made
    from ft2ollama.loop.settings import read_config

    name = read_config(config).name
    words = made.words_to_run(sys.executable, config)
    task, when = made.Task(name, words, config.absolute().parent), made.parse_when(at)
    found = "systemd" if shutil.which("systemctl") else "cron"
    kind = kind or ("windows" if sys.platform == "win32" else found)
    if install and kind != "systemd":
        raise UsageError(
            f"--install is for systemd, not {kind}",
            "the line belongs into a table of your own",
            f"ft2ollama schedule {config} --as {kind}     # prints it",
        )
    if kind == "systemd":
        _systemd(output, made.systemd_units(task, when), made.unit_name(name), install=install)
        return
    line = made.cron_line(task, when) if kind == "cron" else made.windows_command(task, when)
    output.say("into your table: crontab -e" if kind == "cron" else "on the command prompt:")
    output.result(line, kind=kind, line=line)


def _systemd(output: Output, units: dict[str, str], unit: str, *, install: bool) -> None:
    from ft2ollama.loop.schedule import install_units

    folder = Path.home() / ".config/systemd/user"
    if not install:
        output.say(f"files for {folder}; --install writes them")
        text = "\n".join(f"# {name}\n{content}" for name, content in units.items())
        output.result(text.rstrip(), kind="systemd", units=units)
        return
    paths = install_units(units, folder)
    for path in paths:
        output.done(f"wrote {path}")
    output.say(f"  systemctl --user daemon-reload && systemctl --user enable --now {unit}.timer")
    output.say("  loginctl enable-linger     # so that it runs while you are not logged in")
    output.result(str(paths[-1]), kind="systemd", files=[str(path) for path in paths])
