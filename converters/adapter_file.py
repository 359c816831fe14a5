"""A PEFT LoRA folder -> a LoRA GGUF that llama.cpp and Ollama apply beside the base model.

Format: llama.cpp src/llama-adapter.cpp. The runtime computes the scale as alpha / rank from one
alpha for the whole file; where a module's own scale differs (rsLoRA, alpha_pattern, rank_pattern)
the ratio is multiplied into B, so that the effect is exact and plain adapters keep their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType

from converters import archs, metadata
from converters.archs import Architecture
from converters.errors import foreign
from converters.fit import require_fit, stored_weights
from converters.gathered import gathered
from converters.hf_folder import Config, read_config
from converters.lora import LoraPair, PairSource
from converters.names import gguf_name, name_map
from converters.peft_adapter import Adapter, read_adapter, require_finite
from converters.quants.mix import tensor_type
from converters.quants.quantize import encode
from converters.quants.types import ADAPTER_TYPES, FileType, file_type
from converters.trained import plain, start_of_pair
from converters.transforms import F32, Rows
from converters.writer import Bytes, Progress, Tensor, write
from converters.written import Written


@foreign("the adapter or model folder")
def write_adapter(  # noqa: PLR0913 - one option per thing a caller may decide
    adapter: Path,
    base: Path,
    out: Path,
    *,
    outtype: str = "F16",
    name: str = "",
    lineage: Mapping[str, str] = {},
    progress: Progress | None = None,
    text_only: bool = False,
) -> Written:
    """Write `out` as a LoRA GGUF of type F32, F16, BF16 or Q8_0.

    base: a folder with config.json; its weights are read only where the adapter cannot be judged
    without them (PiSSA, OLoRA, tensors saved whole). text_only leaves out vision and audio parts.
    Raises NeedsMerge where only a model file can say what was trained.
    """
    wanted = file_type(outtype, ADAPTER_TYPES)
    config = read_config(base)
    arch = archs.find(config)
    read = gathered(read_adapter(adapter, text_only=text_only), arch, config)
    weights = stored_weights(base, arch, config)
    require_fit(read, arch, config, weights)
    require_finite(adapter)
    tensors = list(_Pairs(arch, config, read, weights).tensors(wanted.name))
    keys = [
        *metadata.general(arch.NAME, "adapter", name),
        metadata.string("adapter.type", "lora"),
        metadata.f32("adapter.lora.alpha", read.alpha),
        *metadata.lineage_pairs(lineage, name),
        *metadata.closing(wanted.id),
    ]
    digest, size = write(out, keys, tensors, progress)
    notes = (*read.notes, *_notes(read, tensors, wanted))
    return Written(out, digest, size, len(tensors), wanted.name, arch.NAME, notes)


def _notes(read: Adapter, tensors: list[Tensor], wanted: FileType) -> Iterator[str]:
    if read.start:
        yield f"{read.start} start: written as plain LoRA of twice the rank"
    fallen = [t for t in tensors if t.type != wanted.tensor]
    if fallen:
        yield (
            f"{len(fallen)} of {len(tensors)} tensors are {fallen[0].type.name} and not "
            f"{wanted.name}: their rows ({fallen[0].shape[-1]} in {fallen[0].name}) are no "
            "multiple of 32"
        )


class _Pairs:
    """The adapter's pairs, seen as GGUF tensors."""

    def __init__(
        self,
        arch: Architecture,
        config: Config,
        adapter: Adapter,
        weights: Mapping[str, Rows],
    ) -> None:
        self.arch, self.config, self.adapter, self.weights = arch, config, adapter, weights
        self._loaded = lru_cache(maxsize=1)(self._load)  # a and b are written one after the other

    def tensors(self, outtype: str) -> Iterator[Tensor]:
        """Two tensors per pair."""
        names = name_map(self.arch.NAME, self.config["num_hidden_layers"])
        for module, stored in self.adapter.pairs.items():
            for part in self.arch.transform_lora(self.config, self._outline(module, stored)):
                name = gguf_name(names, part.name + ".weight")
                assert name is not None, part.name  # it is in the family's shapes
                factors = _file_factors(part, embedding=stored.embedding)
                for suffix, array in zip((".lora_a", ".lora_b"), factors, strict=True):
                    kind = tensor_type(name + suffix, array.shape, outtype)
                    yield Tensor(
                        name + suffix,
                        array.shape,
                        kind,
                        partial(self._encoded, module, part.name, suffix, kind),
                    )

    def _outline(self, module: str, stored: PairSource) -> LoraPair:
        """Zeros in the shapes that `_load` will give; reads nothing."""
        *stack, n_out, n_in = stored.weight_shape
        rank = stored.rank * (2 if start_of_pair(self.adapter, module, stored) else 1)
        zero = np.zeros((), np.float32)
        a, b = (
            np.broadcast_to(zero, (*stack, rank, n_in)),
            np.broadcast_to(zero, (*stack, n_out, rank)),
        )
        return LoraPair(module, a, b, 1.0)

    def _load(self, module: str) -> list[LoraPair]:
        """What becomes of one pair: the plain form, the family's transform, the file's scale."""
        stored = self.adapter.pairs[module]
        start = start_of_pair(self.adapter, module, stored)
        pair = plain(stored, start, lambda: self.weights[f"{module}.weight"])
        parts = self.arch.transform_lora(self.config, replace(pair, name=module))
        return [part.fold(file_scale(self.adapter.alpha, part.rank)) for part in parts]

    def _encoded(
        self, module: str, part_name: str, suffix: str, kind: GGMLQuantizationType
    ) -> Iterator[Bytes]:
        """Loads the pair when its turn comes, so that memory holds one pair and not the adapter."""
        part = next(part for part in self._loaded(module) if part.name == part_name)
        a, b = _file_factors(part, embedding=self.adapter.pairs[module].embedding)
        yield encode(np.ascontiguousarray(a if suffix == ".lora_a" else b), kind, module + suffix)


def file_scale(alpha: float, rank: int) -> float:
    """The scale the runtime will use: alpha / rank, and 1 where alpha is 0 (llama-adapter.h)."""
    return alpha / rank if alpha else 1.0


def _file_factors(pair: LoraPair, *, embedding: bool) -> tuple[F32, F32]:
    """lora_a and lora_b as the loader wants them.

    Linear: a [r, n_in], b [n_out, r]. token_embd is looked up and not multiplied, so its factors
    change places: lora_a [vocabulary, r], lora_b [width, r].
    """
    return (pair.b, pair.a.T) if embedding else (pair.a, pair.b)
