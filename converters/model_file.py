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
from converters.check import read_fitting, require_whole
from converters.hf_folder import Config, read_config
from converters.lora import PairSource
from converters.merge import MergedRows
from converters.names import gguf_name, name_map
from converters.quants.layout import encoded_chunks
from converters.quants.mix import tensor_type
from converters.quants.types import FileType, file_type
from converters.safetensors_file import open_folder
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
) -> Written:
    """Write `out` as a model GGUF of type F32, F16, BF16 or Q8_0.

    adapter: PEFT folder to merge. chat_template and pre replace what the folder says. lineage
    becomes `ft2ollama.<key>` metadata. progress(done, total) counts bytes of the output file.
    """
    wanted = file_type(outtype)
    config = read_config(base)
    arch = archs.find(config)
    weights = arch.gather(config, open_folder(base))
    source = _Source(arch, config, weights, _fitting_pairs(adapter, arch, config, weights))
    vocabulary = read_vocabulary(base, config, pre=pre, chat_template=chat_template)
    tensors = list(source.tensors(wanted.name))
    keys = [
        *metadata.general(arch.NAME, "model", name),
        metadata.string("general.size_label", metadata.size_label(_parameters(tensors))),
        *arch.pairs(config),
        *vocabulary.pairs(),
        *metadata.lineage_pairs(lineage),
        *metadata.closing(wanted.id),
    ]
    digest, size = write(out, keys, tensors, progress)
    notes = (*arch.notes(config), *vocabulary.notes(), *fallback_notes(tensors, wanted))
    return Written(out, digest, size, len(tensors), wanted.name, arch.NAME, notes)


def _fitting_pairs(
    adapter: Path | None,
    arch: Architecture,
    config: Config,
    weights: Mapping[str, Rows],
) -> Mapping[str, PairSource]:
    return {} if adapter is None else read_fitting(adapter, arch, config, weights).pairs


@dataclass(frozen=True)
class _Source:
    """The base's weights with the adapter's pairs, seen as GGUF tensors."""

    arch: Architecture
    config: Config
    weights: Mapping[str, Rows]
    pairs: Mapping[str, PairSource]

    def tensors(self, outtype: str) -> Iterator[Tensor]:
        """Every tensor of the output file."""
        names = name_map(self.arch.NAME, self.config["num_hidden_layers"])
        for hf_name in require_whole(self.arch, self.config, self.weights):
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
        rows: Rows = self.weights[hf_name]
        pair = self.pairs.get(hf_name.removesuffix(".weight"))
        if pair is not None and hf_name.endswith(".weight"):
            rows = MergedRows(rows, pair.load)
        return dict(self.arch.transform(self.config, hf_name, rows))

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
