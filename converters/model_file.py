"""A base folder, with or without an adapter, -> a model GGUF.

The adapter is merged in float32 while the weights stream through, so the merged model exists only
in the file: no intermediate checkpoint, no second rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from gguf.constants import GGMLQuantizationType

from converters import archs, metadata
from converters.archs import Architecture
from converters.calibrated import Candidate, choose, open_calibration
from converters.check import require_whole
from converters.errors import foreign
from converters.gathered import gathered
from converters.hf_folder import Config, read_config
from converters.jobs import Encoder, Job, announce_compiling, encoded
from converters.model_facts import facts_of
from converters.names import gguf_name, name_map
from converters.peft_adapter import NO_ADAPTER, read_adapter, require_finite
from converters.quants.fallbacks import fallbacks
from converters.quants.mix import Plan, Shapes, plan
from converters.quants.types import file_type
from converters.safetensors_file import open_folder
from converters.trained import Trained, trained_model
from converters.trained_vocab import NOTE as TOKENIZER_NOTE
from converters.trained_vocab import tokenizer_folder
from converters.transforms import ArrayRows, Rows
from converters.vocab import read_vocabulary
from converters.writer import Progress, Tensor, write
from converters.written import Written


def write_model(  # noqa: PLR0913 - one option per thing a caller may decide
    base: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    outtype: str = "Q8_0",
    name: str = "",
    chat_template: str | None = None,
    pre: str | None = None,
    add_bos: bool | None = None,
    lineage: Mapping[str, str] = {},
    progress: Progress | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
    text_only: bool = False,
    calibration: Path | None = None,
    mode: str = "auto",
) -> Written:
    """Write `out` as a model GGUF of a file type in quants.types (F16, Q8_0, Q4_K_M, ...).

    adapter: PEFT folder to merge; text_only leaves out its vision and audio parts. chat_template,
    pre and add_bos replace what the folder says. lineage becomes `ft2ollama.<key>` metadata.
    progress(done, total) counts bytes of the output file, on the calling thread. threads: default
    all CPUs; the bytes do not depend on it. say: told, before it happens, what takes long for once
    (kernels being compiled). calibration: statistics of the layers' inputs or an imatrix, see
    importance; mode: what to do with it, see calibrated.
    """
    wanted = file_type(outtype)
    with foreign("the model folder"):
        config = read_config(base)
        arch = archs.find(config)
        weights = arch.gather(config, open_folder(base))
        require_whole(arch, config, weights)
        trained = _trained(adapter, arch, config, weights, text_only=text_only)
        config = trained.config
        folder = tokenizer_folder(adapter, base, trained.vocabulary)
        vocabulary = read_vocabulary(
            base,
            config,
            pre=pre,
            chat_template=chat_template,
            add_bos=add_bos,
            tokenizer_folder=folder,
        )
        source = _Source(arch, config, trained.weights)
        shapes = source.shapes()
        opening = metadata.general(arch.NAME, "model", name)
        own = arch.pairs(config)
        facts = facts_of({pair.key: pair.value for pair in (*opening, *own)})
        known = open_calibration(calibration, mode, arch.NAME, config["num_hidden_layers"])
        kinds = plan(wanted.name, shapes, facts, with_importance=not known.is_exact)
        keys = [
            *opening,
            metadata.string("general.size_label", metadata.size_label(_parameters(shapes))),
            *own,
            *vocabulary.pairs(),
            *metadata.lineage_pairs(lineage),
            *metadata.closing(wanted.id),
        ]
        metadata.require_text(keys)
        loud = fallbacks(wanted.name, shapes, facts).sentence
        notes = (
            *trained.notes,
            *([TOKENIZER_NOTE] if folder != base else []),
            *arch.notes(config),
            *vocabulary.notes(),
            *([loud] if loud else []),
        )
    announce_compiling(kinds.values(), say, known.mode)
    choice = choose(known, source.candidates(kinds), threads)
    tensors = source.tensors(kinds, choice.encoders)
    digest, size = write(out, keys, tensors, progress, threads)
    return Written(
        out,
        digest,
        size,
        len(tensors),
        wanted.name,
        arch.NAME,
        (*notes, *choice.notes),
        mode=choice.mode,
        report=choice.report,
    )


def _trained(
    adapter: Path | None,
    arch: Architecture,
    config: Config,
    weights: Mapping[str, Rows],
    *,
    text_only: bool,
) -> Trained:
    if adapter is None:
        return trained_model(NO_ADAPTER, arch, config, weights)
    read = gathered(read_adapter(adapter, text_only=text_only), arch, config)
    trained = trained_model(read, arch, config, weights)
    require_finite(adapter)
    return trained


@dataclass(frozen=True)
class _Made:
    """A tensor of the output file. label: what errors call it; rows: opens it."""

    shape: tuple[int, ...]
    label: str
    rows: Callable[[], Rows]


@dataclass(frozen=True)
class _Source:
    """The trained weights, seen as GGUF tensors."""

    arch: Architecture
    config: Config
    weights: Mapping[str, Rows]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """GGUF name -> shape of every tensor of the output file."""
        return {name: made.shape for name, made in self._made.items()}

    def tensors(self, kinds: Plan, encoders: Mapping[str, Encoder]) -> list[Tensor]:
        """Every tensor of the output file. kinds: GGUF name -> type; encoders: where not exact.

        The rows are opened when their turn comes, so that a loaded pair lives only while its jobs
        do.
        """
        return [
            Tensor(
                name,
                made.shape,
                kinds[name],
                partial(_jobs, made, kinds[name], encoders.get(name)),
            )
            for name, made in self._made.items()
        ]

    def candidates(self, kinds: Plan) -> Iterator[Candidate]:
        """What may be calibrated."""
        for name, made in self._made.items():
            yield Candidate(name, made.shape, kinds[name], made.rows, made.label)

    @cached_property
    def _made(self) -> dict[str, _Made]:
        names = name_map(self.arch.NAME, self.config["num_hidden_layers"])
        made: dict[str, _Made] = {}
        for hf_name in self.weights:
            for part, rows in self._parts(hf_name).items():
                name = gguf_name(names, part)
                assert name is not None, part  # the family's shapes list only mapped names
                made[name] = _Made(rows.shape, part, partial(self._part, hf_name, part))
        for name, array in self.arch.extra_tensors(self.config).items():
            made[name] = _Made(array.shape, name, partial(ArrayRows, array))
        return made

    def _part(self, hf_name: str, part: str) -> Rows:
        return self._parts(hf_name)[part]

    def _parts(self, hf_name: str) -> dict[str, Rows]:
        return dict(self.arch.transform(self.config, hf_name, self.weights[hf_name]))


def _jobs(made: _Made, kind: GGMLQuantizationType, encoder: Encoder | None) -> Iterator[Job]:
    return encoded(made.rows(), kind, made.label, encoder)


def _parameters(shapes: Shapes) -> int:
    return sum(map(math.prod, shapes.values()))
