"""`ft2ollama retrain CONFIG --if-due` at fixed times, by the scheduler the machine already has.

In: the command, the folder, a time.  Out: the text of a systemd user timer, a cron line, or a
Windows task. No scheduler of our own: the machine's survives a restart, writes a log, and catches
up (systemd's Persistent) after the machine was off. The command itself decides whether anything is
due, resumes what was interrupted, and lets only one run at a time.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ft2ollama.errors import UsageError
from ft2ollama.files import write_text

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"(?:(?P<day>[a-z]{3})[a-z]* +)?(?P<hour>\d{1,2}):(?P<minute>\d\d)")


@dataclass(frozen=True)
class When:
    """day: 0 is Monday, None is every day; hour None is every hour."""

    day: int | None
    hour: int | None
    minute: int


@dataclass(frozen=True)
class Task:
    """What is run: its name (of the line), the words of the command, its working folder."""

    name: str
    command: tuple[str, ...]
    folder: Path


def parse_when(text: str) -> When:
    """`sun 03:00`, `03:00` (daily) or `hourly`. Raises UsageError."""
    words = text.strip().lower()
    if words == "hourly":
        return When(None, None, 17)
    found = _TIME.fullmatch(words)
    day = found["day"] if found else None
    if found is None or (day and day not in _DAYS):
        raise UsageError(
            f"--at {text!r} is no time", "", "--at 'sun 03:00', --at 03:00, --at hourly"
        )
    hour, minute = int(found["hour"]), int(found["minute"])
    if hour > 23 or minute > 59:
        raise UsageError(f"--at {text!r} is no time of a day", "", "--at 03:00")
    return When(_DAYS.index(day) if day else None, hour, minute)


def systemd_units(task: Task, when: When) -> dict[str, str]:
    """File name -> text, for ~/.config/systemd/user (systemd.service(5), systemd.time(7))."""
    unit = unit_name(task.name)
    service = f"""\
[Unit]
Description=ft2ollama: retrain {_plain(task.name)} if it is due

[Service]
Type=oneshot
WorkingDirectory={_percent(str(task.folder))}
ExecStart={" ".join(map(_systemd_word, task.command))}
Nice=10
"""
    timer = f"""\
[Unit]
Description=ft2ollama: when to look whether {_plain(task.name)} is due

[Timer]
OnCalendar={_on_calendar(when)}
Persistent=true
RandomizedDelaySec=5min

[Install]
WantedBy=timers.target
"""
    return {f"{unit}.service": service, f"{unit}.timer": timer}


def cron_line(task: Task, when: When) -> str:
    """A line for `crontab -e` (crontab(5): an unescaped % would end the command)."""
    hour = "*" if when.hour is None else str(when.hour)
    day = "*" if when.day is None else str((when.day + 1) % 7)
    command = f"cd {shlex.quote(str(task.folder))} && {shlex.join(task.command)}"
    return f"{when.minute} {hour} * * {day} " + command.replace("%", r"\%")


def windows_command(task: Task, when: When) -> str:
    """A line for the command prompt (schtasks; a quotation mark in /TR is written \\")."""
    if when.hour is None:
        often = f"/SC HOURLY /ST 00:{when.minute:02}"
    else:
        start = f"/ST {when.hour:02}:{when.minute:02}"
        often = f"/SC DAILY {start}"
        if when.day is not None:
            often = f"/SC WEEKLY /D {_DAYS[when.day].upper()} {start}"
    inner = " ".join(f'\\"{word}\\"' if " " in word else word for word in task.command)
    run = f'cmd /c cd /d \\"{task.folder}\\" ^&^& {inner}'
    return f'schtasks /Create /F /TN "ft2ollama {_plain(task.name)}" {often} /TR "{run}"'


def install_units(units: dict[str, str], folder: Path) -> list[Path]:
    """Write the unit files; the caller says how to start them."""
    for name, text in units.items():
        write_text(folder / name, text)
    return [folder / name for name in units]


def unit_name(name: str) -> str:
    """ft2ollama-retrain-NAME; a name that systemd would not take gets a number of its own."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-")
    if plain == name:
        return f"ft2ollama-retrain-{name}"
    number = sha256(name.encode()).hexdigest()[:8]
    return "-".join(part for part in ("ft2ollama-retrain", plain, number) if part)


def _on_calendar(when: When) -> str:
    if when.hour is None:
        return f"*-*-* *:{when.minute:02}:00"
    day = f"{_DAYS[when.day].capitalize()} " if when.day is not None else ""
    return f"{day}*-*-* {when.hour:02}:{when.minute:02}:00"


def _systemd_word(word: str) -> str:
    """A word of ExecStart: no specifier, no variable, no end of the word (systemd.service(5))."""
    text = _percent(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"' if not text or re.search(r"[\s'\";\\]", text) else text


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _plain(text: str) -> str:
    return re.sub(r"[^\w.:/ -]", "_", text).replace("\n", " ")


def cannot_run(task: Task) -> str:
    """Why a timer, which has none of this shell's variables, could not start it; "" when it can."""
    before = task.command[: task.command.index("retrain")]
    done = subprocess.run(
        [*before, "--version"], cwd=task.folder, env={}, capture_output=True, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    return (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""


def words_to_run(python: str, config: Path, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The command, by absolute paths: a timer knows no PATH and no virtual environment."""
    return (python, "-m", "ft2ollama", "retrain", str(config.absolute()), "--if-due", *extra)
