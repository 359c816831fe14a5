"""config.json as one flat object: the text part of a multimodal model, class defaults filled in.

In: what the file says. Out: the settings of the language model. transformers leaves out what equals
the default of the configuration class, so those defaults are facts of the format; the source of
each is transformers models/<model_type>/configuration_<model_type>.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters.errors import ConvertError

Config = dict[str, Any]

_GEMMA: Config = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
DEFAULTS: Mapping[str, Config] = {
    "gemma2": {
        **_GEMMA,
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "gemma3_text": {**_GEMMA, "vocab_size": 262208, "max_position_embeddings": 131072},
    "glm4": {"head_dim": 128, "attention_bias": True, "rms_norm_eps": 1.5625e-07},
    "ministral3": {"head_dim": 128, "num_key_value_heads": 8, "rms_norm_eps": 1e-5},
    "mistral": {"num_key_value_heads": 8},
    "mixtral": {"num_key_value_heads": 8, "num_experts": 8, "num_experts_per_tok": 2},
    "phi3": {"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096},
    "qwen2_moe": {
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "qkv_bias": True,
    },
    "qwen3": {"head_dim": 128},
    "qwen3_moe": {
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "num_key_value_heads": 4,
    },
    "qwen3_5_text": {
        "head_dim": 256,
        "num_key_value_heads": 4,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
    },
    "smollm3": {"num_key_value_heads": 4, "tie_word_embeddings": True},
}


def complete(config: Mapping[str, Any]) -> Config:
    """The language model's settings: `text_config` over the top level, over the class defaults.

    The top level keeps `architectures`, because the text part names none or its own class.
    """
    inner = config.get("text_config") or {}
    if not isinstance(inner, dict):
        raise ConvertError("config.json has a text_config that is not an object", "", repr(inner))
    flat: Config = {**config, **inner}
    if "architectures" in config:
        flat["architectures"] = config["architectures"]
    flat.pop("text_config", None)
    if "num_local_experts" in flat:  # transformers 5 saves num_experts under Mixtral's name
        flat.setdefault("num_experts", flat["num_local_experts"])
    kind = flat.get("model_type")
    return {**DEFAULTS.get(kind if isinstance(kind, str) else "", {}), **flat}
