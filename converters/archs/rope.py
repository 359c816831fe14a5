"""Rotary position settings: config.json <-> GGUF keys and tensors, for all families.

Keys: llama.cpp conversion/base.py (set_gguf_parameters). What the runtime does with them:
src/llama-model.cpp (load_hparams) and src/llama-context.cpp (the yarn attention factor). llama3
scaling has no key: it becomes the tensor rope_freqs.weight, which only some graphs read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from converters.errors import ConvertError, Unsupported
from converters.hf_config import Config
from converters.metadata import KV, f32, string, u32
from converters.transforms import F32

ROPE_FREQS = "rope_freqs.weight"
_ORIGINAL = "original_max_position_embeddings"
Scaling = dict[str, Any]

_NEEDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "longrope": ("long_factor", "short_factor"),
}
_YARN_FIXED = {
    "beta_fast": 32,
    "beta_slow": 1,
    "truncate": True,
    "mscale": None,
    "mscale_all_dim": None,
    "attention_factor": None,
}


def rope(config: Config) -> tuple[float, Scaling]:
    """(theta, scaling) from either place: transformers 5 `rope_parameters`, or the two old keys.

    An original length at the top level wins (transformers, standardize_rope_params).
    """
    scaling: Scaling = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = scaling.get("rope_theta") or config.get("rope_theta") or 10000.0
    scaling.setdefault("rope_type", scaling.get("type", "default"))
    if scaling["rope_type"] == "su":  # the first name of longrope
        scaling["rope_type"] = "longrope"
    if scaling["rope_type"] in ("yarn", "llama3", "longrope") and config.get(_ORIGINAL):
        scaling[_ORIGINAL] = config[_ORIGINAL]
    return float(theta), scaling


def rotary_factor(config: Config, default: float = 1.0) -> float:
    """Which part of a head is rotated: `partial_rotary_factor` from either place."""
    _, scaling = rope(config)
    inner = scaling.get("partial_rotary_factor")
    return float(inner if inner is not None else config.get("partial_rotary_factor") or default)


def scaling_problems(scaling: Scaling, known: tuple[str, ...]) -> Iterator[str]:
    """What the runtime would not honour. known: the scaling types the family's graph applies."""
    kind = scaling["rope_type"]
    if kind not in known:
        yield f"rope_type={kind}: for this architecture known are {', '.join(known)}"
    for key in _NEEDS.get(kind, ()):
        if not scaling.get(key):
            yield f"rope scaling has no {key}"


def yarn_problems(scaling: Scaling) -> Iterator[str]:
    """llama.cpp reads yarn_beta_fast and the like for few architectures only (src/models/)."""
    if scaling["rope_type"] != "yarn":
        return
    for key, fixed in _YARN_FIXED.items():
        if scaling.get(key) not in (None, fixed):
            yield f"yarn {key}={scaling[key]}: for this architecture the runtime uses {fixed}"


def scaling_pairs(name: str, scaling: Scaling) -> list[KV]:
    """The rope.scaling.* keys of linear and yarn scaling, for architecture `name`."""
    kind = scaling["rope_type"]
    if kind not in ("linear", "yarn"):
        return []
    out = [
        string(f"{name}.rope.scaling.type", kind),
        f32(f"{name}.rope.scaling.factor", scaling["factor"]),
    ]
    if kind == "yarn":
        original = scaling["original_max_position_embeddings"]
        out.append(u32(f"{name}.rope.scaling.original_context_length", original))
    return out


def scaling_of(name: str, values: Mapping[str, object]) -> Scaling:
    """The way back: rope_scaling of config.json from the metadata; {} where there is none."""
    kind = values.get(f"{name}.rope.scaling.type", "none")
    if kind == "none":
        return {}
    if kind not in ("linear", "yarn"):
        raise Unsupported(f"rope scaling {kind!r} cannot be turned into a config.json")
    factor = decimal(values.get(f"{name}.rope.scaling.factor", 1.0))
    scaling: Scaling = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        original = values.get(f"{name}.rope.scaling.original_context_length")
        scaling["original_max_position_embeddings"] = original
    return scaling


def llama3_tensor(config: Config, dim: int) -> dict[str, F32]:
    """rope_freqs.weight [dim / 2] for llama3 scaling: what each frequency is divided by."""
    theta, scaling = rope(config)
    if scaling["rope_type"] != "llama3":
        return {}
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    original, factor = scaling["original_max_position_embeddings"], float(scaling["factor"])
    return {ROPE_FREQS: _llama3_factors(theta, dim, (low, high), original, factor)}


def _llama3_factors(
    theta: float, dim: int, low_high: tuple[float, float], original: int, factor: float
) -> F32:
    """1 for short wavelengths, `factor` for long ones, a smooth blend between.

    transformers modeling_rope_utils._compute_llama3_parameters, as a divisor per frequency.
    """
    low, high = low_high
    out = np.empty(dim // 2, np.float32)
    for i in range(dim // 2):
        wavelength = 2 * math.pi * theta ** (2 * i / dim)
        smooth = (original / wavelength - low) / (high - low)
        out[i] = 1 / ((1 - min(1.0, max(0.0, smooth))) / factor + min(1.0, max(0.0, smooth)))
    return out


def known_llama3(freqs: F32, theta: float, dim: int) -> Scaling:
    """The tensor does not say its parameters; Meta released two sets (Llama 3.1 and 3.2)."""
    for factor in (8.0, 32.0):
        expected = _llama3_factors(theta, dim, (1.0, 4.0), 8192, factor)
        if freqs.shape == expected.shape and np.allclose(freqs, expected, rtol=1e-5):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }
    raise Unsupported(
        "the llama3 rope scaling of this file is not one of the published ones", ROPE_FREQS
    )


def decimal(value: object) -> float:
    """The shortest decimal of a float32: 1e-05 stays 1e-05."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
        raise ConvertError("the file's metadata has a number that is none", "", repr(value)[:60])
    return float(str(np.float32(value)))
