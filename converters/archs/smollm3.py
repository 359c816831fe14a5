"""SmolLM3: GGUF architecture "smollm3". Llama in which every fourth layer has no positions.

Keys: llama.cpp conversion/llama.py (SmolLM3Model). The step of four is fixed in the graph
(src/models/smollm3.cpp), which has no biases on the output projection and the MLP.
"""

from __future__ import annotations

from collections.abc import Iterator

from converters.archs.decoder import Fixed
from converters.archs.llama import Llama
from converters.hf_config import Config

_STEP = 4


class SmolLM3(Llama):
    """Llama's tensors; the layers without RoPE are not in the metadata."""

    NAME = "smollm3"
    HF_CLASS = "SmolLM3ForCausalLM"
    MODEL_TYPE = "smollm3"
    EXTRA = ()
    ROPE_TYPES = ("default", "linear", "yarn")
    FIXED = (
        Fixed("attention_bias", (False,), "the runtime has no bias on o_proj"),
        Fixed("mlp_bias", (False,), "the runtime has no biases in the MLP"),
    )

    def _problems(self, config: Config) -> Iterator[str]:
        yield from super()._problems(config)
        n, step = config["num_hidden_layers"], config.get("no_rope_layer_interval") or _STEP
        layers = config.get("no_rope_layers") or [int(bool((i + 1) % step)) for i in range(n)]
        if layers != [int(bool((i + 1) % _STEP)) for i in range(n)]:
            yield "no_rope_layers: the runtime leaves out RoPE in every fourth layer"

    def ignores_window(self, config: Config) -> bool:
        """The class default of use_sliding_window is False."""
        return bool(config.get("use_sliding_window", False))


SMOLLM3 = SmolLM3()
