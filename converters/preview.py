"""What a file type would come to for a base, from its headers alone: to choose a type by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters import archs
from converters.check import require_whole
from converters.errors import foreign
from converters.hf_folder import read_config
from converters.model_tensors import ModelTensors
from converters.quants.fallbacks import Fallbacks, fallbacks
from converters.safetensors_file import open_folder


@dataclass(frozen=True)
class Preview:
    """n_weights: of the whole model. fallbacks: what the type becomes where its blocks do not fit.

    n_bytes: of the tensors in that type.
    """

    n_weights: int
    n_bytes: int
    fallbacks: Fallbacks


@foreign("the model folder")
def preview(base: Path, outtype: str) -> Preview:
    """The size and the real types of `base` as a GGUF file of type `outtype`."""
    config = read_config(base)
    arch = archs.find(config)
    weights = arch.gather(config, open_folder(base))
    require_whole(arch, config, weights)
    source = ModelTensors(arch, config, weights)
    found = fallbacks(outtype, source.shapes(), source.facts())
    return Preview(source.n_weights, round(source.n_weights * found.bits / 8), found)
