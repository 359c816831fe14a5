"""Timers for the scheduler of the machine: read back by systemd, a shell and cron's own rules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ft2ollama.errors import UsageError
from ft2ollama.loop.schedule import (
    Task,
    When,
    cron_line,
    install_units,
    parse_when,
    systemd_units,
    unit_name,
    windows_command,
    words_to_run,
)

_SHOW = "import json, os, sys; print(json.dumps([os.getcwd(), *sys.argv[1:]]))"


def nasty(tmp_path: Path) -> Task:
    """Words that a shell, cron and systemd each would take apart."""
    folder = tmp_path / "客服 100% $HOME 'x'"
    folder.mkdir(parents=True)
    return Task("店/客服", (sys.executable, "-c", _SHOW, "a b", "50%", "$HOME", "'", '"'), folder)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("sun 03:00", When(6, 3, 0)),
        ("Sunday 3:05", When(6, 3, 5)),
        ("23:59", When(None, 23, 59)),
        ("hourly", When(None, None, 17)),
    ],
)
def test_times(text: str, when: When) -> None:
    assert parse_when(text) == when


@pytest.mark.parametrize("text", ["", "3", "24:00", "03:60", "xyz 03:00", "daily"])
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_when(text)


def test_cron_runs_the_command_as_it_is(tmp_path: Path) -> None:
    task = nasty(tmp_path)
    line = cron_line(task, When(6, 3, 0))
    assert line.startswith("0 3 * * 0 cd ")
    fields = line.split(" ", 5)
    command = fields[5].replace(r"\%", "%")  # what cron hands to sh
    assert "%" not in fields[5].replace(r"\%", "")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [str(task.folder), *task.command[3:]]


def test_cron_times() -> None:
    task = Task("shop", ("x",), Path("/srv"))
    assert cron_line(task, When(None, None, 17)) == "17 * * * * cd /srv && x"
    assert cron_line(task, When(0, 4, 30)).startswith("30 4 * * 1 ")


def test_systemd_units_say_what_and_when(tmp_path: Path) -> None:
    task = nasty(tmp_path)
    units = systemd_units(task, When(6, 3, 0))
    service, timer = units.values()
    assert "OnCalendar=Sun *-*-* 03:00:00\nPersistent=true" in timer
    assert "100%% $HOME" in service  # WorkingDirectory knows no variables
    assert '"a b" 50%% $$HOME "\'" "\\""' in service


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for when in (When(6, 3, 0), When(None, 23, 5), When(None, None, 17)):
        units = systemd_units(nasty(tmp_path / str(when.hour)), when)
        paths = install_units(units, tmp_path / "units")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--user", *map(str, paths)],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


def test_two_chinese_names_are_two_units() -> None:
    assert unit_name("shop") == "ft2ollama-retrain-shop"
    assert unit_name("客服") != unit_name("财务")
    assert unit_name("shop/客服").startswith("ft2ollama-retrain-shop-")


def test_units_are_written_whole(tmp_path: Path) -> None:
    units = systemd_units(Task("shop", ("x",), Path("/srv")), When(None, 3, 0))
    (service, timer) = install_units(units, tmp_path / "user")
    assert service.name == "ft2ollama-retrain-shop.service"
    assert service.read_text() == units[service.name]
    assert "OnCalendar=*-*-* 03:00:00" in timer.read_text()


def test_a_windows_task() -> None:
    task = Task(
        "shop", ("py.exe", "-m", "ft2ollama", "retrain", r"C:\my data\loop.yaml"), Path("C:/x")
    )
    line = windows_command(task, When(6, 3, 0))
    assert line.startswith('schtasks /Create /F /TN "ft2ollama shop" /SC WEEKLY /D SUN /ST 03:00 ')
    assert r"retrain \"C:\my data\loop.yaml\"" in line
    assert "/SC HOURLY /ST 00:17" in windows_command(task, When(None, None, 17))
    assert "/SC DAILY /ST 04:05" in windows_command(task, When(None, 4, 5))


def test_the_command_needs_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = words_to_run("/venv/bin/python", Path("loop.yaml"))
    assert words == (
        "/venv/bin/python", "-m", "ft2ollama", "retrain", str(tmp_path / "loop.yaml"), "--if-due",
    )  # fmt: skip


def test_a_timer_knows_the_folders_of_this_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.yaml").write_text("")
    config = tmp_path / "loop.yaml"
    config.write_text("name: shop\ntrain: train.yaml\n")
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "a b"))
    monkeypatch.setenv("FT2OLLAMA_LEDGER", "postgresql://me:secret@db/f")
    done = subprocess.run(
        [sys.executable, "-m", "ft2ollama", "schedule", str(config), "--as", "cron"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"/usr/bin/env 'FT2OLLAMA_DATA={tmp_path}/a b' " in done.stdout
    assert "secret" not in done.stdout
    assert "FT2OLLAMA_LEDGER is not written down" in done.stderr
