"""The settings in the served file against those that the reference's config.json calls for.

In: what is served and the reference.  Out: faults. Expected keys are the exporter's own
(converters.archs); a file of another converter may leave out keys that have a default, so only what
is there and differs counts, and `rope.freq_base`, whose default is 10000 (llama.cpp
llama-model.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ft2ollama.prove.findings import WRITE_ANEW, Finding
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served

_DEFAULTS = {"rope.freq_base": 10000.0}
_SHAPES = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")
# Measures of the vocabulary and of memory, not of what is computed; the name of the file.
_IGNORED = ("vocab_size", "context_length")


def setting_faults(served: Served, reference: Reference) -> list[Finding]:
    """Another architecture alone, else every setting that differs."""
    from converters import archs
    from converters.hf_folder import read_config

    config = read_config(reference.base.folder)
    arch = archs.find(config)
    if served.architecture != arch.NAME:
        return [
            Finding(
                "other-model",
                "the served model is of another architecture",
                f"{served.architecture} served, {arch.NAME} expected",
                WRITE_ANEW,
            )
        ]
    expected = {pair.key.removeprefix(f"{arch.NAME}."): pair.value for pair in arch.pairs(config)}
    return list(_faults(served, expected, arch.NAME))


def _faults(served: Served, expected: Mapping[str, Any], prefix: str) -> Iterator[Finding]:
    for key, wanted in expected.items():
        have = served.value(f"{prefix}.{key}")
        have = _DEFAULTS.get(key) if have is None else have
        if have is None or key in _IGNORED or _same(have, wanted):
            continue
        yield Finding(
            _code(key),
            _what(key, have, wanted),
            f"{prefix}.{key} is {_short(have)} in the file, {_short(wanted)} by config.json",
            WRITE_ANEW,
        )


def _code(key: str) -> str:
    if key.startswith("rope."):
        return "rope"
    return "other-model" if key in _SHAPES else "setting"


def _what(key: str, have: Any, wanted: Any) -> str:
    if key == "rope.freq_base":
        broken = "; Ollama's own import of a Hugging Face folder does this" if not have else ""
        return f"positions are turned by another base: {_short(have)} for {_short(wanted)}{broken}"
    if key.startswith("rope."):
        return f"positions are scaled otherwise: {key}"
    if key in _SHAPES:
        return "the served model is of another size"
    return f"another setting: {key}"


def _same(one: Any, other: Any) -> bool:
    numbers = [isinstance(v, (int, float)) and not isinstance(v, bool) for v in (one, other)]
    if all(numbers):
        return math.isclose(float(one), float(other), rel_tol=1e-4, abs_tol=1e-12)
    return bool(one == other)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:60]
