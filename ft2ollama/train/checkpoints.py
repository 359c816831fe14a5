"""Checkpoints that are whole or absent.

transformers writes a checkpoint file by file into its final folder: a process that is killed then
leaves half of one, from which it would later resume. Here it writes into `.saving/`; when all is
there and on the disk, `complete.json` (size and sha256 of every file) is added and the folder is
renamed. Only folders with such a list count, and a file that does not match it is told.

    checkpoints/checkpoint-40/   adapter, optimizer, scheduler, random states, trainer_state.json
    checkpoints/checkpoint-40/complete.json
    checkpoints/.saving/         what a killed process left; removed at the next start
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama import machine
from ft2ollama.errors import UsageError
from ft2ollama.files import fsync_folder, sha256_file, write_json

COMPLETE, STATE = "complete.json", "trainer_state.json"
_NEEDED = ("optimizer.pt", "scheduler.pt")
_SHARDED = ("global_step", "optimizer_0", "pytorch_model_fsdp")  # DeepSpeed's and FSDP's own
_ROOM = 1.1  # of the last checkpoint's size must be free for the next one


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder. problem: why a run cannot go on from it, "" if it can."""

    folder: Path
    step: int
    problem: str


def staging(root: Path) -> Path:
    """Where a checkpoint is written before it counts."""
    return root / ".saving"


def clear_staging(root: Path) -> None:
    """Remove what a killed process left behind."""
    for left in (staging(root), *root.glob(".old-*")):
        shutil.rmtree(left, ignore_errors=True)


def publish(root: Path, step: int, note: Mapping[str, object]) -> Path:
    """`.saving/checkpoint-STEP`, complete as it is now -> `checkpoint-STEP`.

    note: more fields of complete.json. Raises OSError (a full disk); then nothing has changed but
    `.saving`.
    """
    part, folder = staging(root) / f"checkpoint-{step}", root / f"checkpoint-{step}"
    files = {}
    for path in _files(part):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        name = path.relative_to(part).as_posix()
        files[name] = {"size": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(part / COMPLETE, {"step": step, **note, "files": files})
    remove(folder)
    part.replace(folder)
    fsync_folder(root)
    clear_staging(root)
    return folder


def remove(folder: Path) -> None:
    """Remove a checkpoint so that a half removed one does not count either."""
    if folder.exists():
        old = folder.with_name(f".old-{folder.name}")
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
        shutil.rmtree(old, ignore_errors=True)


def rotate(root: Path, keep: int | None, *, best: str | None) -> None:
    """Remove all but the newest `keep` and the best; passing ones stay only as the newest."""
    folders = _folders(root)
    lasting = [path for path in folders if not _read(path).get("passing")]
    wanted = {*folders[-1:], *(lasting if keep is None else lasting[max(0, len(lasting) - keep) :])}
    for path in folders:
        if path not in wanted and path.name != Path(best or "").name:
            remove(path)


def remove_passing(root: Path) -> None:
    """After the training: keep only what the user asked for."""
    for path in _folders(root):
        if _read(path).get("passing"):
            remove(path)
    clear_staging(root)
    if root.exists() and not any(root.iterdir()):
        root.rmdir()


def newest(root: Path) -> Path | None:
    """The newest checkpoint that looks complete, by a quick look."""
    found = [path for path in _folders(root) if (path / COMPLETE).is_file()]
    return found[-1] if found else None


def examine(folder: Path) -> Checkpoint:
    """A checkpoint with every byte read: can a run go on from it?"""
    return Checkpoint(folder, _step(folder), _problem(folder))


def usable(root: Path) -> tuple[Checkpoint | None, list[Checkpoint]]:
    """(the newest one to go on from, the newer ones that are damaged)."""
    damaged: list[Checkpoint] = []
    for folder in reversed(_folders(root)):
        found = examine(folder)
        if not found.problem:
            return found, damaged
        damaged.append(found)
    return None, damaged


def chosen(path: Path) -> Checkpoint:
    """The checkpoint a user names; raises UsageError if no run can go on from it."""
    if not path.is_dir():
        raise UsageError(
            f"resume_from_checkpoint: no such folder: {path}",
            f"looked for from {Path.cwd()}",
            "resume_from_checkpoint=true     # the newest one in output_dir",
        )
    found = examine(path)
    if found.problem:
        raise UsageError(
            f"resume_from_checkpoint: no run can go on from {path}",
            found.problem,
            "name another checkpoint, or leave the key out to start anew",
        )
    return found


def inputs_of(folder: Path) -> dict[str, str]:
    """The inputs of the run that saved it; empty for a checkpoint of another tool."""
    inputs: dict[str, str] = _read(folder).get("inputs", {})
    return inputs


def is_final(folder: Path) -> bool:
    """Was this checkpoint saved after the last step?"""
    try:
        progress = json.loads((folder / "progress-0.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(progress.get("finished"))


def room_for(root: Path) -> tuple[int, int]:
    """(bytes the next checkpoint needs, bytes free): the size of the last one is the measure."""
    last = newest(root)
    size = sum(path.stat().st_size for path in _files(last)) if last else 0
    return int(size * _ROOM), int(machine.free_disk(root))


def _read(folder: Path) -> dict[str, Any]:
    """complete.json, or nothing where there is none."""
    try:
        listed: dict[str, Any] = json.loads((folder / COMPLETE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return listed


def _problem(folder: Path) -> str:
    try:
        listed = json.loads((folder / COMPLETE).read_text("utf-8"))["files"]
    except FileNotFoundError:
        listed = {}
    except (ValueError, KeyError, OSError) as error:
        return f"{COMPLETE} is damaged: {error}"
    for name, was in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != was["size"] or sha256_file(path) != was["sha256"]:
            return f"{name} is damaged: it is not what was written"
    return _lacking(folder)


def _lacking(folder: Path) -> str:
    """What a checkpoint must hold to go on from, whoever wrote it."""
    names = {path.name for path in folder.iterdir()}
    if STATE not in names:
        return f"{STATE} is missing: it was not written to the end"
    if any(name.startswith(_SHARDED) for name in names):
        return ""
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        return f"{', '.join(missing)} is missing: it was saved with save_only_model"
    return ""


def _folders(root: Path) -> list[Path]:
    """checkpoint-* by step, the newest last."""
    found = [path for path in root.glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    return sorted(found, key=_step)


def _step(folder: Path) -> int:
    tail = folder.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
