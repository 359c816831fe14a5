"""`ft2ollama schedule CONFIG`: `retrain --if-due` by the scheduler that the machine has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.loop_words import lang_option, word
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language

_PLACES = ("FT2OLLAMA_DATA", "FT2OLLAMA_CACHE", "OLLAMA_HOST", "OLLAMA_MODELS")


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--at", default="sun 03:00", show_default=True, help="'sun 03:00', 03:00 or hourly.")
@click.option("--as", "kind", type=click.Choice(["systemd", "cron", "windows"]),
              help="Default: systemd, cron where there is none, windows on Windows.")  # fmt: skip
@click.option("--install", is_flag=True, help="Write the systemd units into your home.")
@lang_option
@click.pass_obj
def schedule(
    output: Output, config: Path, at: str, kind: str | None, lang: str | None, *, install: bool
) -> None:
    """Print (or install) a timer that looks whether a retrain is due.

    Example: ft2ollama schedule shop.yaml --at 'sun 03:00' --install
    """
    import shutil
    import sys

    from ft2ollama.errors import UsageError
    from ft2ollama.language import choose_language
    from ft2ollama.loop import schedule as made
    from ft2ollama.loop.settings import read_config

    name = read_config(config).name
    language = choose_language(lang)
    words = (*_places(output, language), *made.words_to_run(sys.executable, config))
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
        units = made.systemd_units(task, when)
        if install:
            _install(output, units, made.unit_name(name), language)
        else:
            _print(output, units, language)
        return
    line = made.cron_line(task, when) if kind == "cron" else made.windows_command(task, when)
    output.say(word("into table" if kind == "cron" else "prompt", language))
    output.result(line, kind=kind, line=line)


def _places(output: Output, language: Language) -> tuple[str, ...]:
    """What a timer would not know: it starts without the variables of this shell."""
    import os
    import sys

    known = [f"{name}={os.environ[name]}" for name in _PLACES if os.environ.get(name)]
    if os.environ.get("FT2OLLAMA_LEDGER"):
        output.warn(word("no ledger", language))
    if sys.platform == "win32":
        for one in known:
            output.warn(word("setx", language, one=one, words=one.replace("=", " ", 1)))
        return ()
    return ("/usr/bin/env", *known) if known else ()


def _print(output: Output, units: dict[str, str], language: Language) -> None:
    output.say(word("files for", language, folder=_user_units()))
    text = "\n".join(f"# {name}\n{content}" for name, content in units.items())
    output.result(text.rstrip(), kind="systemd", units=units)


def _install(output: Output, units: dict[str, str], unit: str, language: Language) -> None:
    from ft2ollama.loop.schedule import install_units

    paths = install_units(units, _user_units())
    for path in paths:
        output.done(word("wrote", language, path=path))
    output.say(word("enable", language, unit=unit))
    output.say(word("linger", language))
    output.result(str(paths[-1]), kind="systemd", files=[str(path) for path in paths])


def _user_units() -> Path:
    """Where systemd looks for a person's units (systemd.unit(5))."""
    return Path.home() / ".config/systemd/user"
