"""Every importer: files as the tools write them, each with traps, and the verdict of every row."""

from __future__ import annotations

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
