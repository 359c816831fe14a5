"""Qwen3-MoE: GGUF architecture "qwen3moe". Keys: llama.cpp conversion/qwen.py (Qwen3MoeModel).

The runtime always divides the chosen experts' weights by their sum (src/models/qwen3moe.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator

from converters.archs.decoder import Field
from converters.archs.experts import Experts
from converters.archs.qwen2moe import ALL_SPARSE
from converters.archs.qwen3 import NO_BIAS, Qwen3
from converters.hf_config import Config


class Qwen3Moe(Experts, Qwen3):
    """Qwen3's attention, experts instead of the MLP."""

    NAME = "qwen3moe"
    HF_CLASS = "Qwen3MoeForCausalLM"
    MODEL_TYPE = "qwen3_moe"
    CONSTANTS = {**Qwen3.CONSTANTS, "norm_topk_prob": True}  # noqa: RUF012
    FIELDS = (Field("expert_feed_forward_length", "moe_intermediate_size"),)
    FIXED = (NO_BIAS, *ALL_SPARSE)

    def _problems(self, config: Config) -> Iterator[str]:
        yield from super()._problems(config)
        if not config.get("norm_topk_prob", False):  # the class default
            yield "norm_topk_prob=False: the runtime divides the experts' weights by their sum"


QWEN3MOE = Qwen3Moe()
