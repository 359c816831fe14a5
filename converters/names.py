"""Hugging Face tensor names -> GGUF tensor names, over gguf-py's tensor-name map."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES
from gguf.tensor_mapping import TensorNameMap, get_tensor_name_map

_SUFFIXES = (".weight", ".bias")
_ARCHES = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}


def name_map(architecture: str, n_blocks: int) -> TensorNameMap:
    """The map of one architecture, for example ("llama", 30)."""
    arch: MODEL_ARCH = _ARCHES[architecture]
    return get_tensor_name_map(arch, n_blocks)


def gguf_name(names: TensorNameMap, hf_name: str) -> str | None:
    """`model.layers.0.mlp.up_proj.weight` -> `blk.0.ffn_up.weight`; None if it is not known."""
    return names.get_name(hf_name, try_suffixes=_SUFFIXES)


def nearest(name: str, known: Iterable[str]) -> str:
    """` (nearest: ...)`, or nothing where no known name is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" (nearest: {found[0]})" if found else ""
