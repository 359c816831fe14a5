"""A run's GGUF -> a proved model in Ollama, and only then the public name.

Order: create the version NAME:<run> over the JSON API on every server, prove it there, write the
report; when all are proved, point NAME:latest at it, server by server. A version is never made
again under its tag: another publication of the same run gets NAME:<run>-2. When a proof fails, the
new version is removed and NAME:latest is untouched, unless the user forces it with a reason.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ft2ollama.aliases import digest_of, move_alias
from ft2ollama.base import Base
from ft2ollama.errors import GateError, UsageError, UserError
from ft2ollama.export import Exported
from ft2ollama.files import Progress, write_text
from ft2ollama.modelfile import Modelfile, as_text
from ft2ollama.ollama_api import Ollama, check_name
from ft2ollama.proof import Proof, Tick, write_report
from ft2ollama.proof.of_run import Ticks, gguf_of, prove_run
from ft2ollama.proof_weights import recompute_weights
from ft2ollama.runs import Run
from ft2ollama.versions import record_move

_SHOWN = 3  # failures on the terminal; the report has them all


@dataclass(frozen=True)
class Published:
    """name: what users run; tag: the immutable version; previous: what `name` pointed at before.

    host: the server.  way: how the name moved, `rename` or `copy`.
    """

    name: str
    tag: str
    previous: str | None
    proof: Proof
    host: str
    way: str


@dataclass(frozen=True)
class Watch:
    """Callbacks for a user interface: bytes uploaded, things checked, a status, a whole proof."""

    upload: Progress | None = None
    prompts: Tick | None = None
    replies: Tick | None = None
    effect: Tick | None = None
    proved: Callable[[Proof, str, Ollama], None] | None = None
    status: Callable[[str], None] | None = None


@dataclass(frozen=True)
class _Candidate:
    """A version on one server, proved, and what the public name was before it was made."""

    server: Ollama
    tag: str
    proof: Proof
    expected: str | None
    previous: str | None


def publish(  # noqa: PLR0913 - one option per thing a caller may decide
    run: Run,
    exported: Exported,
    base: Base,
    modelfile: Modelfile,
    name: str,
    *,
    servers: Sequence[Ollama],
    watch: Watch = Watch(),
    force: str = "",
) -> list[Published]:
    """Create and prove on every server, then move the public name on each.

    force: a reason to publish although a proof fails; it is written into the report and the log.
    Raises GateError (nothing published) that names the report.
    """
    public, wanted = public_names(name, run)
    write_text(run.folder / "Modelfile", _text(run, exported, base, modelfile))
    made: list[tuple[Ollama, str]] = []
    reports: list[Path] = []
    with run.lock(), run.stage("publish", {"gguf": exported.sha256, "name": public}) as stage:
        try:
            candidates = []
            adapter = None if run.is_whole else run.adapter
            written = recompute_weights(exported.path, base.folder, adapter)
            for server in servers:
                expected, previous = digest_of(server, public), _version_of(server, public)
                tag = _free_tag(server, wanted)
                made.append((server, tag))
                create_candidate(server, tag, exported, base, modelfile, watch)
                ticks = Ticks(watch.prompts, watch.replies, watch.effect)
                proof = prove_run(run, server, tag, exported, base, written, ticks)
                number = len(made)
                reports += write_report(
                    proof, run.proof, model=tag, server=server, forced=force, number=number
                )
                if watch.proved:
                    watch.proved(proof, tag, server)
                if proof.failures and not force:
                    raise _refusal(tag, server, proof, str(reports[-1]))
                candidates.append(_Candidate(server, tag, proof, expected, previous))
        except BaseException:
            for server, tag in made:
                with contextlib.suppress(UserError):  # the first error is the one to tell
                    server.delete(tag)
            raise
        published = _move_all(candidates, public, run, force)
        stage.outputs += [run.folder / "Modelfile", *reports]
        stage.detail.update(
            name=public,
            tag=published[0].tag,
            previous=published[0].previous,
            hosts=[one.host for one in published],
            forced=force,
            ollama=servers[0].version(),
        )
    return published


def _refusal(tag: str, server: Ollama, proof: Proof, report: str) -> GateError:
    shown, more = proof.failures[:_SHOWN], len(proof.failures) - _SHOWN
    return GateError(
        f"{tag} at {server.host} is not what was trained; nothing was published",
        "\n".join([*shown, *([f"and {more} more"] if more > 0 else [])]),
        f"read {report}, mend the cause, publish again",
    )


def _move_all(
    candidates: Sequence[_Candidate], public: str, run: Run, force: str
) -> list[Published]:
    """Move the name on every server; when one refuses, move it back where it has moved already."""
    published: list[Published] = []
    try:
        for one in candidates:
            published.append(_move(one, public, run, force))
    except UserError as error:
        for one, done in zip(candidates, published, strict=False):
            error.why += f"\n{_move_back(one, done)}"
        raise
    return published


def _move(one: _Candidate, public: str, run: Run, force: str) -> Published:
    """Point the public name at a proved version; a version equal to an older one is that one."""
    tag = _same_version(one) or one.tag
    if tag != one.tag:
        one.server.delete(one.tag)
    move = move_alias(one.server, public, tag, expected=one.expected)
    verdict = "equal" if not one.proof.failures else "forced"
    record_move(one.server, move, action="publish", run=run.id, proof=verdict, forced=force)
    return Published(public, tag, one.previous, one.proof, one.server.host, move.way)


def _move_back(one: _Candidate, done: Published) -> str:
    if one.previous is None:
        return f"{done.name} is new at {done.host} and points at {done.tag}"
    try:
        now = digest_of(one.server, done.tag)
        move = move_alias(one.server, done.name, one.previous, expected=now)
        record_move(one.server, move, action="rollback")
    except UserError as error:
        return f"{done.name} at {done.host} is {done.tag} now: {error.what}"
    return f"{done.name} at {done.host} was moved back to {one.previous}"


def _free_tag(server: Ollama, wanted: str) -> str:
    """`wanted`, or the first of wanted-2, wanted-3 ... that the server does not have."""
    have = server.models()
    if wanted not in have:
        return wanted
    return next(tag for n in count(2) if (tag := f"{wanted}-{n}") not in have)


def _same_version(one: _Candidate) -> str | None:
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
    if public == candidate:
        raise UsageError(
            f"{public} is the run's own version name",
            "the public name has to be another, so that it can move",
            f"ft2ollama publish {model}",
        )
    return public, candidate


def create_candidate(
    server: Ollama,
    tag: str,
    exported: Exported,
    base: Base,
    modelfile: Modelfile,
    watch: Watch,
) -> None:
    """Register the model under `tag`; an adapter goes on top of the GGUF it was trained on."""
    common: dict[str, Any] = {
        "template": modelfile.template,
        "system": modelfile.system or None,
        "parameters": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in modelfile.parameters.items()
        },
        "progress": watch.upload,
        "status": watch.status,
    }
    if exported.kind == "model":
        server.create(tag, gguf=exported.path, gguf_sha256=exported.sha256, **common)
        return
    server.create(
        tag,
        gguf=gguf_of(base),
        gguf_sha256=base.sha256,
        adapter=exported.path,
        adapter_sha256=exported.sha256,
        **common,
    )


def _text(run: Run, exported: Exported, base: Base, modelfile: Modelfile) -> str:
    path = "./" + exported.path.relative_to(run.folder).as_posix()
    if exported.kind == "model":
        return as_text(modelfile, source=path)
    return as_text(modelfile, source=str(gguf_of(base)), adapter=path)


def _version_of(server: Ollama, public: str) -> str | None:
    """The version that `public` points at now: the tag of the same name and digest."""
    models: Mapping[str, str] = server.models()
    digest = models.get(public)
    if digest is None:
        return None
    model = public.rpartition(":")[0]
    same = [
        name
        for name, other in models.items()
        if other == digest and name != public and name.rpartition(":")[0] == model
    ]
    return same[0] if same else public
