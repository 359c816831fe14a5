"""What a file type would come to for a base, from its headers alone: to choose a type by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters.errors import foreign
from converters.model_tensors import open_model
from converters.quants.fallbacks import Fallbacks, fallbacks


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
    source = open_model(base)
    found = fallbacks(outtype, source.shapes(), source.facts())
    return Preview(source.n_weights, round(source.n_weights * found.bits / 8), found)
