"""A GGUF file -> the same model in another type, as llama-quantize does it, on our own threads.

Metadata stays in input order and keeps our lineage keys; only the two keys that name the type are
set anew, at the end (llama.cpp src/llama-quant.cpp, llama_model_quantize_impl). A tensor that has
its type already is copied byte by byte. What was quantized once has lost the weights a second
quantization would need, so that is refused unless asked for. So is an architecture that `archs`
does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from gguf.constants import GGMLQuantizationType as Kind

from converters import archs, metadata
from converters.calibrated import Candidate, choose, open_calibration
from converters.errors import Unsupported
from converters.jobs import Encoder, Job, announce_compiling, encoded
from converters.metadata import KV
from converters.model_facts import facts_of
from converters.quants.fallbacks import fallbacks
from converters.quants.mix import Plan, is_quantizable, plan
from converters.quants.types import FileType, file_type
from converters.reader import GgufFile, StoredRows, TensorInfo, read_gguf
from converters.writer import Progress, Tensor, write
from converters.written import Written

_FLOATS = (Kind.F32, Kind.F16, Kind.BF16, Kind.F64)
_COPIED = 1 << 22  # bytes per job where a tensor is copied
# set anew; or about the input's own layout: our writer aligns to 32, which needs no key
_REPLACED = ("general.quantization_version", "general.file_type", "general.alignment")


def quantize(  # noqa: PLR0913 - one option per thing a caller may decide
    source: Path,
    out: Path,
    outtype: str,
    *,
    allow_requantize: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
    calibration: Path | None = None,
    mode: str = "auto",
) -> Written:
    """Write the model GGUF `source` again with tensors of type `outtype`.

    The other arguments as in write_model. Refuses adapters, split files, and tensors that are
    quantized already (unless allow_requantize).
    """
    wanted = file_type(outtype)
    file = read_gguf(source)
    _require_model(file)
    shapes = {name: info.shape for name, info in file.tensors.items()}
    facts = facts_of(file.values)
    known = open_calibration(
        calibration, mode, str(file.values["general.architecture"]), facts.n_layer
    )
    chosen = plan(wanted.name, shapes, facts, with_importance=not known.is_exact)
    kinds = _kinds(file, chosen, wanted)
    if not allow_requantize:
        _require_floats(file, kinds)
    announce_compiling(kinds.values(), say, known.mode)
    choice = choose(known, _candidates(file, kinds), threads)
    tensors = [
        _tensor(file, info, kinds[name], choice.encoders.get(name))
        for name, info in file.tensors.items()
    ]
    digest, size = write(out, _pairs(file, wanted), tensors, progress, threads)
    architecture = str(file.values["general.architecture"])
    loud = fallbacks(wanted.name, shapes, facts, with_importance=not known.is_exact).sentence
    notes = (loud,) if loud else ()
    return Written(
        out,
        digest,
        size,
        len(tensors),
        wanted.name,
        architecture,
        (*notes, *choice.notes),
        mode=choice.mode,
        report=choice.report,
    )


def _require_model(file: GgufFile) -> None:
    """A whole model: no adapter, no calibration data, no single part of a split file."""
    kind = file.values.get("general.type", "model")
    if kind != "model" or not isinstance(file.values.get("general.architecture"), str):
        raise Unsupported(
            f"{file.path.name} is not a model file",
            "",
            f"general.type is {kind!r}, general.architecture "
            f"{file.values.get('general.architecture')!r}",
            "an adapter is exported in its type: python -m converters adapter ... --outtype F16"
            if kind == "adapter"
            else "give a model GGUF",
        )
    parts = file.values.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise Unsupported(
            f"{file.path.name} is one of {parts} parts of a model",
            "",
            "the other tensors are in the other files",
            "join them first: llama-gguf-split --merge FIRST-PART.gguf whole.gguf",
        )
    _require_known(str(file.values["general.architecture"]))


def _require_known(architecture: str) -> None:
    """Names alone do not say which tensors the runtime needs as floats (a convolution's, say)."""
    if architecture not in archs.BY_GGUF_NAME:
        raise Unsupported(
            f"quantizing a model of architecture {architecture!r} is not supported",
            "",
            "which of its tensors may be rounded, and which must stay floats, is known for "
            f"{', '.join(sorted(archs.BY_GGUF_NAME))}",
            "llama-quantize, which comes with llama.cpp",
        )


def _kinds(file: GgufFile, chosen: Plan, wanted: FileType) -> dict[str, Kind]:
    """The type of every tensor. What does not take the file's type keeps the one it has."""
    return {
        name: kind
        if wanted.tensor == Kind.F32 or is_quantizable(name, file.tensors[name].shape)
        else file.tensors[name].type
        for name, kind in chosen.items()
    }


def _require_floats(file: GgufFile, kinds: dict[str, Kind]) -> None:
    lossy = [
        info
        for name, info in file.tensors.items()
        if info.type not in _FLOATS and info.type != kinds[name]
    ]
    if lossy:
        raise Unsupported(
            f"{file.path.name} is quantized already",
            lossy[0].name,
            f"{len(lossy)} tensors, this one of type {lossy[0].type.name}, would be rounded twice, "
            "which costs more quality than the new type says",
            "start from an F16, BF16 or F32 file; where none exists: --allow-requantize",
        )


def _pairs(file: GgufFile, wanted: FileType) -> list[KV]:
    kept = [
        pair
        for pair in file.pairs
        if pair.key not in _REPLACED and not pair.key.startswith("split.")
    ]
    return [*kept, *metadata.closing(wanted.id)]


def _candidates(file: GgufFile, kinds: Plan) -> Iterator[Candidate]:
    """What may be calibrated: every tensor that is encoded anew."""
    for name, info in file.tensors.items():
        if info.type != kinds[name]:
            yield Candidate(
                name, info.shape, kinds[name], partial(StoredRows, file.path, info), name
            )


def _tensor(file: GgufFile, info: TensorInfo, kind: Kind, encoder: Encoder | None) -> Tensor:
    if info.type == kind:
        jobs = partial(_copy_jobs, file.path, info)
    else:
        jobs = partial(encoded, StoredRows(file.path, info), kind, info.name, encoder)
    return Tensor(info.name, info.shape, kind, jobs)


def _copy_jobs(path: Path, info: TensorInfo) -> Iterator[Job]:
    for start in range(0, info.n_bytes, _COPIED):
        yield partial(info.read, path, start, min(_COPIED, info.n_bytes - start))
