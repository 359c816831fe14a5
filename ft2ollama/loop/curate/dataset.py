"""A curation -> train.jsonl, val.jsonl, fresh.jsonl and dataset.manifest.json.

The manifest's id is the sha256 of its canonical JSON without what differs between two machines that
did the same: the time, the run's name and the numbers the database gave to rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from ft2ollama import __version__
from ft2ollama.files import replacing, sha256_file, sha256_text, write_text
from ft2ollama.loop.curate.contamination import EvalItem
from ft2ollama.loop.curate.pipeline import Curation, Inputs
from ft2ollama.loop.curate.samples import FORMS, Sample
from ft2ollama.loop.records import canonical

MANIFEST = "dataset.manifest.json"
SCHEMA = "ft2ollama.dataset/1"
_OF_THE_PLACE = ("id", "created_at", "run_id")


@dataclass(frozen=True)
class Lineage:
    """What the manifest says of whence. parents: ids of the data sets before this one.

    curation: what else decided, such as tokenizer_sha256 and chat_template_sha256.
    """

    run_id: str = ""
    created_ms: int = 0
    parents: Sequence[str] = ()
    curation: Mapping[str, Any] = field(default_factory=dict)


def write_dataset(folder: Path, curation: Curation, inputs: Inputs, lineage: Lineage) -> str:
    """Write the files and the manifest; the id of the data set.

    Each file is whole or absent, the manifest comes last: a folder with one is complete.
    """
    parts = {"train.jsonl": curation.train, "val.jsonl": curation.val,
             "fresh.jsonl": curation.fresh}  # fmt: skip
    files = [_write(folder / name, samples) for name, samples in parts.items()]
    made = manifest(curation, inputs, lineage, files)
    write_text(folder / MANIFEST, json.dumps(made, ensure_ascii=False, indent=2) + "\n")
    return str(made["id"])


def manifest(
    curation: Curation, inputs: Inputs, lineage: Lineage, files: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The manifest with its id."""
    when = datetime.fromtimestamp(lineage.created_ms / 1000, timezone.utc)
    seqs = [row.seq for row in inputs.new]
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "id": "",
        "created_at": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "run_id": lineage.run_id,
        "files": list(files),
        "counts": curation.counts,
        "mix": _mix(curation.train),
        "pii": dict(curation.pii),
        "inputs": {
            "ledger_seq": [min(seqs), max(seqs)] if seqs else [],
            "record_set_sha256": record_set_sha256(row.rid for row in inputs.new),
            "parents": list(lineage.parents),
            "eval_sets": _eval_sets(inputs.items),
            "retired_eval_items": sorted(one.item.name for one in curation.retired),
        },
        "curation": {
            "config_sha256": config_sha256(inputs),
            "code": f"ft2ollama {__version__}",
            "seed": inputs.seed,
            "cutoff_len": inputs.needs.cutoff_len,
            **lineage.curation,
        },
    }
    made["id"] = dataset_id(made)
    return made


def dataset_id(made: Mapping[str, Any]) -> str:
    """sha256 of what the manifest says, but for when and where it was made."""
    kept = {name: value for name, value in made.items() if name not in _OF_THE_PLACE}
    inputs = {name: value for name, value in made["inputs"].items() if name != "ledger_seq"}
    return f"sha256:{sha256_text(canonical({**kept, 'inputs': inputs}))}"


def record_set_sha256(rids: Any) -> str:
    """Identity of a set of rows: sha256 of its sorted rids, one a line."""
    return sha256_text("\n".join(sorted(rids)))


def config_sha256(inputs: Inputs) -> str:
    """Identity of the settings; of general_data its lines count, not its path."""
    settings = inputs.needs.config.model_dump(mode="json", exclude={"general_data"})
    return sha256_text(canonical([settings, [list(row) for row in inputs.general]]))


def verify(folder: Path) -> list[str]:
    """What is wrong with the files of a data set; empty when they are what the manifest says."""
    made = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    wrong = [] if dataset_id(made) == made["id"] else [f"{MANIFEST}: its id is not its hash"]
    for file in made["files"]:
        path = folder / file["path"]
        if not path.is_file():
            wrong.append(f"{file['path']}: not there")
        elif sha256_file(path) != file["sha256"]:
            wrong.append(f"{file['path']}: changed since it was written")
    counts = made["counts"]
    total = counts["kept"] + counts["eval_fresh"] + counts["superseded"]
    if counts["pending"] != total + sum(counts["dropped"].values()):
        wrong.append(f"{MANIFEST}: the counts do not add up")
    return wrong


def _write(path: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    digest, size = sha256(), 0
    with replacing(path) as part, part.open("wb") as file:
        for sample in samples:
            line = json.dumps(sample.record, ensure_ascii=False).encode() + b"\n"
            digest.update(line)
            size += len(line)
            file.write(line)
    return {"path": path.name, "sha256": digest.hexdigest(), "bytes": size,
            "samples": len(samples)}  # fmt: skip


def _mix(samples: Sequence[Sample]) -> dict[str, int]:
    counts = Counter(one.form for one in samples if one.role == "new")
    roles = Counter(one.role for one in samples)
    return {
        **{form: counts[form] for form in FORMS},
        "replay_old": roles["replay"],
        "replay_general": roles["general"],
    }


def _eval_sets(items: Sequence[EvalItem]) -> list[dict[str, Any]]:
    sets: dict[tuple[str, int], list[str]] = {}
    for item in items:
        told = canonical([item.item_id, item.question, item.reference])
        sets.setdefault((item.set_name, item.version), []).append(told)
    return [
        {"name": name, "version": version, "items": len(told),
         "sha256": sha256_text("\n".join(sorted(told)))}
        for (name, version), told in sorted(sets.items())
    ]  # fmt: skip
