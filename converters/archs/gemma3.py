"""Gemma 3, text models and the text part of the others: GGUF architecture "gemma3".

Gemma 2 without caps, with norms on the heads of q and k, and with positions of their own in the
layers that see a window. Keys: llama.cpp conversion/gemma.py; the graph (src/models/gemma3.cpp)
applies rope scaling to the other layers only, as transformers does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converters.archs import rope as ropes
from converters.archs.decoder import VISION, Field, Fixed
from converters.archs.gemma2 import NO_BIAS, ONE_WAY, Gemma2
from converters.archs.rope import Scaling, decimal
from converters.hf_config import Config
from converters.metadata import f32
from converters.transforms import F32

_OLLAMA = ("rope.global.freq_base", "rope.local.freq_base")  # convert/convert_gemma3.go
_THETA, _LOCAL_THETA = 1_000_000.0, 10_000.0  # configuration_gemma3.py, default_theta


class Gemma3(Gemma2):
    """Two kinds of positions."""

    NAME = "gemma3"
    HF_CLASS = "Gemma3ForCausalLM"
    MODEL_TYPE = "gemma3_text"
    HEAD_NORMS = ("q_norm", "k_norm")
    FIELDS = (
        Field("final_logit_softcapping", "final_logit_softcapping", f32),
        Field("rope.freq_base_swa", "rope_local_base_freq", f32),
        Field("attention.sliding_window", "sliding_window"),
    )
    FIXED = (
        ONE_WAY,
        NO_BIAS,
        Fixed("attn_logit_softcapping", (None, 0), "the runtime does not cap attention"),
    )
    PERIOD = 6
    LAYERS_27B = 62
    NEEDED = ()
    LEFT_OUT = VISION

    def rope(self, config: Config) -> tuple[float, Scaling]:
        """Those of the layers that see everything."""
        nested = config.get("rope_parameters") or {}
        full = nested.get("full_attention", nested) or config.get("rope_scaling") or {}
        theta = full.get("rope_theta") or config.get("rope_theta") or _THETA
        return ropes.rope({"rope_parameters": {**full, "rope_theta": theta}})

    def _local(self, config: Config) -> Scaling:
        """Those of the layers that see a window."""
        found = (config.get("rope_parameters") or {}).get("sliding_attention") or {}
        theta = found.get("rope_theta") or config.get("rope_local_base_freq") or _LOCAL_THETA
        return {"rope_type": "default", **found, "rope_theta": theta}

    def rope_problems(self, config: Config) -> Iterator[str]:
        """No scaling within the window."""
        yield from super().rope_problems(config)
        kind = self._local(config)["rope_type"]
        if kind != "default":
            yield f"rope_type={kind} for sliding_attention: the runtime scales only the others"

    def settings(self, config: Config) -> Config:
        """With the window's theta."""
        local = float(self._local(config)["rope_theta"])
        return {**super().settings(config), "rope_local_base_freq": local}

    def put_rope(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> None:
        """In the old spelling and in the nested one. Ollama's own files have other keys."""
        theta = values.get(f"{self.NAME}.rope.freq_base", values.get(f"{self.NAME}.{_OLLAMA[0]}"))
        local = values.get(f"{self.NAME}.{_OLLAMA[1]}", _LOCAL_THETA)
        config["rope_theta"] = decimal(theta)  # the runtime's default is not the model's
        config.setdefault("rope_local_base_freq", decimal(local))
        super().put_rope(config, values, tensors)
        config["rope_parameters"] = {
            "full_attention": config["rope_parameters"],
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": config["rope_local_base_freq"],
            },
        }


GEMMA3 = Gemma3()
