"""GLM-4-0414: GGUF architecture "glm4". Half of a head rotated, gate and up in one tensor.

Two norms more per layer, after the attention and after the MLP. Both sides rotate neighbours, so
nothing is permuted. Keys: llama.cpp conversion/glm.py (Glm4Model); graph: src/models/glm4.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converters.archs import rope as ropes
from converters.archs.decoder import Decoder, Field, Shape
from converters.archs.qwen2 import QKV
from converters.hf_config import Config
from converters.transforms import F32


class Glm4(Decoder):
    """Four norms, fused MLP."""

    NAME = "glm4"
    HF_CLASS = "Glm4ForCausalLM"
    MODEL_TYPE = "glm4"
    WHOLE_HEADS = False
    NORMS = (
        "input_layernorm",
        "post_self_attn_layernorm",
        "post_attention_layernorm",
        "post_mlp_layernorm",
    )
    FIELDS = (Field("rope.dimension_count", "rotary_dim"),)

    def rotary_dim(self, config: Config) -> int:
        """partial_rotary_factor of a head, by default half."""
        return int(self.head_dim(config) * ropes.rotary_factor(config, 0.5))

    def rope_problems(self, config: Config) -> Iterator[str]:
        """Positions in several dimensions are another order of rows."""
        yield from super().rope_problems(config)
        if "mrope_section" in self.rope(config)[1]:
            yield "mrope_section: only the text models are known"

    def settings(self, config: Config) -> Config:
        """With the rotated width."""
        return {**super().settings(config), "rotary_dim": self.rotary_dim(config)}

    def mlp(self, config: Config) -> dict[str, Shape]:
        """One projection for gate and up."""
        width, inner = config["hidden_size"], config["intermediate_size"]
        return {"mlp.gate_up_proj": (2 * inner, width), "mlp.down_proj": (width, inner)}

    def biased(self, config: Config) -> tuple[str, ...]:
        """q, k and v, if the config says so."""
        return QKV if config.get("attention_bias") else ()

    def put_rope(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> None:
        """Also the rotated part."""
        part = config.pop("rotary_dim", config["head_dim"] // 2) / config["head_dim"]
        super().put_rope(config, values, tensors)
        config["partial_rotary_factor"] = config["rope_parameters"]["partial_rotary_factor"] = part


GLM4 = Glm4()
