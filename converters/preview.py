"""What a file type would come to for a base, from its headers alone: to choose a type by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from converters import archs
from converters.check import require_whole
from converters.errors import foreign
from converters.hf_folder import read_config
from converters.model_facts import facts_of
from converters.names import gguf_name, name_map
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
    names = name_map(arch.NAME, config["num_hidden_layers"])
    shapes = {
        str(gguf_name(names, part)): rows.shape
        for name in weights
        for part, rows in arch.transform(config, name, weights[name])
    }
    values = {pair.key: pair.value for pair in arch.pairs(config)}
    facts = facts_of({**values, "general.architecture": arch.NAME})
    found = fallbacks(outtype, shapes, facts)
    n_weights = sum(map(math.prod, shapes.values()))
    return Preview(n_weights, round(n_weights * found.bits / 8), found)
