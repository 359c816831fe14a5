"""The steps of a cycle up to its GGUF: snapshot, curate, train, export.

Each takes a cycle in one state to the next and may be called again after a kill: files are whole or
absent and come before the row that names them; that row and the new state are one transaction.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from ft2ollama.config import load_config
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.errors import JobError
from ft2ollama.files import sha256_file, write_text
from ft2ollama.loop import tables as t
from ft2ollama.loop.children import run_child
from ft2ollama.loop.crashpoint import crashpoint
from ft2ollama.loop.curate.dataset import Lineage, record_set_sha256, write_dataset
from ft2ollama.loop.curate.pipeline import curate
from ft2ollama.loop.curate.rows import Row
from ft2ollama.loop.curate.rules import Needs, text_in
from ft2ollama.loop.curate.store import pending_rids, read_inputs, write_verdicts
from ft2ollama.loop.goods import config_for, exported_of
from ft2ollama.loop.ledger import Ledger, insert_new, now_ms
from ft2ollama.loop.place import Place
from ft2ollama.loop.settings import RetrainConfig
from ft2ollama.loop.states import Cycle, advance
from ft2ollama.loop.texts import Sentence
from ft2ollama.runs import Run
from ft2ollama.train.bases import named_base


class NoGood(JobError):
    """A cycle that another try would end alike: it is closed and gives its rows back."""


def config_of(cycle: Cycle) -> RetrainConfig:
    """The config with which the cycle began, whatever the file says now."""
    return RetrainConfig.model_validate(cycle.config["retrain"])


def detail_of(ledger: Ledger, run_id: str, state: str) -> dict[str, Any]:
    """What a cycle's step wrote down when it reached `state`."""
    event = t.run_event
    wanted = select(event.c.detail).where(event.c.run_id == run_id, event.c.to_state == state)
    with ledger.read() as connection:
        found: dict[str, Any] = json.loads(connection.execute(wanted).scalar() or "{}")
    return found


def snapshot(place: Place, cycle: Cycle) -> Cycle:
    """CREATED -> SNAPSHOTTED: what is pending now belongs to this cycle; what comes later waits."""

    def take(connection: Connection) -> None:
        rids = pending_rids(connection, cycle.line)
        for start in range(0, len(rids), 500):
            insert_new(connection, t.run_record, [
                {"run_id": cycle.run_id, "rid": rid, "role": "new", "verdict": "pending"}
                for rid in rids[start : start + 500]
            ])  # fmt: skip
        here = t.run.c.run_id == cycle.run_id
        digest = record_set_sha256(rids)
        connection.execute(update(t.run).where(here).values(record_set_sha256=digest))

    return advance(place.ledger, cycle, "SNAPSHOTTED", also=take)


def curate_rows(place: Place, cycle: Cycle) -> Cycle:
    """SNAPSHOTTED -> CURATED: a verdict for every row, and the data set."""
    record = t.run_record
    mine = (record.c.run_id == cycle.run_id) & (record.c.role == "new")
    with place.ledger.read() as connection:
        rids = list(connection.execute(select(record.c.rid).where(mine)).scalars())
        needs = _needs(place, cycle)
        inputs = read_inputs(connection, cycle.line, needs, cycle.seed, rids=rids)
    found = curate(inputs)
    folder = place.folder(cycle.run_id) / "dataset"
    parents = _parents(place.ledger, cycle)
    made = write_dataset(folder, found, inputs, Lineage(cycle.run_id, cycle.created_ms, parents))
    crashpoint("data set written")

    def write(connection: Connection) -> None:
        write_verdicts(connection, cycle.run_id, found, now_ms())
        keep_outputs(connection, cycle.run_id, "curate", folder.iterdir())

    place.say(
        Sentence(
            "curated",
            rows=len(rids),
            kept=found.counts["kept"],
            fresh=len(found.fresh),
            left=sum(found.counts["dropped"].values()) + found.counts["superseded"],
        )
    )
    detail = {"dataset": made, "counts": found.counts, "train": len(found.train)}
    return advance(place.ledger, cycle, "CURATED", detail, also=write)


def _needs(place: Place, cycle: Cycle) -> Needs:
    """Rows that training would have to cut are left out, so their length counts."""
    config = load_config(_kept_config(place, cycle)).config
    tokenizer = Tokenizer(named_base(config).tokenizer_folder)

    def tokens(row: Row) -> int:
        said = [text_in(message) for message in row.messages]
        return len(tokenizer.encode("\n".join([*said, row.answer]))[0])

    return Needs(config_of(cycle).curate, cycle.created_ms, config.cutoff_len, tokens)


def _kept_config(place: Place, cycle: Cycle) -> Path:
    path = place.folder(cycle.run_id) / "train.given.yaml"
    write_text(path, cycle.config["train"])
    return path


def _parents(ledger: Ledger, cycle: Cycle) -> list[str]:
    """The data set of the cycle before, which this one goes on from."""
    if cycle.parent_run is None:
        return []
    known = detail_of(ledger, cycle.parent_run, "CURATED").get("dataset")
    return [known] if known else []


def train(place: Place, cycle: Cycle) -> Cycle:
    """CURATED -> TRAINED, in a child process; a second start goes on from its checkpoint."""
    check_outputs(place, cycle, "curate")
    if not detail_of(place.ledger, cycle.run_id, "CURATED")["train"]:
        raise NoGood(
            "no row was kept, so there is nothing to train on",
            f"cycle {cycle.run_id} gives its rows back",
            f"ft2ollama collect preview --line {cycle.line}     # says why, row by row",
        )
    folder, training = place.folder(cycle.run_id), place.training(cycle.run_id)
    text = config_for(_kept_config(place, cycle), folder / "dataset", training)
    write_text(folder / "train.yaml", text)
    run_child(place, _words_to_train(training, folder / "train.yaml"), folder)
    crashpoint("trained")
    run = Run(training)
    stage = run.stage_record("train")
    names = ("eval_loss", "last_loss", "steps", "train_seconds")
    detail = {name: stage.get(name) for name in names}
    files = [run.folder / name for name in stage["outputs"]]
    return advance(
        place.ledger, cycle, "TRAINED", detail,
        also=lambda connection: keep_outputs(connection, cycle.run_id, "train", files),
    )  # fmt: skip


def _words_to_train(training: Path, config: Path) -> list[str]:
    """Resume a run that has begun; one that was killed before it knew its base begins anew."""
    if (training / "run.json").is_file() and "base" in Run(training).record:
        return ["train", "--resume", str(training)]
    shutil.rmtree(training, ignore_errors=True)
    return ["train", str(config)]


def export_run(place: Place, cycle: Cycle) -> Cycle:
    """TRAINED -> EXPORTED: the GGUF, written by a child process."""
    check_outputs(place, cycle, "train")
    run = Run(place.training(cycle.run_id))
    made = str(detail_of(place.ledger, cycle.run_id, "CURATED")["dataset"])
    run.note(lineage={"cycle": cycle.run_id, "dataset.sha256": made.removeprefix("sha256:")})
    run_child(place, ["export", str(run.folder)], place.folder(cycle.run_id))
    crashpoint("exported")
    exported = exported_of(run)
    detail = {"sha256": exported.sha256, "kind": exported.kind, "quant": exported.quant}
    return advance(
        place.ledger, cycle, "EXPORTED", detail,
        also=lambda connection: keep_outputs(connection, cycle.run_id, "export", [exported.path]),
    )  # fmt: skip


def keep_outputs(connection: Connection, run_id: str, stage: str, files: Iterable[Path]) -> None:
    """A row of stage_output for each file."""
    for path in sorted(files):
        insert_new(connection, t.stage_output, [{
            "run_id": run_id, "stage": stage, "path": str(path), "sha256": sha256_file(path),
            "bytes": path.stat().st_size,
        }])  # fmt: skip


def check_outputs(place: Place, cycle: Cycle, stage: str) -> None:
    """Are a stage's files what its rows say? Raises NoGood: nothing is trained on changed rows."""
    out = t.stage_output
    wanted = select(out.c.path, out.c.sha256).where(
        out.c.run_id == cycle.run_id, out.c.stage == stage
    )
    with place.ledger.read() as connection:
        known = dict(connection.execute(wanted).all())
    wrong = [
        path for path, digest in sorted(known.items())
        if not _is(Path(path), digest)
    ]  # fmt: skip
    if wrong:
        raise NoGood(
            f"{len(wrong)} file(s) of cycle {cycle.run_id} changed after they were written",
            "\n".join(wrong),
            "run ft2ollama retrain again: the rows were given back",
        )


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest


Step = Callable[[Place, Cycle], Cycle]
STEPS: Mapping[str, Step] = {
    "CREATED": snapshot,
    "SNAPSHOTTED": curate_rows,
    "CURATED": train,
    "TRAINED": export_run,
}
