"""A run's GGUF -> a proved model in Ollama, and only then the public name.

Order: create NAME:<run> over the JSON API, prove it, write the report, point NAME:latest at it.
When a proof fails, NAME:<run> is removed again and NAME:latest is untouched.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ft2ollama.base import Base
from ft2ollama.errors import GateError, UsageError, UserError
from ft2ollama.export import Exported
from ft2ollama.files import Progress, read_jsonl, write_text
from ft2ollama.modelfile import Modelfile, as_text
from ft2ollama.ollama_api import Ollama, check_name
from ft2ollama.proof import (
    AGREEMENT,
    Proof,
    Tick,
    check_replies,
    prove_prompts,
    write_report,
)
from ft2ollama.runs import Run


@dataclass(frozen=True)
class Published:
    """name: what users run; tag: the immutable version; previous: what `name` pointed at before."""

    name: str
    tag: str
    previous: str | None
    proof: Proof


@dataclass(frozen=True)
class Watch:
    """Callbacks for a user interface: bytes uploaded, prompts and replies checked, a status."""

    upload: Progress | None = None
    prompts: Tick | None = None
    replies: Tick | None = None
    status: Callable[[str], None] | None = None


def publish(
    run: Run,
    exported: Exported,
    base: Base,
    modelfile: Modelfile,
    name: str,
    *,
    server: Ollama,
    watch: Watch = Watch(),
) -> Published:
    """Create, prove, move the public name; GateError (nothing published) names the report."""
    public, tag = public_names(name, run)
    write_text(run.folder / "Modelfile", _text(run, exported, base, modelfile))
    with run.lock(), run.stage("publish", {"gguf": exported.sha256, "name": public}) as stage:
        create_candidate(server, tag, exported, base, modelfile, watch)
        try:
            proof = prove(run, server, tag, exported.quant, watch)
            reports = write_report(proof, run.proof, model=tag, server=server)
            if proof.failures:
                raise GateError(
                    f"{tag} is not what was trained; nothing was published",
                    "\n".join(proof.failures[:8]),
                    f"read {reports[1]}, mend the cause, publish again",
                )
        except BaseException:
            with contextlib.suppress(UserError):  # the first error is the one to tell
                server.delete(tag)
            raise
        previous = _tag_of(server, public)
        server.copy(tag, public)
        stage.outputs += [run.folder / "Modelfile", *reports]
        stage.detail.update(
            name=public, tag=tag, previous=previous, host=server.host, ollama=server.version()
        )
    return Published(public, tag, previous, proof)


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
        gguf=_base_gguf(base),
        gguf_sha256=base.sha256,
        adapter=exported.path,
        adapter_sha256=exported.sha256,
        **common,
    )


def prove(run: Run, server: Ollama, model: str, quant: str, watch: Watch) -> Proof:
    """Both proofs of `model` against the run's proof files."""
    template = json.loads((run.proof / "template.json").read_text("utf-8"))
    prompts = prove_prompts(server, model, read_jsonl(run.proof / "prompts.jsonl"), watch.prompts)
    if not all(check.equal for check in prompts):
        return Proof(tuple(prompts), (), 0.0)  # replies to another prompt would prove nothing
    references = read_jsonl(run.proof / "replies.jsonl")
    replies = check_replies(server, model, references, template["stop"], watch.replies)
    return Proof(tuple(prompts), tuple(replies), AGREEMENT[quant])


def _base_gguf(base: Base) -> Any:
    if base.gguf is None:
        raise UsageError(
            "an adapter needs its base as a GGUF in Ollama",
            f"{base.ref} is a Hugging Face model",
            "ft2ollama export --as model     # one merged file, runs everywhere",
        )
    return base.gguf


def _text(run: Run, exported: Exported, base: Base, modelfile: Modelfile) -> str:
    path = "./" + exported.path.relative_to(run.folder).as_posix()
    if exported.kind == "model":
        return as_text(modelfile, source=path)
    return as_text(modelfile, source=str(_base_gguf(base)), adapter=path)


def _tag_of(server: Ollama, public: str) -> str | None:
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
