"""Are the settings of a config.json of the right kind and size, before anything computes with them.

A downloaded file may say anything; a wrong kind must be a sentence and not a traceback, and a huge
count must not become a huge loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

from converters.errors import ConvertError
from converters.hf_config import Config

# Layers and experts: llama.cpp src/llama-hparams.h; the others are far above every published model.
_MOST = {
    "head_dim": 1 << 16,
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 24,
    "moe_intermediate_size": 1 << 24,
    "num_attention_heads": 1 << 12,
    "num_experts": 1024,
    "num_hidden_layers": 512,
    "num_key_value_heads": 1 << 12,
    "num_local_experts": 1024,
    "shared_expert_intermediate_size": 1 << 24,
    "vocab_size": 1 << 22,
}
_LARGEST = 2**31 - 1
_COUNTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "head_dim",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "sliding_window_pattern",
    "no_rope_layer_interval",
    "full_attention_interval",
    "num_experts",
    "num_local_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "linear_conv_kernel_dim",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_num_key_heads",
    "linear_num_value_heads",
)
_NUMBERS = (
    "rms_norm_eps",
    "rope_theta",
    "rope_local_base_freq",
    "partial_rotary_factor",
    "query_pre_attn_scalar",
    "attention_multiplier",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
)
_OR_ZERO = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")
_LISTS = {"layer_types": str, "no_rope_layers": int, "mlp_only_layers": int}
_ROPE_LISTS = ("long_factor", "short_factor", "mrope_section")
_ROPE_NUMBERS = (
    "rope_theta",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "beta_fast",
    "beta_slow",
    "partial_rotary_factor",
    "attention_factor",
)
_ROPE_OR_ZERO = ("mscale", "mscale_all_dim", "llama_4_scaling_beta")


def setting_problems(config: Config, required: tuple[str, ...]) -> Iterator[str]:
    """One sentence per setting that is missing, of another kind, or out of range."""
    for key in required:
        if config.get(key) is None:
            yield f"config.json has no {key}"
    for key in _COUNTS:
        if not _is_count(config.get(key, 1), _MOST.get(key, _LARGEST)):
            yield f"{key}={_short(config[key])}: not a number of 1 to {_MOST.get(key, _LARGEST)}"
    yield from _number_problems("", config, _NUMBERS, _OR_ZERO)
    for key, kind in _LISTS.items():
        if not _is_list(config.get(key) or [], kind):
            yield f"{key}={_short(config[key])}: not a list of {kind.__name__}"
    for key in ("rope_parameters", "rope_scaling"):
        yield from _rope_problems(key, config.get(key))


def per_layer(config: Config, value: object) -> list[bool]:
    """An array of the metadata with one entry per layer; [] where there is no array."""
    if not isinstance(value, list):
        return []
    if len(value) != config["num_hidden_layers"]:
        raise ConvertError(
            "the file's metadata has an array of the wrong length",
            "",
            f"{len(value)} entries for {config['num_hidden_layers']} layers",
        )
    return [bool(entry) for entry in value]


def _is_count(value: object, most: int) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value is None or (whole and 1 <= int(cast("int", value)) <= most)


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _number_problems(
    where: str, settings: Config, positive: tuple[str, ...], or_zero: tuple[str, ...]
) -> Iterator[str]:
    for key in (*positive, *or_zero):
        value = settings.get(key)
        if value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= _LARGEST or (key in positive and value == 0):
            yield f"{where}{key}={_short(value)}: not a positive number"


def _rope_problems(name: str, value: object) -> Iterator[str]:
    """The settings themselves, and those nested by the kind of layer (Gemma 3)."""
    if not value:
        return
    if not isinstance(value, dict):
        yield f"{name}={_short(value)}: not an object"
        return
    yield from _number_problems(f"{name}.", value, _ROPE_NUMBERS, _ROPE_OR_ZERO)
    for key in _ROPE_LISTS:
        items = value.get(key) or []
        if not isinstance(items, list) or not all(_is_finite(item) for item in items):
            yield f"{name}.{key}={_short(items)}: not a list of positive numbers"
    for key in ("rope_type", "type"):
        if not isinstance(value.get(key, ""), str):
            yield f"{name}.{key}={_short(value[key])}: not a name"
    for key in ("full_attention", "sliding_attention"):
        yield from _rope_problems(f"{name}.{key}", value.get(key))
    low, high = value.get("low_freq_factor"), value.get("high_freq_factor")
    if low is not None and low == high:
        yield f"{name}: low_freq_factor and high_freq_factor are both {_short(low)}"


def _is_finite(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(float(str(value))) and float(str(value)) >= 0


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
