"""Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini: GGUF architecture "phi3".

q, k, v are one tensor, gate and up are one (gate first); both stay so. longrope becomes two tensors
of factors. Keys: llama.cpp conversion/phi.py (Phi3MiniModel); graph: src/models/phi3.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from converters.archs import rope as ropes
from converters.archs.decoder import Decoder, Field, Shape
from converters.archs.rope import Scaling, decimal
from converters.errors import ConvertError
from converters.hf_config import Config
from converters.metadata import KV, f32, u32
from converters.transforms import F32

_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
_SCALING = "rope.scaling."


class Phi3(Decoder):
    """Fused projections, part of a head rotated."""

    NAME = "phi3"
    HF_CLASS = "Phi3ForCausalLM"
    MODEL_TYPE = "phi3"
    EXTRA = (_LONG, _SHORT)
    ROPE_TYPES = ("default", "longrope")
    HEADS_FILL_WIDTH = True
    WHOLE_HEADS = False
    FIELDS = (
        Field("rope.dimension_count", "rotary_dim"),
        Field("attention.sliding_window", "sliding_window"),
    )

    def rotary_dim(self, config: Config) -> int:
        """partial_rotary_factor of a head."""
        return int(self.head_dim(config) * ropes.rotary_factor(config))

    def settings(self, config: Config) -> Config:
        """The runtime warns about a window that is not 0, and applies none."""
        window = config.get("sliding_window") or 0
        plain = super().settings(config)
        return {**plain, "rotary_dim": self.rotary_dim(config), "sliding_window": window}

    def rope_problems(self, config: Config) -> Iterator[str]:
        """Factors of the wrong number would be read past their end."""
        _, scaling = self.rope(config)
        yield from ropes.scaling_problems(scaling, self.ROPE_TYPES)
        if scaling["rope_type"] == "longrope":
            for key in ("long_factor", "short_factor"):
                n, wanted = len(scaling.get(key) or ()), self.rotary_dim(config) // 2
                if n != wanted:
                    yield f"{key} has {n} entries, not {wanted}"
            if _original(config) < 2:
                yield f"original_max_position_embeddings={_original(config)} is too short"

    def notes(self, config: Config) -> list[str]:
        """Which factors apply is decided by the context length, not by the length of the text."""
        _, scaling = self.rope(config)
        if scaling["rope_type"] != "longrope":
            return super().notes(config)
        return [
            *super().notes(config),
            f"a context (num_ctx) of more than {_original(config)} uses the long factors for every "
            "text; transformers does so only for longer texts",
        ]

    def attention(self, config: Config, layer: int) -> dict[str, Shape]:
        """One projection for q, k and v."""
        plain = super().attention(config, layer)
        rows = sum(shape[0] for name, shape in plain.items() if not name.endswith("o_proj"))
        return {
            "self_attn.qkv_proj": (rows, config["hidden_size"]),
            "self_attn.o_proj": plain["self_attn.o_proj"],
        }

    def mlp(self, config: Config) -> dict[str, Shape]:
        """One projection for gate and up."""
        width, inner = config["hidden_size"], config["intermediate_size"]
        return {"mlp.gate_up_proj": (2 * inner, width), "mlp.down_proj": (width, inner)}

    def more_pairs(self, config: Config) -> list[KV]:
        """What longrope needs beside its tensors: transformers' attention factor, spelled out."""
        out = [u32(f"{self.NAME}.{_SCALING}original_context_length", _original(config))]
        _, scaling = self.rope(config)
        if scaling["rope_type"] == "longrope":
            factor = scaling.get("attention_factor") or _attention_factor(config)
            out.append(f32(f"{self.NAME}.{_SCALING}attn_factor", factor))
        return out

    def extra_tensors(self, config: Config) -> dict[str, F32]:
        """The two lists of factors [rotary_dim / 2]."""
        _, scaling = self.rope(config)
        if scaling["rope_type"] != "longrope":
            return {}
        return {
            _LONG: np.asarray(scaling["long_factor"], np.float32),
            _SHORT: np.asarray(scaling["short_factor"], np.float32),
        }

    def put_rope(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> None:
        """Also the rotated part and the original length."""
        rotary = config.pop("rotary_dim", config["head_dim"])
        config["sliding_window"] = config.get("sliding_window") or None
        longest = config["max_position_embeddings"]
        original = values.get(f"{self.NAME}.{_SCALING}original_context_length", longest)
        if not isinstance(original, int) or original <= 1:
            raise ConvertError("the original context length is not usable", "", repr(original))
        config["original_max_position_embeddings"] = original
        config["partial_rotary_factor"] = rotary / config["head_dim"]
        super().put_rope(config, values, tensors)
        config["rope_parameters"]["partial_rotary_factor"] = config["partial_rotary_factor"]

    def scaling_of(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> Scaling:
        """longrope is known by its tensors."""
        if _LONG not in tensors or _SHORT not in tensors:
            return {}
        return {
            "rope_type": "longrope",
            "type": "longrope",
            "long_factor": [decimal(x) for x in tensors[_LONG]],
            "short_factor": [decimal(x) for x in tensors[_SHORT]],
            "original_max_position_embeddings": config["original_max_position_embeddings"],
            "factor": config["max_position_embeddings"]
            / config["original_max_position_embeddings"],
        }


def _original(config: Config) -> int:
    """The top level wins, as in transformers' standardize_rope_params."""
    key = "original_max_position_embeddings"
    inner = ropes.rope(config)[1].get(key)
    return int(config.get(key) or inner or config.get("max_position_embeddings") or 0)


def _attention_factor(config: Config) -> float:
    """transformers modeling_rope_utils._compute_longrope_parameters."""
    _, scaling = ropes.rope(config)
    original = _original(config)
    longest = config.get("max_position_embeddings") or original
    factor = scaling.get("factor") or longest / original
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


PHI3 = Phi3()
