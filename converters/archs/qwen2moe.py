"""Qwen1.5-MoE and Qwen2-MoE: GGUF architecture "qwen2moe". Experts beside one shared expert.

Keys: llama.cpp conversion/qwen.py (Qwen2MoeModel); graph: src/models/qwen2moe.cpp, which does not
divide the chosen experts' weights by their sum and wants an output layer of its own.
"""

from __future__ import annotations

from converters.archs.decoder import Field, Fixed, Shape
from converters.archs.experts import Experts
from converters.archs.qwen2 import QKV, Qwen2
from converters.hf_config import Config

ALL_SPARSE = (
    Fixed("decoder_sparse_step", (1,), "the runtime has experts in every layer"),
    Fixed("mlp_only_layers", ([],), "the runtime has experts in every layer"),
)


class Qwen2Moe(Experts, Qwen2):
    """Qwen2's attention, experts and a gated shared expert instead of the MLP."""

    NAME = "qwen2moe"
    HF_CLASS = "Qwen2MoeForCausalLM"
    MODEL_TYPE = "qwen2_moe"
    FIELDS = (
        Field("expert_feed_forward_length", "moe_intermediate_size"),
        Field("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
    )
    FIXED = (
        *ALL_SPARSE,
        Fixed("norm_topk_prob", (False,), "the runtime uses the experts' weights as they are"),
        Fixed("tie_word_embeddings", (False,), "the runtime wants an output layer of its own"),
    )

    def required(self) -> tuple[str, ...]:
        """Also the shared expert's width."""
        return (*super().required(), "shared_expert_intermediate_size")

    def biased(self, config: Config) -> tuple[str, ...]:
        """q, k and v unless qkv_bias is off."""
        return QKV if config.get("qkv_bias", True) else ()

    def mlp(self, config: Config) -> dict[str, Shape]:
        """The shared expert and its gate besides."""
        width, inner = config["hidden_size"], config["shared_expert_intermediate_size"]
        return {
            **super().mlp(config),
            "mlp.shared_expert.gate_proj": (inner, width),
            "mlp.shared_expert.up_proj": (inner, width),
            "mlp.shared_expert.down_proj": (width, inner),
            "mlp.shared_expert_gate": (1, width),
        }


QWEN2MOE = Qwen2Moe()
