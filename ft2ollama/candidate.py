"""A run's model as a new version on a server: looked at, sent, proved. No public name moves here.

Order: everything that can be known is checked before a byte is sent; the version NAME:<run> is made
over the JSON API; what the server then holds and does is held against the run. A version that is
not proved is removed again, with all others of the same proposal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from ft2ollama.aliases import digest_of
from ft2ollama.base import Base
from ft2ollama.config import load_config
from ft2ollama.errors import GateError, UserError
from ft2ollama.examples import add_examples
from ft2ollama.export import Exported
from ft2ollama.files import Progress, write_text
from ft2ollama.modelfile import Modelfile, as_text
from ft2ollama.ollama_api import Ollama
from ft2ollama.preflight import Upload, preflight
from ft2ollama.proof import Proof, Tick, write_report
from ft2ollama.proof.of_run import Ticks, gguf_of, prove_run
from ft2ollama.proof_weights import WeightsCheck, recompute_weights
from ft2ollama.runs import Run
from ft2ollama.served import check_bos, read_template
from ft2ollama.unasked import WITHOUT_SWITCH, differs, thinks_unasked, without_switch
from ft2ollama.versions import previous_name

_SHOWN = 3  # failures on the terminal; the report has them all


@dataclass(frozen=True)
class Watch:
    """Callbacks for a user interface: bytes uploaded, things checked, a status, a whole proof.

    warn: what the user should not miss, e.g. that a file is sent again.
    """

    upload: Progress | None = None
    prompts: Tick | None = None
    replies: Tick | None = None
    effect: Tick | None = None
    proved: Callable[[Proof, str, Ollama], None] | None = None
    status: Callable[[str], None] | None = None
    warn: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Goods:
    """What is published: a run, its GGUF, the base, and what Ollama is told of it."""

    run: Run
    exported: Exported
    base: Base
    modelfile: Modelfile


@dataclass(frozen=True)
class Candidate:
    """A version on one server, proved.

    expected, previous: digest and version of the public name before the version was made.
    reports: proof.json and proof.md.
    """

    goods: Goods
    server: Ollama
    tag: str
    proof: Proof
    expected: str | None
    previous: str | None
    reports: tuple[Path, ...]


NOBODY = Watch()


def propose(
    goods: Goods,
    names: tuple[str, str],
    servers: Sequence[Ollama],
    *,
    watch: Watch = NOBODY,
    force: str = "",
) -> list[Candidate]:
    """Create and prove a version on every server; all of them, or none is left behind.

    names: the public name, which stays as it is, and the version's.  force: a reason to keep a
    version although a proof fails.  Raises what `preflight` finds before anything is sent, and
    GateError that names the report.
    """
    _look(goods, names, servers, watch)
    run, adapter = goods.run, None if goods.run.is_whole else goods.run.adapter
    write_text(run.folder / "Modelfile", _text(goods, goods.modelfile))
    written = recompute_weights(goods.exported.path, goods.base.folder, adapter)
    candidates: list[Candidate] = []
    with contextlib.ExitStack() as undo:
        for number, server in enumerate(servers, 1):
            tag = _free_tag(server, names[1])
            undo.callback(_remove, server, tag)
            one = _proved(goods, (names[0], tag), server, written, watch, (force, number))
            if watch.proved:
                watch.proved(one.proof, tag, server)
            if one.proof.failures and not force:
                raise _refusal(one)
            if goods.modelfile.messages:
                add_examples(server, tag, goods.modelfile.messages)
            candidates.append(one)
        undo.pop_all()
    return candidates


def _look(goods: Goods, names: tuple[str, str], servers: Sequence[Ollama], watch: Watch) -> None:
    """Everything that can be known before a byte is sent."""
    if goods.exported.kind == "adapter":
        from converters import read_gguf

        template = read_template(goods.run.proof / "template.json")
        check_bos(template, read_gguf(gguf_of(goods.base)).values, goods.base.name)
    upload = _upload(goods.exported, goods.base)
    for note in preflight(servers, names, goods.modelfile.parameters, upload):
        if watch.warn:
            watch.warn(note)


def _proved(
    goods: Goods,
    names: tuple[str, str],
    server: Ollama,
    written: WeightsCheck,
    watch: Watch,
    report: tuple[str, int],
) -> Candidate:
    """Make and prove one version.  report: why it is forced, and its number among the servers."""
    public, tag = names
    expected, previous = digest_of(server, public), _version_of(server, public)
    create_candidate(server, tag, goods.exported, goods.base, goods.modelfile, watch)
    thinks = _fit(goods, server, tag, watch)
    ticks = Ticks(watch.prompts, watch.replies, watch.effect)
    proof = prove_run(
        goods.run, server, tag, goods.exported, goods.base, written, ticks, thinks=thinks
    )
    forced, number = report
    reports = write_report(
        proof, goods.run.proof, model=tag, server=server, forced=forced, number=number
    )
    return Candidate(goods, server, tag, proof, expected, previous, tuple(reports))


def _fit(goods: Goods, server: Ollama, tag: str, watch: Watch) -> bool:
    """Make the version anew where this server needs it said otherwise; False: without thinking."""
    modelfile, thinks = goods.modelfile, True
    template = read_template(goods.run.proof / "template.json")
    thinking = load_config(goods.run.config_file).config.enable_thinking
    if differs(template, thinking) and thinks_unasked(server, tag):
        plain, thinks = without_switch(template, thinking), False
        system = plain.system if modelfile.system == template.system else modelfile.system
        modelfile = replace(modelfile, template=plain.gotmpl, system=system)
        create_candidate(server, tag, goods.exported, goods.base, modelfile, watch)
        if watch.warn:
            watch.warn(WITHOUT_SWITCH)
    modelfile = replace(modelfile, parser=server.show(tag).parser)
    if modelfile != goods.modelfile:
        write_text(goods.run.folder / "Modelfile", _text(goods, modelfile))
    return thinks


def _remove(server: Ollama, tag: str) -> None:
    with contextlib.suppress(UserError):  # the first error is the one to tell
        server.delete(tag)


def _refusal(one: Candidate) -> GateError:
    failures = one.proof.failures
    shown, more = failures[:_SHOWN], len(failures) - _SHOWN
    return GateError(
        f"{one.tag} at {one.server.host} is not what was trained; nothing was published",
        "\n".join([*shown, *([f"and {more} more"] if more > 0 else [])]),
        f"read {one.reports[-1]}, mend the cause, publish again",
    )


def _free_tag(server: Ollama, wanted: str) -> str:
    """`wanted`, or the first of wanted-2, wanted-3 ... that the server does not have."""
    have = server.models()
    if wanted not in have:
        return wanted
    return next(tag for n in count(2) if (tag := f"{wanted}-{n}") not in have)


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
        "license": list(modelfile.license) or None,
        "parameters": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in modelfile.parameters.items()
        },
        "progress": watch.upload,
        "status": watch.status,
        "trouble": watch.warn,
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


def _upload(exported: Exported, base: Base) -> Upload:
    """What goes to the server: a model, or the base's own file and the adapter."""
    if exported.kind == "model":
        return Upload(exported.path, exported.sha256)
    return Upload(gguf_of(base), base.sha256, exported.path, exported.sha256)


def _text(goods: Goods, modelfile: Modelfile) -> str:
    path = "./" + goods.exported.path.relative_to(goods.run.folder).as_posix()
    if goods.exported.kind == "model":
        return as_text(modelfile, source=path)
    return as_text(modelfile, source=str(gguf_of(goods.base)), adapter=path)


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
        if other == digest
        and name not in (public, previous_name(public))
        and name.rpartition(":")[0] == model
    ]
    return same[0] if same else public
