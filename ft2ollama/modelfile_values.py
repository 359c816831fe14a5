"""What the Modelfile says beside the template, and why: parameters of the base, context, license.

In: the base's folder, the config's keys, the exported file's manifest. Out: values with the reason
that stands beside them in the Modelfile. Sampling follows the base's generation_config.json, as
transformers does: without `do_sample` it answers greedily. `repetition_penalty` is not taken over:
transformers counts the whole prompt, Ollama the last 64 tokens, so the same number is another rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft2ollama import __version__
from ft2ollama.config.schema import DEFAULT_NUM_CTX
from ft2ollama.files import sha256_file

Reasoned = tuple[Any, str]

MANIFEST_MARK = "ft2ollama-manifest: "
# Ollama's defaults differ between versions: repeat_penalty 1.1 up to 0.32.5, 1.0 from 0.32.10 on;
# temperature 0.8 in all.
PINNED: Mapping[str, Reasoned] = {
    "repeat_penalty": (
        1.0,
        "Ollama before 0.32.10 defaults to 1.1, which the model was not trained under",
    ),
    "temperature": (
        0.0,
        "taught facts are to be repeated, not sampled; raise it for creative use",
    ),
}
_SAMPLING = {"temperature": float, "top_p": float, "top_k": int, "min_p": float}
_LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
_LONGEST = 200_000  # characters of a license


def generation_parameters(folder: Path) -> dict[str, Reasoned]:
    """temperature, top_p, top_k and min_p of generation_config.json, if the base samples by it."""
    given = _read(folder / "generation_config.json")
    values = {
        name: kind(given[name])
        for name, kind in _SAMPLING.items()
        if isinstance(given.get(name), (int, float)) and not isinstance(given[name], bool)
    }
    if not given.get("do_sample", "temperature" in values):
        return {}
    values.setdefault("temperature", 1.0)  # transformers' own default
    return {
        name: (values[name], "the base's generation_config.json")
        for name in _SAMPLING
        if name in values
    }


def context_length(num_ctx: int | None, cutoff_len: int, folder: Path) -> tuple[int, str]:
    """num_ctx with its reason: the config's, or what training needs within the model's limit."""
    limit = _model_limit(folder)
    if num_ctx is not None:
        beyond = f"; the model is made for {limit}" if limit and num_ctx > limit else ""
        return num_ctx, f"tokens of prompt and reply: num_ctx of the config{beyond}"
    wanted, reason = DEFAULT_NUM_CTX, "a common length; longer ones take more memory"
    if cutoff_len > wanted:
        wanted, reason = cutoff_len, "cutoff_len, so that nothing that was trained is cut off"
    if limit and limit < wanted:
        wanted, reason = limit, "the longest that the model is made for"
    return wanted, f"tokens of prompt and reply: {reason}"


def license_texts(base: Path, gguf_manifest: Path, about: Mapping[str, str]) -> tuple[str, ...]:
    """The base's license, if its folder has one, and the line that says where the model is from.

    gguf_manifest: the .json beside the exported GGUF.  about: run, base and its hash. Ollama shows
    the line as it is, also for an adapter, whose metadata it does not show.
    """
    written = json.loads(gguf_manifest.read_text("utf-8"))
    line = {
        **about,
        "kind": written["kind"],
        "quant": written["quant"],
        "gguf_sha256": written["sha256"],
        "manifest_sha256": sha256_file(gguf_manifest),
        "ft2ollama": __version__,
    }
    own = _base_license(base)
    manifest = MANIFEST_MARK + json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    return (*([own] if own else []), manifest)


def _base_license(folder: Path) -> str:
    for name in _LICENSES:
        path = folder / name
        if path.is_file() and path.stat().st_size <= _LONGEST:
            return path.read_text("utf-8", errors="replace").strip()
    return ""


def _model_limit(folder: Path) -> int | None:
    """max_position_embeddings of config.json, or of its text part."""
    config = _read(folder / "config.json")
    text = config.get("text_config")
    for part in (text if isinstance(text, Mapping) else {}, config):
        limit = part.get("max_position_embeddings")
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
