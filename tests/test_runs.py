"""Run folders: records, skipping, locks, crashes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ft2ollama.errors import Interrupted, JobError, UsageError
from ft2ollama.files import replacing, sha256_file, write_json, write_text
from ft2ollama.runs import Run, all_runs, create_run, find_run


@pytest.fixture
def run() -> Run:
    return create_run("faq", "model_name_or_path: x\n")


def finish(run: Run, inputs: dict[str, str]) -> None:
    with run.stage("train", inputs) as stage:
        write_text(run.folder / "adapter" / "a.txt", "weights")
        stage.outputs.append(run.folder / "adapter" / "a.txt")
        stage.detail["steps"] = 3


def test_a_stage_is_current_until_an_input_or_an_output_changes(run: Run) -> None:
    assert not run.is_current("train", {"data": "1"})
    finish(run, {"data": "1"})
    assert run.is_current("train", {"data": "1"})
    assert not run.is_current("train", {"data": "2"})
    record = run.stage_record("train")
    assert record["outputs"] == {"adapter/a.txt": sha256_file(run.adapter / "a.txt")}
    assert record["steps"] == 3
    assert record["seconds"] >= 0
    assert "ft2ollama" in record["versions"]
    (run.adapter / "a.txt").write_text("other weights")
    assert not run.is_current("train", {"data": "1"})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (JobError("it broke"), "failed"),
        (Interrupted("stopped"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_stage_that_ends_badly_says_so(run: Run, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), run.stage("train", {}):
        raise error
    assert run.stage_record("train")["status"] == status
    assert not run.is_current("train", {})


def test_a_second_process_is_kept_out(run: Run) -> None:
    code = "import sys; from ft2ollama.runs import Run; from pathlib import Path\n"
    code += f"with Run(Path({str(run.folder)!r})).lock(): pass"
    with run.lock():
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    assert "in use by another ft2ollama process" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_cut_last_event_is_left_out(run: Run) -> None:
    run.event("step", step=1, loss=2.0)
    with (run.folder / "events.jsonl").open("a") as file:
        file.write('{"event": "step", "st')
    assert [event["step"] for event in run.events("step")] == [1]


def test_runs_are_found_by_path_id_beginning_and_latest(run: Run) -> None:
    later = create_run("z", "")
    record = later.record
    write_json(later.folder / "run.json", {**record, "created": "2999-01-01T00:00:00+00:00"})
    assert [one.id for one in all_runs()] == [later.id, run.id]
    assert find_run("latest").id == later.id
    assert find_run(run.id).folder == find_run(str(run.folder)).folder == run.folder
    with pytest.raises(UsageError, match="2 runs begin with"):
        find_run(run.id[:8])
    with pytest.raises(UsageError, match="no run 'nope'"):
        find_run("nope")


def test_a_folder_with_other_things_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(UsageError, match="holds files that are not a run"):
        create_run("x", "", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_broken_run_json_is_an_error_with_a_fix(run: Run) -> None:
    (run.folder / "run.json").write_text("{")
    with pytest.raises(UsageError, match="is not a run folder"):
        _ = run.record


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": "旧"})
    with contextlib.suppress(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text("utf-8")) == {"a": "旧"}
    assert "旧" in path.read_text("utf-8")
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_the_remembered_hash_of_a_large_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(1 << 26))
    first = sha256_file(path)
    assert first == sha256_file(path)
    with path.open("r+b") as file:
        file.write(b"x")
    assert sha256_file(path) != first
