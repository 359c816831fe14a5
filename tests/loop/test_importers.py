"""Every importer: files as the tools write them, each with traps, and the verdict of every row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from import_files import CASES, Case, No
from sqlalchemy import func, select

from ft2ollama.loop import tables as t
from ft2ollama.loop.conservation import conservation
from ft2ollama.loop.importers.detect import find
from ft2ollama.loop.importers.run import Job, Result, import_file
from ft2ollama.loop.ledger import Ledger


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "data"))


def written(case: Case, folder: Path) -> Path:
    path = folder / case.name
    case.write(path)
    return path


def imported(ledger: Ledger, path: Path) -> Result:
    ((one,), _) = find([path], "en")
    return import_file(ledger, path, Job(one.importer))


def told(ledger: Ledger, batch: int) -> dict[int, tuple[str, str]]:
    with ledger.read() as connection:
        query = select(t.import_reject).where(t.import_reject.c.batch_id == batch)
        rows = connection.execute(query).mappings().all()
    return {row["row_no"]: (row["reason"].split(" ")[0], row["place"]) for row in rows}


def answers(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        query = select(t.exchange.c.answer).order_by(t.exchange.c.seq)
        return list(connection.execute(query).scalars())


def said(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return sum(
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (t.feedback, t.feedback_waiting)
        )


def wanted_answer(verdict: object) -> str | None:
    if isinstance(verdict, tuple):
        return str(verdict[0])
    return verdict if isinstance(verdict, str) and verdict not in ("said", "duplicate") else None


def check(case: Case, ledger: Ledger, result: Result) -> None:
    no = {n: v for n, v in enumerate(case.verdicts, 1) if isinstance(v, No)}
    rejected = told(ledger, result.batch_id)
    assert {n: code for n, (code, _) in rejected.items()} == {n: v.code for n, v in no.items()}
    assert all(case.name in place for _, place in rejected.values())
    wanted = [answer for verdict in case.verdicts if (answer := wanted_answer(verdict)) is not None]
    assert answers(ledger) == wanted
    twice = list(case.verdicts).count("duplicate")
    only_said = list(case.verdicts).count("said")
    assert (result.imported, result.duplicate) == (len(wanted) + only_said, twice)
    assert result.rejected == len(no)
    assert result.seen == len(case.verdicts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_row_has_its_verdict(case: Case, ledger: Ledger, tmp_path: Path) -> None:
    path = written(case, tmp_path)
    ((one,), _) = find([path], "en")
    assert one.importer.name == case.importer
    result = imported(ledger, path)
    check(case, ledger, result)
    expected = sum(v[1] for v in case.verdicts if isinstance(v, tuple))
    expected += sum(v.feedback for v in case.verdicts if isinstance(v, No))
    if "said" not in case.verdicts:
        assert result.feedback == expected
        assert said(ledger) == expected
    again = imported(ledger, path)
    assert (again.imported, again.feedback) == (0, 0)
    assert again.seen == again.duplicate + again.rejected == result.seen
    assert conservation(ledger) == []


_KILLED = """\
import os, signal, sys
from pathlib import Path
from ft2ollama.loop.importers import run
from ft2ollama.loop.importers.detect import find
from ft2ollama.loop.ledger import Ledger
for line in Path(sys.argv[2]).read_text().splitlines():
    after, _, path = line.partition(" ")
    child = os.fork()
    if not child:
        run.BATCH, write = 1, run._records
        def records(connection, job, rows, result):
            write(connection, job, rows, result)
            if result.seen == int(after):  # in the middle of a transaction
                os.kill(os.getpid(), signal.SIGKILL)
        run._records = records
        ((one,), _) = find([Path(path)], "en")
        with Ledger.open(sys.argv[1]) as ledger:
            run.import_file(ledger, Path(path), run.Job(one.importer))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WTERMSIG(status) == signal.SIGKILL, path
"""


def test_every_importer_goes_on_after_a_kill(ledger: Ledger, tmp_path: Path) -> None:
    halves = {case.name: len(case.verdicts) // 2 for case in CASES}
    paths = [written(case, tmp_path) for case in CASES]
    (tmp_path / "list.txt").write_text("".join(f"{halves[one.name]} {one}\n" for one in paths))
    url = ledger.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", _KILLED, url, str(tmp_path / "list.txt")]
    subprocess.run(command, check=True)
    for case, path in zip(CASES, paths, strict=True):
        result = imported(ledger, path)
        assert result.resumed == halves[case.name]
        assert result.seen == len(case.verdicts)
        assert result.seen == result.imported + result.duplicate + result.rejected
        again = imported(ledger, path)
        assert (again.seen, again.imported, again.resumed) == (result.seen, 0, 0)
    with ledger.read() as connection:
        batches = connection.execute(select(t.import_batch)).mappings().all()
    assert len(batches) == 2 * len(CASES)
    for batch in batches:
        assert batch["state"] == "done"
        assert batch["seen"] == batch["imported"] + batch["duplicate"] + batch["rejected"]
    assert conservation(ledger) == []
