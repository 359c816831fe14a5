"""The numbers of config.json, judged before anything is computed from them.

A config comes from other people: a layer count of a billion or a width that is a text must be an
answer and not a crash, and nothing may be allocated by its word. The limits are far above every
published model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from converters.errors import ConvertError

_LIMITS = {
    "head_dim": 1 << 16,
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 24,
    "max_position_embeddings": (1 << 32) - 1,
    "moe_intermediate_size": 1 << 24,
    "num_attention_heads": 1 << 12,
    "num_experts": 1 << 12,
    "num_hidden_layers": 512,
    "num_key_value_heads": 1 << 12,
    "num_local_experts": 1 << 12,
    "shared_expert_intermediate_size": 1 << 24,
    "vocab_size": 1 << 22,
}
_FLOATS = ("rms_norm_eps", "rope_theta")


def require_sane(config: Mapping[str, Any]) -> None:
    """Raise unless every known number is one, positive and below its limit; absent is fine."""
    lines = list(_problems(config))
    if lines:
        raise ConvertError("config.json has numbers that cannot be right", "", "\n".join(lines))


def _problems(config: Mapping[str, Any]) -> Iterator[str]:
    for key, limit in _LIMITS.items():
        value = config.get(key)
        if value is not None and (type(value) is not int or not 0 < value <= limit):
            yield f"{key} is {_short(value)}, expected a whole number from 1 to {limit}"
    for key in _FLOATS:
        value = config.get(key)
        if value is not None and (type(value) not in (int, float) or not 0 < value < 1e30):
            yield f"{key} is {_short(value)}, expected a positive number"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
