"""What an Ollama of a given version can run: architectures, adapters, tensor types.

Pure tables, read in Ollama's sources at every release tag: since when the bundled llama.cpp names
an architecture (llama/llama.cpp/src/llama-arch.cpp), since when its own engine takes one away from
llama.cpp (fs/ggml/ggml.go OllamaEngineRequired), which tensor types its ggml.h lists. That engine
says "loras are not yet implemented" (runner/ollamarunner/runner.go). From 0.30 on every GGUF runs
in upstream's llama-server, with its adapters; since 0.34.1 the command line takes no ADAPTER.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Version = tuple[int, int, int]

LLAMA_SERVER: Version = (0, 30, 0)
NO_ADAPTERS: Version = (0, 34, 1)
_FIRST: Version = (0, 3, 13)  # before it, llama.cpp is not in the sources, and nothing is known
_ARCHITECTURES: Mapping[str, Version] = {
    "llama": _FIRST,
    "qwen2": _FIRST,
    "qwen2moe": _FIRST,
    "gemma2": _FIRST,
    "phi3": _FIRST,
    "granite": (0, 3, 14),
    "gemma3": (0, 6, 0),
    "mistral3": (0, 6, 5),
    "qwen3": (0, 6, 6),
    "qwen3moe": (0, 6, 6),
    "glm4": (0, 6, 6),
    "smollm3": (0, 11, 5),
    "qwen35": (0, 17, 1),
}
# Run by Ollama's own engine from this version up to 0.30.
_OWN_ENGINE: Mapping[str, Version] = {
    "gemma3": (0, 6, 0),
    "mistral3": (0, 6, 5),
    "qwen3": (0, 12, 0),
    "qwen3moe": (0, 12, 2),
    "qwen35": (0, 17, 1),
}
_TYPES: Mapping[str, Version] = {
    "TQ1_0": (0, 3, 14),
    "TQ2_0": (0, 3, 14),
    "MXFP4": (0, 11, 0),
    "NVFP4": LLAMA_SERVER,
    "Q1_0": LLAMA_SERVER,
}


def parse_version(text: str) -> Version | None:
    """0.33.0-rc2 -> (0, 33, 0); None for a build without a number, which says 0.0.0."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    number = (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)
    return number if any(number) else None


def is_known(architecture: str) -> bool:
    """Does the table have this GGUF architecture?"""
    return architecture in _ARCHITECTURES


def why_not_run(version: Version, architecture: str, kinds: set[str]) -> list[str]:
    """Why this version cannot run a model. kinds: names of its tensor types (GGMLQuantizationType).

    Empty for an architecture that the table lacks: ask `is_known`.
    """
    since = _ARCHITECTURES.get(architecture)
    found = []
    if since is not None and version < since:
        found.append(f"it runs {architecture} since {_text(since)}")
    for kind in sorted(kinds):
        if version < _TYPES.get(kind, version):
            found.append(f"it reads {kind} weights since {_text(_TYPES[kind])}")
    return found


def why_no_adapter(version: Version, architecture: str) -> str:
    """Why this version does not serve an adapter on a base of this architecture; "" if it does."""
    if version >= NO_ADAPTERS:
        return f"Ollama takes no ADAPTER any more since {_text(NO_ADAPTERS)}"
    engine = _OWN_ENGINE.get(architecture)
    if engine is not None and engine <= version < LLAMA_SERVER:
        return (
            f"from {_text(engine)} up to {_text(LLAMA_SERVER)} Ollama runs {architecture} with an "
            "engine of its own, which takes no adapters"
        )
    return ""


def rewrites_models(version: Version | None) -> bool:
    """Does the server pass an uploaded model through llama-quantize, which needs its size again?"""
    return version is None or version >= LLAMA_SERVER


def _text(version: Version) -> str:
    return ".".join(map(str, version))
