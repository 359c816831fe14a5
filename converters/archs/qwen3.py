"""Qwen3: GGUF architecture "qwen3". Every head of q and k has a norm, no biases.

Keys: llama.cpp conversion/qwen.py; graph: src/models/qwen3.cpp, which has no bias on the output
projection.
"""

from __future__ import annotations

from typing import ClassVar

from converters.archs.decoder import Decoder, Fixed
from converters.hf_config import Config

NO_BIAS = Fixed("attention_bias", (False,), "the runtime has no bias on o_proj")


class Qwen3(Decoder):
    """The plain decoder with norms on q and k."""

    NAME = "qwen3"
    HF_CLASS = "Qwen3ForCausalLM"
    MODEL_TYPE = "qwen3"
    HEAD_NORMS = ("q_norm", "k_norm")
    FIXED: ClassVar[tuple[Fixed, ...]] = (NO_BIAS,)

    def ignores_window(self, config: Config) -> bool:
        """The class default of use_sliding_window is False."""
        return bool(config.get("use_sliding_window", False))


QWEN3 = Qwen3()
