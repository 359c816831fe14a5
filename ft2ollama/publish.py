"""A run's GGUF -> a proved model in Ollama, and only then the public name.

Order: make and prove the version NAME:<run> on every server (candidate.py); when all are proved,
point NAME:latest at it, server by server, and NAME:previous at what it was. A version is never made
again under its tag: another publication of the same run gets NAME:<run>-2. When a proof fails, the
new version is removed and NAME:latest is untouched, unless the user forces it with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ft2ollama.aliases import digest_of, move_alias
from ft2ollama.base import Base
from ft2ollama.candidate import NOBODY, Candidate, Goods, Watch, propose
from ft2ollama.errors import UsageError, UserError
from ft2ollama.export import Exported
from ft2ollama.modelfile_values import license_texts
from ft2ollama.ollama_api import Ollama, check_name
from ft2ollama.proof import Proof
from ft2ollama.runs import Run
from ft2ollama.versions import is_previous, previous_name, record_move
from ft2ollama.way_back import keep_previous, open_way


@dataclass(frozen=True)
class Published:
    """name: what users run; tag: the immutable version; previous: what `name` pointed at before.

    host: the server.  way: how the name moved, `rename` or `copy`.  parameters: the Modelfile's.
    """

    name: str
    tag: str
    previous: str | None
    proof: Proof
    host: str
    way: str
    parameters: Mapping[str, Any]


def publish(
    goods: Goods,
    name: str,
    *,
    servers: Sequence[Ollama],
    watch: Watch = NOBODY,
    force: str = "",
) -> list[Published]:
    """Create and prove on every server, then move the public name on each.

    force: a reason to publish although a proof fails; it is written into the report and the log.
    Raises what `propose` raises; then nothing was published.
    """
    run, names = goods.run, public_names(name, goods.run)
    inputs = {"gguf": goods.exported.sha256, "name": names[0]}
    with run.lock(), run.stage("publish", inputs) as stage:
        candidates = propose(goods, names, servers, watch=watch, force=force)
        published = _move_all(candidates, names[0], force)
        reports = [report for one in candidates for report in one.reports]
        stage.outputs += [run.folder / "Modelfile", *reports]
        stage.detail.update(
            name=names[0],
            tag=published[0].tag,
            previous=published[0].previous,
            hosts=[one.host for one in published],
            forced=force,
            ollama=servers[0].version(),
        )
    return published


def _move_all(candidates: Sequence[Candidate], public: str, force: str) -> list[Published]:
    """Move the name on every server; when one refuses, move it back where it has moved already."""
    published: list[Published] = []
    try:
        for one in candidates:
            published.append(_move(one, public, force))
    except UserError as error:
        for one, done in zip(candidates, published, strict=False):
            error.why += f"\n{_move_back(one, done)}"
        raise
    return published


def _move(one: Candidate, public: str, force: str) -> Published:
    """Point the public name at a proved version; a version equal to an older one is that one."""
    tag = _same_version(one) or one.tag
    if tag != one.tag:
        one.server.delete(one.tag)
    keep_previous(one.server, public, tag)
    move = move_alias(one.server, public, tag, expected=one.expected)
    goods, verdict = one.goods, "equal" if not one.proof.failures else "forced"
    record_move(one.server, move, action="publish", run=goods.run.id, proof=verdict, forced=force)
    return Published(
        public, tag, one.previous, one.proof, one.server.host, move.way, goods.modelfile.parameters
    )


def _move_back(one: Candidate, done: Published) -> str:
    if one.previous is None:
        return f"{done.name} is new at {done.host} and points at {done.tag}"
    try:
        now = digest_of(one.server, done.tag)
        alone = one.previous == done.name  # what it was had no other name
        was = previous_name(done.name) if alone else one.previous
        move = move_alias(one.server, done.name, was, expected=now)
        record_move(one.server, move, action="rollback")
        open_way(one.server, done.name)
    except UserError as error:
        return f"{done.name} at {done.host} is {done.tag} now: {error.what}"
    return f"{done.name} at {done.host} was moved back to {one.previous}"


def _same_version(one: Candidate) -> str | None:
    """An older tag of the same model with the very same content."""
    models = one.server.models()
    same = [
        name
        for name, digest in models.items()
        if digest == models.get(one.tag) and name != one.tag and one.tag.startswith(name)
    ]
    return min(same, key=len, default=None)


def public_names(name: str, run: Run) -> tuple[str, str]:
    """(`NAME:latest`, `NAME:<run>`); a tag of the user's own becomes the public one."""
    check_name(name)
    model, _, tag = name.rpartition(":") if ":" in name.rsplit("/", 1)[-1] else (name, "", "")
    candidate = f"{model}:{re.sub(r'[^A-Za-z0-9._-]', '-', run.id)[:80]}"
    check_name(candidate)
    public = f"{model}:{tag or 'latest'}"
    if is_previous(public):
        raise UsageError(
            f"{public} is kept by ft2ollama",
            "it is what the public name was before it moved",
            f"ft2ollama publish {model}",
        )
    if public == candidate:
        raise UsageError(
            f"{public} is the run's own version name",
            "the public name has to be another, so that it can move",
            f"ft2ollama publish {model}",
        )
    return public, candidate


def licenses(run: Run, exported: Exported, base: Base) -> tuple[str, ...]:
    """LICENSE texts of the model: the base's own, and where the model is from."""
    about = {"run_id": run.id, "base": base.name, "base_sha256": base.sha256}
    about["data_sha256"] = run.stage_record("train")["inputs"].get("data", "")
    about |= {key.replace(".", "_"): value for key, value in run.lineage.items()}
    return license_texts(base.folder, exported.path.with_suffix(".json"), about)
