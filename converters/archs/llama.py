"""Llama 2/3, Mistral, SmolLM2, TinyLlama: GGUF architecture "llama".

Keys: llama.cpp conversion/llama.py. q and k rows are permuted; llama3 RoPE scaling becomes the
tensor rope_freqs.weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from converters.archs import rope as ropes
from converters.archs.decoder import Decoder, Field
from converters.archs.rope import Scaling
from converters.hf_config import Config
from converters.transforms import F32, Index, rope_row_order

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


class Llama(Decoder):
    """Heads rotate neighbouring elements, so q and k rows change places."""

    NAME = "llama"
    HF_CLASS = "LlamaForCausalLM"
    MODEL_TYPE = "llama"
    EXTRA: ClassVar[tuple[str, ...]] = (ropes.ROPE_FREQS,)
    ROPE_TYPES: ClassVar[tuple[str, ...]] = ("default", "linear", "yarn", "llama3")
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vocab_size", "vocab_size"),
        Field("rope.dimension_count", "head_dim"),
    )

    def biased(self, config: Config) -> tuple[str, ...]:
        """All linears of a part, if the config says so."""
        attention = ATTENTION if config.get("attention_bias") else ()
        return attention + (MLP if config.get("mlp_bias") else ())

    def row_order(self, config: Config, module: str) -> Index | None:
        """q and k: see rope_row_order."""
        if module.endswith("self_attn.q_proj"):
            return rope_row_order(config["num_attention_heads"], self.head_dim(config))
        if module.endswith("self_attn.k_proj"):
            return rope_row_order(self.n_head_kv(config), self.head_dim(config))
        return None

    def extra_tensors(self, config: Config) -> dict[str, F32]:
        """rope_freqs.weight for llama3 scaling."""
        return ropes.llama3_tensor(config, self.head_dim(config))

    def scaling_of(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> Scaling:
        """llama3 scaling is known by its tensor."""
        if ropes.ROPE_FREQS in tensors:
            freqs = tensors[ropes.ROPE_FREQS]
            return ropes.known_llama3(freqs, config["rope_theta"], config["head_dim"])
        return super().scaling_of(config, values, tensors)


LLAMA = Llama()
