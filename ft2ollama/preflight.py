"""Before a byte is sent: everything that Ollama would find out at first use, or die from.

`/api/create` looks at a file's header and says "success". What it does not notice fails when the
model is used, with "exit status 2" and the reason in the server's log; an adapter file without
general.type, or a model without tokens, ends the whole server (seen with 0.9.3). So the files, the
names, the parameters and the room on the disk are looked at here, for every server, and everything
that is wrong is told at once. Only headers are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.config.checks import parameter_problem
from ft2ollama.errors import MachineError, UsageError, UserError
from ft2ollama.machine import free_disk
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_names import canonical_name
from ft2ollama.ollama_store import find_store
from ft2ollama.ollama_support import (
    is_known,
    parse_version,
    rewrites_models,
    why_no_adapter,
    why_not_run,
)

if TYPE_CHECKING:
    from converters import GgufFile

_MERGE = "ft2ollama publish --as model     # one merged file, runs everywhere"
_AGAIN = "ft2ollama export --force     # or fetch the base again, if it is that file"
_NEWER = "a newer Ollama: https://ollama.com/download"
_SPARE = 50_000_000  # bytes that a full disk should still have: logs, manifests, other programs


@dataclass(frozen=True)
class Upload:
    """The files of a publication with their sha256: the model, and an adapter on it."""

    model: Path
    model_sha256: str
    adapter: Path | None = None
    adapter_sha256: str = ""

    @property
    def files(self) -> list[tuple[Path, str]]:
        """Every file that goes to the server."""
        return [
            (self.model, self.model_sha256),
            *([(self.adapter, self.adapter_sha256)] if self.adapter else []),
        ]


@dataclass(frozen=True)
class Trouble:
    """What would fail, and what to do.  machine: it is the server or its disk, not the files."""

    what: str
    fix: str
    machine: bool = False


def preflight(
    servers: Sequence[Ollama], names: Sequence[str], parameters: Mapping[str, Any], upload: Upload
) -> list[str]:
    """Raise with every trouble at once; else return notes on what could not be looked at.

    names: the tags that are made or moved. Raises UsageError, or MachineError when only the servers
    or their disks are in the way.
    """
    opened = [read_header(path) for path, _ in upload.files]
    troubles = [*file_troubles(opened), *parameter_troubles(parameters)]
    model, kinds = opened[0], _kinds(opened)
    notes = []
    for server in servers:
        if not isinstance(model, Trouble):
            architecture = str(model.values.get("general.architecture"))
            told, more = server_troubles(
                server, architecture, kinds=kinds, adapter=upload.adapter is not None
            )
            troubles += told
            notes += more
        troubles += [*name_troubles(server, names), *disk_troubles(server, upload)]
    require_none(troubles)
    return notes


def check_servers(servers: Sequence[Ollama], base: Path, *, adapter: bool) -> None:
    """What can be known before anything is exported. base: HF folder. Raises as `preflight`."""
    from converters import ConvertError
    from converters.archs import find
    from converters.hf_folder import read_config

    try:
        architecture = find(read_config(base)).NAME
    except ConvertError:  # the export says why
        return
    require_none(
        [
            trouble
            for server in servers
            for trouble in server_troubles(server, architecture, kinds=set(), adapter=adapter)[0]
        ]
    )


def require_none(troubles: Sequence[Trouble]) -> None:
    """Raise UsageError or MachineError when there are any."""
    if not troubles:
        return
    kind: type[UserError] = UsageError
    if all(trouble.machine for trouble in troubles):
        kind = MachineError
    if len(troubles) == 1:
        raise kind("this cannot be published as it is", troubles[0].what, troubles[0].fix)
    lines = [f"{n}. {one.what}\n   -> {one.fix}" for n, one in enumerate(troubles, 1)]
    raise kind(
        f"this cannot be published as it is, for {len(troubles)} reasons",
        "\n".join(lines),
        "mend them all, then publish again; nothing was sent",
    )


def server_troubles(
    server: Ollama, architecture: str, *, kinds: set[str], adapter: bool
) -> tuple[list[Trouble], list[str]]:
    """(what this server cannot run, what nobody knows)."""
    said = server.version()
    version = parse_version(said)
    if version is None:
        note = f"Ollama at {server.host} tells no version number ({said!r})"
        return [], [f"{note}: whether it can run {architecture} shows when it is proved"]
    who = f"Ollama {said} at {server.host}"
    found = [
        Trouble(f"{who} is too old: {why}", _NEWER, machine=True)
        for why in why_not_run(version, architecture, kinds)
    ]
    if adapter and (why := why_no_adapter(version, architecture)):
        found.append(Trouble(f"{who} cannot serve an adapter: {why}", _MERGE))
    if is_known(architecture):
        return found, []
    return found, [f"whether {who} runs {architecture} is not in our table: the proof will show"]


def file_troubles(opened: Sequence[GgufFile | Trouble]) -> Iterator[Trouble]:
    """Files that are not whole, not what they pass for, or do not fit each other.

    opened: the model, then perhaps an adapter; a Trouble for a file that cannot be read.
    """
    yield from (one for one in opened if isinstance(one, Trouble))
    model, adapter = opened[0], opened[1] if len(opened) > 1 else None
    if not isinstance(model, Trouble):
        yield from _model_troubles(model)
    if adapter is None or isinstance(adapter, Trouble):
        return
    told = list(_adapter_troubles(adapter))
    yield from told
    if not told and not isinstance(model, Trouble):
        yield from _misfits(adapter, model)


def parameter_troubles(parameters: Mapping[str, Any]) -> Iterator[Trouble]:
    """PARAMETERs that create takes and every answer then fails on."""
    for name, value in parameters.items():
        if name != "num_ctx" and (why := parameter_problem(name, value)):
            yield Trouble(f"PARAMETER {name} {value}: {why}", f"mend ollama_parameters.{name}")


def name_troubles(server: Ollama, names: Iterable[str]) -> Iterator[Trouble]:
    """Names that differ from one on the server in upper and lower case only: Ollama mixes them."""
    have = {name.lower(): name for name in server.models()}
    for name in map(canonical_name, names):
        other = have.get(name.lower())
        if other not in (None, name):
            yield Trouble(
                f"{name} differs from {other} at {server.host} in upper and lower case only, and "
                "Ollama takes the two for one",
                f"use {other}, or another name",
            )


def disk_troubles(server: Ollama, upload: Upload) -> Iterator[Trouble]:
    """Too little room where a server on this machine keeps its models.

    The store is known by a model that the server has already; without one it is not looked for.
    """
    listed = server.listed() if server.is_local else []
    store = find_store(listed[0].name, listed[0].digest) if listed else None
    if store is None:
        return
    missing = [path for path, sha256 in upload.files if not server.has_blob(sha256)]
    needed = sum(path.stat().st_size for path in missing)
    if upload.model in missing and rewrites_models(parse_version(server.version())):
        needed += upload.model.stat().st_size  # while it is rewritten both files are there
    free = free_disk(store.folder)
    if missing and free < needed + _SPARE:
        yield Trouble(
            f"{store.folder}, where Ollama at {server.host} keeps its models, has "
            f"{free / 1e6:,.0f} MB free; this takes {needed / 1e6:,.0f} MB and some to spare",
            "delete models (ollama rm), publish with --keep N, or a smaller --quant",
            machine=True,
        )


def read_header(path: Path) -> GgufFile | Trouble:
    """The file's header, or what is wrong with it."""
    from converters import ConvertError, read_gguf

    try:
        return read_gguf(path)
    except (ConvertError, OSError) as error:
        return Trouble(f"{path.name} is not a whole GGUF file: {_line(error)}", _AGAIN)


def _model_troubles(file: GgufFile) -> Iterator[Trouble]:
    from converters import ConvertError, Unsupported, check_gguf

    kind = file.values.get("general.type", "model")
    if kind != "model":
        yield Trouble(f"{file.path.name} is no model: its general.type is {kind}", _AGAIN)
        return
    if not file.values.get("tokenizer.ggml.tokens"):
        yield Trouble(f"{file.path.name} has no tokens: Ollama 0.9.3 dies from it", _AGAIN)
        return
    try:
        check_gguf(file.path)
    except Unsupported:  # a base of an architecture that we do not write: no table to hold it to
        return
    except ConvertError as error:
        yield Trouble(f"{file.path.name} is not sound: {_line(error)}", _AGAIN)


def _adapter_troubles(file: GgufFile) -> Iterator[Trouble]:
    from converters import ConvertError, check_gguf

    kind = file.values.get("general.type")
    if kind != "adapter":
        what = f"its general.type is {kind!r}: Ollama 0.9.3 dies from it, or ignores the adapter"
        yield Trouble(f"{file.path.name} is no adapter: {what}", _AGAIN)
        return
    try:
        check_gguf(file.path)
    except ConvertError as error:
        yield Trouble(f"{file.path.name} is not sound: {_line(error)}", _AGAIN)


def _misfits(adapter: GgufFile, model: GgufFile) -> Iterator[Trouble]:
    """An adapter of another architecture, for tensors the base lacks, or of other sizes."""
    theirs, ours = (file.values.get("general.architecture") for file in (model, adapter))
    if theirs != ours:
        what = f"{adapter.path.name} is an adapter for {ours}, {model.path.name} is {theirs}"
        yield Trouble(what, _MERGE)
        return
    wrong = [name for name in adapter.tensors if not _fits(name, adapter, model)]
    if wrong:
        what = f"{len(wrong)} of {len(adapter.tensors)} tensors of {adapter.path.name} do not fit"
        yield Trouble(f"{what} {model.path.name}, e.g. {wrong[0]}", _MERGE)


def _fits(name: str, adapter: GgufFile, model: GgufFile) -> bool:
    """lora_a: [r, n_in], lora_b: [n_out, r] of a weight [n_out, n_in].

    token_embd is looked up and not multiplied: lora_a [n_out, r], lora_b [n_in, r].
    """
    base, _, part = name.rpartition(".")
    weight = model.tensors.get(base)
    if weight is None:
        return False
    n_out, n_in = weight.shape[-2:]
    shape = adapter.tensors[name].shape
    if base == "token_embd.weight":
        return shape[-2] == (n_out if part == "lora_a" else n_in)
    return shape[-1] == n_in if part == "lora_a" else shape[-2] == n_out


def _kinds(opened: Sequence[GgufFile | Trouble]) -> set[str]:
    """Names of the tensor types in the files."""
    files = [one for one in opened if not isinstance(one, Trouble)]
    return {info.type.name for file in files for info in file.tensors.values()}


def _line(error: Exception) -> str:
    return "; ".join(" ".join(line.split()) for line in str(error).splitlines()[:3])
