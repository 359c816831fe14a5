"""Ministral 3, Mistral Small 3.1 and later: GGUF architecture "mistral3"; the text part of both.

Llama's tensors. Ministral 3 has yarn with its two scales and a query scale that grows with the
position: llama.cpp conversion/mistral3.py. The runtime takes mscale as 1 (src/llama-context.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converters.archs import rope as ropes
from converters.archs.decoder import VISION
from converters.archs.llama import Llama
from converters.archs.rope import Scaling, decimal
from converters.hf_config import Config
from converters.metadata import KV, f32
from converters.transforms import F32

_KEYS = {  # setting of rope_parameters -> key
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
    "mscale_all_dim": "rope.scaling.yarn_log_multiplier",
    "llama_4_scaling_beta": "attention.temperature_scale",
}


class Mistral3(Llama):
    """Llama with more yarn."""

    NAME = "mistral3"
    HF_CLASS = "Ministral3ForCausalLM"
    MODEL_TYPE = "ministral3"
    LEFT_OUT = VISION

    def _problems(self, config: Config) -> Iterator[str]:
        kind = config.get("model_type")
        if kind not in (None, "mistral", "mistral3", "ministral3"):
            yield f"model_type={kind}: known are mistral and ministral3"
        yield from super()._problems(config)
        if config.get("attention_bias") or config.get("mlp_bias"):
            yield "biases: the transformers class has none"

    def rope_problems(self, config: Config) -> Iterator[str]:
        """Also what the runtime assumes about the two scales."""
        _, scaling = self.rope(config)
        yield from ropes.scaling_problems(scaling, self.ROPE_TYPES)
        if scaling["rope_type"] != "yarn":
            if scaling.get("llama_4_scaling_beta"):
                yield "llama_4_scaling_beta: the runtime knows it only together with yarn"
            return
        one, all_dim = scaling.get("mscale"), scaling.get("mscale_all_dim")
        if (one or None) not in (None, 1) or bool(one) != bool(all_dim):
            yield f"yarn mscale={one}, mscale_all_dim={all_dim}: the runtime takes mscale as 1"
        if scaling.get("attention_factor") is not None:
            yield "yarn attention_factor: the runtime computes it from the factor"
        if scaling.get("truncate") is False:
            yield "yarn truncate=False: the runtime rounds the range of the ramp"

    def more_pairs(self, config: Config) -> list[KV]:
        """The yarn settings that only this architecture has."""
        _, scaling = self.rope(config)
        out = super().more_pairs(config)
        if scaling["rope_type"] == "yarn":
            out += [
                f32(f"{self.NAME}.{key}", scaling[setting])
                for setting, key in _KEYS.items()
                if scaling.get(setting)
            ]
        return out

    def scaling_of(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> Scaling:
        """The same settings back."""
        scaling = super().scaling_of(config, values, tensors)
        for setting, key in _KEYS.items():
            if f"{self.NAME}.{key}" in values:
                scaling[setting] = decimal(values[f"{self.NAME}.{key}"])
        if "mscale_all_dim" in scaling:
            scaling["mscale"] = 1.0
        return scaling


MISTRAL3 = Mistral3()
