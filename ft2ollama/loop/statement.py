"""A promoted cycle as an in-toto Statement with a SLSA provenance predicate, for other tools.

In: a cycle whose name has moved.  Out: `provenance.json` in its run folder, unsigned; sign it with
any in-toto or sigstore tool. The same ledger gives the same bytes. Local paths, hooks and the
server's address stay out: the file may go where the model goes.

Fields: in-toto/attestation spec/v1 (statement.md, resource_descriptor.md, digest_set.md), SLSA
provenance v1 (buildDefinition, runDetails).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from sqlalchemy import func, select

from ft2ollama import __version__
from ft2ollama.files import sha256_file, sha256_text, write_json
from ft2ollama.loop import states
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.dataset import MANIFEST
from ft2ollama.loop.place import Place
from ft2ollama.loop.records import canonical
from ft2ollama.loop.states import Cycle
from ft2ollama.loop.steps import detail_of
from ft2ollama.runs import Run

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:ft2ollama:retrain:v1"
BUILDER = "urn:ft2ollama:local"
FILE = "provenance.json"
_PRIVATE = ("notify", "host")  # addresses, and whatever a hook's command line holds
_WEIGHTS = (".safetensors", ".gguf")

Json = dict[str, Any]


def write_statement(place: Place, cycle: Cycle, deployment: Mapping[str, Any]) -> Path:
    """Write the statement of a cycle. deployment: its row, which names the version."""
    path = place.training(cycle.run_id) / FILE
    write_json(path, statement(place, cycle, deployment))
    return path


def statement(place: Place, cycle: Cycle, deployment: Mapping[str, Any]) -> Json:
    """The statement as a value."""
    run = Run(place.training(cycle.run_id))
    manifest = json.loads((place.folder(cycle.run_id) / "dataset" / MANIFEST).read_text("utf-8"))
    return {
        "_type": STATEMENT,
        "subject": [_thing(deployment["to_tag"], deployment["to_digest"]), *_files(place, cycle)],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"line": cycle.line, **_config(cycle)},
                "internalParameters": _choices(place, cycle, run),
                "resolvedDependencies": list(_materials(place, cycle, run, manifest)),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"ft2ollama": __version__}},
                "metadata": _times(place, cycle),
                "byproducts": list(_evidence(place, cycle, run)),
            },
        },
    }


def _thing(name: str, digest: str, **more: Any) -> Json:
    """A ResourceDescriptor."""
    return {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}, **more}


def _files(place: Place, cycle: Cycle) -> Iterator[Json]:
    """The GGUF, then the trained weights, by name."""
    for stage in ("export", "train"):
        for path, digest in sorted(_outputs(place, cycle, stage).items()):
            if path.suffix in _WEIGHTS and path.parent.name in ("gguf", "adapter", "model"):
                yield _thing(f"{path.parent.name}/{path.name}", digest)


def _outputs(place: Place, cycle: Cycle, stage: str) -> dict[Path, str]:
    out = t.stage_output
    here = (out.c.run_id == cycle.run_id) & (out.c.stage == stage)
    with place.ledger.read() as connection:
        rows = connection.execute(select(out.c.path, out.c.sha256).where(here)).all()
    return {Path(path): digest for path, digest in rows}


def _config(cycle: Cycle) -> Json:
    """Both configs as the cycle began with them, paths by their last part."""
    retrain = {k: v for k, v in cycle.config["retrain"].items() if k not in _PRIVATE}
    return {"retrain": _named(retrain), "train": _named(yaml.safe_load(cycle.config["train"]))}


def _named(value: Any) -> Any:
    """A value without local folders."""
    if isinstance(value, Mapping):
        return {str(key): _named(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(one) for one in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _choices(place: Place, cycle: Cycle, run: Run) -> Json:
    exported = detail_of(place.ledger, cycle.run_id, "EXPORTED")
    trained = detail_of(place.ledger, cycle.run_id, "TRAINED")
    return {
        "seed": cycle.seed,
        "steps": trained.get("steps"),
        "kind": exported.get("kind"),
        "quant": exported.get("quant"),
        "template_sha256": sha256_file(run.proof / "template.json"),
    }


def _materials(place: Place, cycle: Cycle, run: Run, manifest: Json) -> Iterator[Json]:
    """What went in: base, rows, files made of them, questions of the gate, programs."""
    how = "the GGUF's bytes, or names and sha256 of the folder's model files"
    yield _thing("base", cycle.base_sha256, annotations={
        "ref": _named(cycle.base_ref), "sha256_of": how,
    })  # fmt: skip
    yield _thing("config", cycle.config_sha256)
    yield _thing("rows", manifest["inputs"]["record_set_sha256"], annotations={
        "sha256_of": "their sorted ids, one a line", "verdicts": _verdicts(place, cycle),
    })  # fmt: skip
    for path, digest in sorted(_outputs(place, cycle, "curate").items()):
        more = {"annotations": {"id": manifest["id"]}} if path.name == MANIFEST else {}
        yield _thing(f"dataset/{path.name}", digest, **more)
    for one in manifest["inputs"]["eval_sets"]:
        yield _thing(f"questions/{one['name']}@{one['version']}", one["sha256"])
    if before := detail_of(place.ledger, cycle.run_id, "EVALUATED").get("champion_digest"):
        yield _thing("judged against", before)
    for name, version in sorted(run.stage_record("train").get("versions", {}).items()):
        yield {"name": name, "uri": f"pkg:pypi/{name}@{quote(version, safe='')}"}


def _verdicts(place: Place, cycle: Cycle) -> Json:
    record = t.run_record
    wanted = (
        select(record.c.verdict, func.count())
        .where(record.c.run_id == cycle.run_id)
        .group_by(record.c.verdict)
        .order_by(record.c.verdict)
    )
    with place.ledger.read() as connection:
        return dict(connection.execute(wanted).all())


def _times(place: Place, cycle: Cycle) -> Json:
    """Times of the ledger's events, so that a second writing gives the same file."""
    newest = select(func.max(t.run_event.c.ts_ms)).where(t.run_event.c.run_id == cycle.run_id)
    with place.ledger.read() as connection:
        ended = connection.execute(newest).scalar_one()
    return {
        "invocationId": cycle.run_id,
        "startedOn": _utc(cycle.created_ms),
        "finishedOn": _utc(ended),
    }


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _evidence(place: Place, cycle: Cycle, run: Run) -> Iterator[Json]:
    """What the cycle found on its way: proof, gate, and the end of its chain of events."""
    for path in sorted(run.proof.glob("proof*.json")):
        yield _thing(f"proof/{path.name}", sha256_file(path))
    gate = t.gate_result
    wanted = select(gate).where(gate.c.run_id == cycle.run_id)
    with place.ledger.read() as connection:
        rows = connection.execute(wanted).mappings().all()
        head = states.head(connection, cycle.run_id)
    ordered = sorted(rows, key=lambda row: row["detail"]["number"])
    rules = {
        row["rule"]: {name: row[name] for name in ("passed", "value", "threshold")}
        for row in ordered
    }
    yield _thing("gate", sha256_text(canonical(rules)), annotations=rules)
    yield _thing("events", head, annotations={"sha256_of": "the newest event before this"})
