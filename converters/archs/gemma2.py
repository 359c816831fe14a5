"""Gemma 2: GGUF architecture "gemma2".

Norms are stored as w - 1 and written as w, four per layer; logits are capped; every second layer
sees a window. Keys: llama.cpp conversion/gemma.py. The graph (src/models/gemma2.cpp) fixes the
attention's scale, both caps, and one tensor for embedding and output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from converters.archs.decoder import Decoder, Field, Fixed
from converters.archs.settings import per_layer
from converters.hf_config import Config
from converters.metadata import KV, booleans, f32
from converters.transforms import F32

_PATTERN = "attention.sliding_window_pattern"
_LOCAL = "sliding_attention"
ONE_WAY = Fixed("use_bidirectional_attention", (False,), "the runtime looks back only")
NO_BIAS = Fixed("attention_bias", (False,), "the runtime has no bias on o_proj")
GELU = Fixed("hidden_activation", ("gelu_pytorch_tanh",), "the runtime uses GELU with tanh")


class Gemma2(Decoder):
    """Also the base of Gemma 3."""

    NAME = "gemma2"
    HF_CLASS = "Gemma2ForCausalLM"
    MODEL_TYPE = "gemma2"
    CONSTANTS: ClassVar[Config] = {"hidden_activation": "gelu_pytorch_tanh"}
    ACTIVATION = GELU
    ROPE_TYPES = ("default", "linear")
    NORMS = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    NORM_SHIFT = 1.0
    FIELDS = (
        Field("attn_logit_softcapping", "attn_logit_softcapping", f32),
        Field("final_logit_softcapping", "final_logit_softcapping", f32),
        Field("attention.sliding_window", "sliding_window"),
    )
    FIXED: ClassVar[tuple[Fixed, ...]] = (
        ONE_WAY,
        NO_BIAS,
        Fixed("tie_word_embeddings", (True,), "the runtime has one tensor for both ends"),
    )
    PERIOD: ClassVar[int] = 2
    LAYERS_27B: ClassVar[int] = 46
    NEEDED: ClassVar[tuple[str, ...]] = ("attn_logit_softcapping", "final_logit_softcapping")

    def is_tied(self, config: Config) -> bool:
        """Tied unless config.json says otherwise."""
        return bool(config.get("tie_word_embeddings", True))

    def layer_types(self, config: Config) -> list[str]:
        """Of every layer: sliding_attention or full_attention. The last of a period is full."""
        n = config["num_hidden_layers"]
        period = config.get("sliding_window_pattern") or self.PERIOD
        types = [_LOCAL if (i + 1) % period else "full_attention" for i in range(n)]
        return list(config.get("layer_types") or types)

    def _problems(self, config: Config) -> Iterator[str]:
        yield from super()._problems(config)
        types = self.layer_types(config)
        if len(types) != config["num_hidden_layers"] or set(types) - {_LOCAL, "full_attention"}:
            yield f"layer_types={types}: one of two kinds is needed for every layer"
        if _LOCAL in types and not config.get("sliding_window"):
            yield "config.json has no sliding_window"
        for key in self.NEEDED:
            if not config.get(key):
                yield f"{key}={config.get(key)}: the runtime always caps"
        scalar = config.get("query_pre_attn_scalar", 256)
        if scalar != self.attention_width(config):
            yield (
                f"query_pre_attn_scalar={scalar}: "
                f"the runtime takes {self.attention_width(config)} for this shape"
            )

    def attention_width(self, config: Config) -> int:
        """What the runtime scales queries by: the head's width; for 27B the model's share."""
        if config["num_hidden_layers"] == self.LAYERS_27B:
            return int(config["hidden_size"] // config["num_attention_heads"])
        return self.head_dim(config)

    def ignores_window(self, config: Config) -> bool:
        """It is honoured."""
        return False

    def more_pairs(self, config: Config) -> list[KV]:
        """The layers' pattern, which llama.cpp guesses where it is not written."""
        pattern = [kind == _LOCAL for kind in self.layer_types(config)]
        return [*super().more_pairs(config), booleans(f"{self.NAME}.{_PATTERN}", pattern)]

    def put_rope(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> None:
        """Also the pattern and the attention's scale."""
        pattern = values.get(f"{self.NAME}.{_PATTERN}")
        layers = per_layer(config, pattern)
        if layers:
            config["layer_types"] = [_LOCAL if local else "full_attention" for local in layers]
        else:
            period = pattern if isinstance(pattern, int) and pattern > 0 else self.PERIOD
            config["layer_types"] = self.layer_types({**config, "sliding_window_pattern": period})
        config["query_pre_attn_scalar"] = self.attention_width(config)
        super().put_rope(config, values, tensors)


GEMMA2 = Gemma2()
