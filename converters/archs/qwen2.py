"""Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen: GGUF architecture "qwen2".

Biases on q, k and v; no permutation. Keys: llama.cpp conversion/qwen.py. The graph
(src/models/qwen2.cpp) knows no other head width than hidden_size / heads.
"""

from __future__ import annotations

from converters.archs.decoder import Decoder
from converters.hf_config import Config

QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


class Qwen2(Decoder):
    """The plain decoder with three biases."""

    NAME = "qwen2"
    HF_CLASS = "Qwen2ForCausalLM"
    MODEL_TYPE = "qwen2"
    HEADS_FILL_WIDTH = True

    def biased(self, config: Config) -> tuple[str, ...]:
        """q, k and v always."""
        return QKV

    def ignores_window(self, config: Config) -> bool:
        """The class default of use_sliding_window is False."""
        return bool(config.get("use_sliding_window", False))


QWEN2 = Qwen2()
