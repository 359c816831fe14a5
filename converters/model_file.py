"""A base folder, with or without an adapter, -> a model GGUF.

The adapter is merged in float32 while the weights stream through, so the merged model exists only
in the file: no intermediate checkpoint, no second rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from converters import archs, metadata
from converters.archs import Architecture
from converters.check import require_whole
from converters.gathered import gathered
from converters.hf_folder import Config, read_config
from converters.names import gguf_name, name_map
from converters.peft_adapter import NO_ADAPTER, read_adapter, require_finite
from converters.quants.layout import encoded_chunks
from converters.quants.mix import tensor_type
from converters.quants.types import FileType, file_type
from converters.safetensors_file import open_folder
from converters.trained import Trained, trained_model
from converters.trained_vocab import NOTE as TOKENIZER_NOTE
from converters.trained_vocab import tokenizer_folder
from converters.transforms import ArrayRows, Rows
from converters.vocab import read_vocabulary
from converters.writer import Bytes, Progress, Tensor, write
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
    lineage: Mapping[str, str] = {},
    progress: Progress | None = None,
    text_only: bool = False,
) -> Written:
    """Write `out` as a model GGUF of type F32, F16, BF16 or Q8_0.

    adapter: PEFT folder to merge; text_only leaves out its vision and audio parts. chat_template
    and pre replace what the folder says. lineage becomes `ft2ollama.<key>` metadata.
    progress(done, total) counts bytes of the output file.
    """
    wanted = file_type(outtype)
    config = read_config(base)
    arch = archs.find(config)
    weights = arch.gather(config, open_folder(base))
    require_whole(arch, config, weights)
    trained = _trained(adapter, arch, config, weights, text_only=text_only)
    config = trained.config
    folder = tokenizer_folder(adapter, base, trained.vocabulary)
    vocabulary = read_vocabulary(
        base, config, pre=pre, chat_template=chat_template, tokenizer_folder=folder
    )
    tensors = list(_Source(arch, config, trained.weights).tensors(wanted.name))
    keys = [
        *metadata.general(arch.NAME, "model", name),
        metadata.string("general.size_label", metadata.size_label(_parameters(tensors))),
        *arch.pairs(config),
        *vocabulary.pairs(),
        *metadata.lineage_pairs(lineage),
        *metadata.closing(wanted.id),
    ]
    digest, size = write(out, keys, tensors, progress)
    notes = (
        *trained.notes,
        *([TOKENIZER_NOTE] if folder != base else []),
        *arch.notes(config),
        *vocabulary.notes(),
        *fallback_notes(tensors, wanted),
    )
    return Written(out, digest, size, len(tensors), wanted.name, arch.NAME, notes)


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
class _Source:
    """The trained weights, seen as GGUF tensors."""

    arch: Architecture
    config: Config
    weights: Mapping[str, Rows]

    def tensors(self, outtype: str) -> Iterator[Tensor]:
        """Every tensor of the output file."""
        names = name_map(self.arch.NAME, self.config["num_hidden_layers"])
        for hf_name in self.weights:
            for part, rows in self._parts(hf_name).items():
                name = gguf_name(names, part)
                assert name is not None, part  # the family's shapes list only mapped names
                kind = tensor_type(name, rows.shape, outtype)
                yield Tensor(name, rows.shape, kind, partial(self._encoded, hf_name, part, kind))
        for name, array in self.arch.extra_tensors(self.config).items():
            kind = tensor_type(name, array.shape, outtype)
            yield Tensor(
                name, array.shape, kind, partial(encoded_chunks, ArrayRows(array), kind, name)
            )

    def _parts(self, hf_name: str) -> dict[str, Rows]:
        return dict(self.arch.transform(self.config, hf_name, self.weights[hf_name]))

    def _encoded(self, hf_name: str, part: str, kind: GGMLQuantizationType) -> Iterator[Bytes]:
        """Builds the rows anew, so that a loaded pair lives only while its tensor is written."""
        return encoded_chunks(self._parts(hf_name)[part], kind, part)


def _parameters(tensors: list[Tensor]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors)


def fallback_notes(tensors: list[Tensor], wanted: FileType) -> Iterator[str]:
    """Says which tensors are not of the type that was asked for, and why."""
    block, _ = GGML_QUANT_SIZES[wanted.tensor]
    fallen = [t for t in tensors if len(t.shape) > 1 and t.shape[-1] % block]
    if fallen:
        yield (
            f"{len(fallen)} tensors fell back to {fallen[0].type.name}: their rows "
            f"({fallen[0].shape[-1]} in {fallen[0].name}) are no multiple of {block}"
        )
