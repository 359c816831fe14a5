"""Granite 3.x: GGUF architecture "granite". Llama with four multipliers.

Keys: llama.cpp conversion/granite.py; the graph (src/models/granite.cpp) divides the logits by
logit_scale.
"""

from __future__ import annotations

from converters.archs.decoder import Field
from converters.archs.llama import Llama
from converters.hf_config import Config
from converters.metadata import f32

_MULTIPLIERS = (
    Field("attention.scale", "attention_multiplier", f32),
    Field("embedding_scale", "embedding_multiplier", f32),
    Field("residual_scale", "residual_multiplier", f32),
    Field("logit_scale", "logits_scaling", f32),
)


class Granite(Llama):
    """Llama's tensors."""

    NAME = "granite"
    HF_CLASS = "GraniteForCausalLM"
    MODEL_TYPE = "granite"
    FIELDS = (*Llama.FIELDS, *_MULTIPLIERS)

    def settings(self, config: Config) -> Config:
        """All four are 1 where config.json does not say (configuration_granite.py)."""
        return {field.setting: 1.0 for field in _MULTIPLIERS} | super().settings(config)


GRANITE = Granite()
