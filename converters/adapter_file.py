"""A PEFT LoRA folder -> a LoRA GGUF that llama.cpp and Ollama apply beside the base model.

Format: llama.cpp src/llama-adapter.cpp. The runtime computes the scale as alpha / rank from one
alpha for the whole file; where a module's own scale differs (rsLoRA, alpha_pattern, rank_pattern)
the ratio is multiplied into B, so that the effect is exact and plain adapters keep their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType

from converters import archs, metadata
from converters.archs import Architecture
from converters.check import read_fitting, stored_weights
from converters.errors import foreign
from converters.hf_folder import Config, read_config
from converters.lora import LoraPair, PairSource
from converters.names import gguf_name, name_map
from converters.peft_adapter import Adapter
from converters.quants.mix import tensor_type
from converters.quants.quantize import encode
from converters.quants.types import ADAPTER_TYPES, file_type
from converters.transforms import F32
from converters.writer import Bytes, Progress, Tensor, write
from converters.written import Written


@foreign("the adapter or model folder")
def write_adapter(
    adapter: Path,
    base: Path,
    out: Path,
    *,
    outtype: str = "F16",
    name: str = "",
    lineage: Mapping[str, str] = {},
    progress: Progress | None = None,
) -> Written:
    """Write `out` as a LoRA GGUF of type F32, F16 or BF16. base: a folder with config.json."""
    wanted = file_type(outtype, ADAPTER_TYPES)
    config = read_config(base)
    arch = archs.find(config)
    read = read_fitting(adapter, arch, config, stored_weights(base, arch, config))
    tensors = list(_Pairs(arch, config, read).tensors(wanted.name))
    keys = [
        *metadata.general(arch.NAME, "adapter", name),
        metadata.string("adapter.type", "lora"),
        metadata.f32("adapter.lora.alpha", read.alpha),
        *metadata.lineage_pairs(lineage),
        *metadata.closing(wanted.id),
    ]
    digest, size = write(out, keys, tensors, progress)
    return Written(out, digest, size, len(tensors), wanted.name, arch.NAME)


@dataclass(frozen=True)
class _Pairs:
    """The adapter's pairs, seen as GGUF tensors."""

    arch: Architecture
    config: Config
    adapter: Adapter

    def tensors(self, outtype: str) -> Iterator[Tensor]:
        """Two tensors per pair."""
        names = name_map(self.arch.NAME, self.config["num_hidden_layers"])
        for module, stored in self.adapter.pairs.items():
            for part in self._parts(module, stored):
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

    def _parts(self, module: str, stored: PairSource) -> list[LoraPair]:
        """What becomes of one pair: the family's transform, then the file's scale."""
        parts = self.arch.transform_lora(self.config, replace(stored.load(), name=module))
        return [part.fold(file_scale(self.adapter.alpha, part.rank)) for part in parts]

    def _encoded(
        self, module: str, part_name: str, suffix: str, kind: GGMLQuantizationType
    ) -> Iterator[Bytes]:
        """Loads the pair again, so that memory holds one pair and not the adapter."""
        stored = self.adapter.pairs[module]
        part = next(part for part in self._parts(module, stored) if part.name == part_name)
        a, b = _file_factors(part, embedding=stored.embedding)
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
