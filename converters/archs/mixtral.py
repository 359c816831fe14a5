"""Mixtral: GGUF architecture "llama" with experts (llama.cpp conversion/llama.py).

The runtime's llama graph divides the chosen experts' weights by their sum, as Mixtral does.
"""

from __future__ import annotations

from converters.archs.experts import Experts
from converters.archs.llama import ATTENTION, Llama
from converters.hf_config import Config


class Mixtral(Experts, Llama):
    """Llama's attention, experts instead of the MLP."""

    HF_CLASS = "MixtralForCausalLM"
    MODEL_TYPE = "mixtral"
    INNER = "intermediate_size"

    def biased(self, config: Config) -> tuple[str, ...]:
        """Only the attention can have biases."""
        return ATTENTION if config.get("attention_bias") else ()


MIXTRAL = Mixtral()
