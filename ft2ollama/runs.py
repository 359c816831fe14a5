"""The run folder: one fine-tune, all its files, and a record of every stage.

    runs/<id>/
      config.yaml       the resolved config; `ft2ollama train --resume <id>` reads it
      run.json          {id, created, base, stages: {train: {status, inputs, outputs, ...}, ...}}
      events.jsonl      one JSON line per event, the same lines `--json` prints
      log.txt           everything, with tracebacks
      adapter/          what was trained, as a PEFT adapter for the base, or
      model/            the whole trained model, as a Hugging Face folder
      checkpoints/  gguf/  proof/  Modelfile  loss.png

A stage records the sha256 of what it read and of what it wrote. A stage whose inputs are unchanged
and whose outputs are still there is skipped. `run.json` is replaced atomically; a lock keeps two
processes out of one run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ft2ollama import __version__
from ft2ollama.errors import Interrupted, JobError, UsageError
from ft2ollama.files import sha256_file, write_json, write_text

_VERSIONS = ("torch", "transformers", "peft", "bitsandbytes", "gguf", "numpy", "ollama")


def runs_root() -> Path:
    """Where runs live: $FT2OLLAMA_RUNS, or `runs` in the working folder."""
    return Path(os.environ.get("FT2OLLAMA_RUNS") or "runs")


@dataclass
class Stage:
    """One stage while it runs; the caller adds the files it wrote and what is worth keeping."""

    outputs: list[Path] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)


class Run:
    """An opened run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    @property
    def adapter(self) -> Path:
        """The PEFT adapter folder."""
        return self.folder / "adapter"

    @property
    def model(self) -> Path:
        """The trained model as a Hugging Face folder, where an adapter alone does not tell it."""
        return self.folder / "model"

    @property
    def is_whole(self) -> bool:
        """Whether the run holds a whole model: it is then exported without the base."""
        return (self.model / "config.json").is_file()

    @property
    def gguf(self) -> Path:
        """The folder of exported GGUF files."""
        return self.folder / "gguf"

    @property
    def proof(self) -> Path:
        """What the trainer knows and the server must reproduce: prompts, ids, replies."""
        return self.folder / "proof"

    @property
    def calibration(self) -> Path:
        """What the layers met on the training data, for the quantizer; not every run has it."""
        return self.folder / "calibration.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of an unfinished training."""
        return self.folder / "checkpoints"

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.folder / "config.yaml"

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        try:
            record: dict[str, Any] = json.loads((self.folder / "run.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.folder} is not a run folder",
                f"run.json: {error}",
                "ft2ollama runs     # lists the runs",
            ) from error
        return record

    @property
    def lineage(self) -> dict[str, str]:
        """What else is to be said of where this run's model is from: cycle, dataset.sha256."""
        found: dict[str, str] = self.record.get("lineage", {})
        return found

    def note(self, **fields: Any) -> None:
        """Merge `fields` into run.json."""
        write_json(self.folder / "run.json", {**self.record, **fields})

    def stage_record(self, name: str) -> dict[str, Any]:
        """What run.json says of a stage; empty when it never started."""
        stage: dict[str, Any] = self.record["stages"].get(name, {})
        return stage

    def event(self, kind: str, **fields: Any) -> None:
        """Append a line to events.jsonl."""
        line = json.dumps(
            {"event": kind, "time": round(time.time(), 3), **fields}, ensure_ascii=False
        )
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def drop_events(self, *kinds: str) -> None:
        """Forget the events of these kinds: a training that starts anew has a new curve."""
        path = self.folder / "events.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if not any(f'"event": "{kind}"' in line for kind in kinds)]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of one kind; a last line cut by a crash is left out."""
        path, found = self.folder / "events.jsonl", []
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == kind:
                found.append(event)
        return found

    def is_current(self, name: str, inputs: Mapping[str, str]) -> bool:
        """Did this stage finish with these very inputs, and are its outputs untouched?"""
        stage = self.stage_record(name)
        return (
            stage.get("status") == "done"
            and stage["inputs"] == dict(inputs)
            and all(
                (self.folder / path).is_file() and sha256_file(self.folder / path) == digest
                for path, digest in stage["outputs"].items()
            )
        )

    @contextmanager
    def stage(self, name: str, inputs: Mapping[str, str]) -> Iterator[Stage]:
        """Record a stage as running, then as done, interrupted or failed."""
        began, stage = time.monotonic(), Stage()
        self._write_stage(name, status="running", inputs=inputs, outputs={})
        try:
            yield stage
        except BaseException as error:
            stopped = isinstance(error, (Interrupted, KeyboardInterrupt))
            self._write_stage(
                name,
                status="interrupted" if stopped else "failed",
                inputs=inputs,
                outputs={},
                seconds=round(time.monotonic() - began, 2),
                error=str(error).splitlines()[0] if str(error) else type(error).__name__,
            )
            raise
        outputs = {
            path.relative_to(self.folder).as_posix(): sha256_file(path) for path in stage.outputs
        }
        self._write_stage(
            name,
            status="done",
            inputs=inputs,
            outputs=outputs,
            seconds=round(time.monotonic() - began, 2),
            versions=_versions(),
            **stage.detail,
        )

    def _write_stage(self, name: str, /, *, inputs: Mapping[str, str], **fields: Any) -> None:
        record = self.record
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        record["stages"][name] = {"ended": started, **fields, "inputs": dict(inputs)}
        write_json(self.folder / "run.json", record)

    def is_in_use(self) -> bool:
        """Does a living process hold this run's lock?"""
        try:
            with self.lock():
                return False
        except JobError:
            return True

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of this run; the lock ends with the process, even by kill -9."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise JobError(
                f"run {self.id} is in use by another ft2ollama process",
                f"{self.folder}/.lock is held",
                "wait for it to end, or end that process",
            ) from error
        try:
            yield
        finally:
            lock.release()


def create_run(name: str, config_text: str, *, folder: Path | None = None) -> Run:
    """Make a run folder (or take the empty or unfinished one at `folder`) with its config."""
    folder = (folder or runs_root() / _new_id(name)).absolute()
    run = Run(folder)
    if not (folder / "run.json").exists():
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(
                f"output_dir {folder} holds files that are not a run of ft2ollama",
                "nothing of yours is overwritten",
                "choose another output_dir, or leave it out: runs/<id> is made for you",
            )
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "id": folder.name,
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
            "ft2ollama": __version__,
            "stages": {},
        }
        write_json(folder / "run.json", record)
    write_text(run.config_file, config_text)
    return run


def all_runs() -> list[Run]:
    """Every run below `runs_root()`, newest first."""
    found = [Run(path.parent.absolute()) for path in runs_root().glob("*/run.json")]
    return sorted(found, key=lambda run: (run.record["created"], run.id), reverse=True)


def find_run(ref: str) -> Run:
    """A run by path, id, unique beginning of an id, or `latest`."""
    if (Path(ref) / "run.json").is_file():
        return Run(Path(ref).absolute())
    runs = all_runs()
    if ref == "latest" and runs:
        return runs[0]
    exact = [run for run in runs if run.id == ref]
    matches = exact or [run for run in runs if run.id.startswith(ref)]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(run.id for run in (matches or runs)[:5]) or "none yet"
    what = f"{len(matches)} runs begin with {ref!r}" if matches else f"no run {ref!r}"
    raise UsageError(what, f"runs in {runs_root()}: {known}", "ft2ollama runs     # lists the runs")


def _new_id(name: str) -> str:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{name}" if name else stamp


def _versions() -> dict[str, str]:
    found = {"ft2ollama": __version__}
    for package in _VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
