"""Llama 2/3, Mistral, SmolLM2, TinyLlama: GGUF architecture "llama".

Keys: llama.cpp conversion/llama.py and conversion/base.py (set_gguf_parameters). q and k rows are
permuted; llama3 RoPE scaling becomes the tensor rope_freqs.weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.errors import ConvertError, Unsupported
from converters.hf_folder import Config
from converters.lora import LoraPair
from converters.metadata import KV, f32, string, u32
from converters.transforms import F32, Index, PermutedRows, Rows, inverse_order, rope_row_order

NAME = "llama"
ROPE_FREQS = "rope_freqs.weight"
EXTRA = (ROPE_FREQS,)
_YARN_FIXED = {
    "beta_fast": 32,
    "beta_slow": 1,
    "truncate": True,
    "mscale": None,
    "mscale_all_dim": None,
    "attention_factor": None,
}
_ROPE_NEEDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


def head_dim(config: Config) -> int:
    """Width of one attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def n_head_kv(config: Config) -> int:
    """Number of key/value heads."""
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def rope(config: Config) -> tuple[float, dict[str, Any]]:
    """(theta, scaling) from either place: transformers 5 `rope_parameters`, or the two old keys."""
    scaling: dict[str, Any] = dict(
        config.get("rope_parameters") or config.get("rope_scaling") or {}
    )
    theta = scaling.get("rope_theta") or config.get("rope_theta") or 10000.0
    scaling.setdefault("rope_type", scaling.get("type", "default"))
    return float(theta), scaling


def is_tied(config: Config) -> bool:
    """LlamaConfig and MistralConfig default to untied."""
    return bool(config.get("tie_word_embeddings", False))


def problems(config: Config) -> list[str]:
    """Settings llama.cpp's llama graph does not have."""
    required = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    )
    found = [f"config.json has no {key}" for key in required if not config.get(key)]
    if found:
        return found
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        found.append(f"hidden_act={config['hidden_act']}: the runtime always uses silu")
    if config.get("quantization_config"):
        found.append("quantization_config is set: start from the float checkpoint")
    _, scaling = rope(config)
    if scaling["rope_type"] not in _ROPE_NEEDS:
        found.append(f"rope_type={scaling['rope_type']}: known are {', '.join(_ROPE_NEEDS)}")
    rotary = scaling.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1
    if rotary != 1:
        found.append(f"partial_rotary_factor={rotary}: the runtime rotates whole heads")
    needed = _ROPE_NEEDS.get(scaling["rope_type"], ())
    found += [f"rope scaling has no {key}" for key in needed if not scaling.get(key)]
    if scaling["rope_type"] == "yarn":
        found += _yarn_problems(scaling)
    if head_dim(config) % 2:
        found.append(f"head_dim={head_dim(config)} is odd")
    return found


def _yarn_problems(scaling: Mapping[str, Any]) -> list[str]:
    """llama.cpp reads yarn_beta_fast and the like for grok and mistral3 only (src/models/)."""
    return [
        f"yarn {key}={scaling[key]}: for this architecture the runtime always uses {fixed}"
        for key, fixed in _YARN_FIXED.items()
        if scaling.get(key) not in (None, fixed)
    ]


def notes(config: Config) -> list[str]:
    """What the runtime leaves out."""
    window = config.get("sliding_window")
    if window and window < config.get("max_position_embeddings", 2048):
        return [f"the runtime does not apply sliding_window={window}: longer prompts see more"]
    return []


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Hugging Face names and shapes of all tensors."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    out = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if not is_tied(config):
        out["lm_head.weight"] = (config["vocab_size"], width)
    q_rows, kv_rows = (
        n * head_dim(config) for n in (config["num_attention_heads"], n_head_kv(config))
    )
    linears = {
        "self_attn.q_proj": (q_rows, width),
        "self_attn.k_proj": (kv_rows, width),
        "self_attn.v_proj": (kv_rows, width),
        "self_attn.o_proj": (width, q_rows),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    for layer in range(config["num_hidden_layers"]):
        start = f"model.layers.{layer}."
        out[start + "input_layernorm.weight"] = (width,)
        out[start + "post_attention_layernorm.weight"] = (width,)
        for module, shape in linears.items():
            out[f"{start}{module}.weight"] = shape
            if config.get("attention_bias" if "attn" in module else "mlp_bias"):
                out[f"{start}{module}.bias"] = shape[:1]
    return out


def pairs(config: Config) -> list[KV]:
    """Metadata in the order llama.cpp writes it."""
    theta, scaling = rope(config)
    out = [
        u32("llama.block_count", config["num_hidden_layers"]),
        u32("llama.context_length", config.get("max_position_embeddings", 2048)),
        u32("llama.embedding_length", config["hidden_size"]),
        u32("llama.feed_forward_length", config["intermediate_size"]),
        u32("llama.attention.head_count", config["num_attention_heads"]),
        u32("llama.attention.head_count_kv", n_head_kv(config)),
        f32("llama.rope.freq_base", theta),
        f32("llama.attention.layer_norm_rms_epsilon", config.get("rms_norm_eps", 1e-6)),
        u32("llama.attention.key_length", head_dim(config)),
        u32("llama.attention.value_length", head_dim(config)),
        u32("llama.vocab_size", config["vocab_size"]),
        u32("llama.rope.dimension_count", head_dim(config)),
    ]
    return out + _scaling_pairs(scaling)


def _scaling_pairs(scaling: Mapping[str, Any]) -> list[KV]:
    kind = scaling["rope_type"]
    if kind not in ("linear", "yarn"):
        return []
    out = [
        string("llama.rope.scaling.type", kind),
        f32("llama.rope.scaling.factor", scaling["factor"]),
    ]
    if kind == "yarn":
        original = scaling["original_max_position_embeddings"]
        out.append(u32("llama.rope.scaling.original_context_length", original))
    return out


def row_order(config: Config, module: str) -> Index | None:
    """Row order of q and k projections in the file (weights, biases and LoRA B alike)."""
    if module.endswith("self_attn.q_proj"):
        return rope_row_order(config["num_attention_heads"], head_dim(config))
    if module.endswith("self_attn.k_proj"):
        return rope_row_order(n_head_kv(config), head_dim(config))
    return None


def transform(config: Config, name: str, rows: Rows) -> list[tuple[str, Rows]]:
    """q and k rows permuted, everything else as it is."""
    order = row_order(config, name.rpartition(".")[0])
    return [(name, rows if order is None else PermutedRows(rows, order))]


def transform_lora(config: Config, pair: LoraPair) -> list[LoraPair]:
    """q and k: the rows of B permuted like the rows of W."""
    order = row_order(config, pair.name)
    return [pair if order is None else pair.permute_rows(order)]


def undo(config: Config, name: str, rows: Rows) -> Rows:
    """Rows back in checkpoint order."""
    order = row_order(config, name.rpartition(".")[0])
    return rows if order is None else PermutedRows(rows, inverse_order(order))


def extra_tensors(config: Config) -> dict[str, F32]:
    """rope_freqs.weight [head_dim / 2] for llama3 scaling: what each frequency is divided by."""
    theta, scaling = rope(config)
    if scaling["rope_type"] != "llama3":
        return {}
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    original, factor = scaling["original_max_position_embeddings"], float(scaling["factor"])
    return {ROPE_FREQS: _llama3_factors(theta, head_dim(config), (low, high), original, factor)}


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


def config_of(values: Mapping[str, object], tensors: Mapping[str, F32]) -> Config:
    """LlamaConfig fields from GGUF metadata. `tensors` holds rope_freqs.weight where there is one.

    Floats are given as the shortest decimal of their float32, so 1e-05 stays 1e-05.
    """

    def number(key: str, default: int | None = None) -> int:
        value = values.get(f"llama.{key}", default)
        if not isinstance(value, int) or value < 1:
            raise ConvertError(
                f"llama.{key} is missing or not a positive number", "", f"found {value!r}"
            )
        return value

    heads, width = number("attention.head_count"), number("embedding_length")
    theta = _decimal(values.get("llama.rope.freq_base", 10000.0))
    dim = number("attention.key_length", number("rope.dimension_count", width // heads))
    config: Config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": number("attention.head_count_kv", heads),
        "head_dim": dim,
        "max_position_embeddings": number("context_length"),
        "rms_norm_eps": _decimal(values.get("llama.attention.layer_norm_rms_epsilon", 1e-5)),
        "hidden_act": "silu",
        "rope_theta": theta,
    }
    scaling = _scaling_of(values, tensors, theta, dim)
    if scaling:
        config["rope_scaling"] = scaling
    config["rope_parameters"] = {"rope_theta": theta, "rope_type": "default", **scaling}
    return config


def _scaling_of(
    values: Mapping[str, object], tensors: Mapping[str, F32], theta: float, dim: int
) -> dict[str, Any]:
    kind = values.get("llama.rope.scaling.type", "none")
    if ROPE_FREQS in tensors:
        return _known_llama3(tensors[ROPE_FREQS], theta, dim)
    if kind == "none":
        return {}
    if kind not in ("linear", "yarn"):
        raise Unsupported(f"rope scaling {kind!r} cannot be turned into a config.json")
    scaling: dict[str, Any] = {
        "rope_type": kind,
        "factor": _decimal(values.get("llama.rope.scaling.factor", 1.0)),
    }
    if kind == "yarn":
        original = "llama.rope.scaling.original_context_length"
        scaling["original_max_position_embeddings"] = values.get(original)
    return scaling


def _known_llama3(freqs: F32, theta: float, dim: int) -> dict[str, Any]:
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


def _decimal(value: object) -> float:
    return float(str(np.float32(float(str(value)))))
