"""Qwen3.5 (dense), text models and the text part of the others: GGUF architecture "qwen35".

Three of four layers have a linear attention (gated delta net) instead of a softmax. The checkpoint
has its value heads grouped by key head, the runtime repeats key heads, so value heads change places
(rows of qkv's last part, z, a, b, A_log, dt_bias and conv1d; columns of out_proj). Norms are stored
as w - 1, except the one inside the linear attention; A_log becomes -exp(A_log).
Keys and transforms: llama.cpp conversion/qwen.py; graph: src/models/qwen35.cpp. The extra layer for
guessing tokens ahead (mtp) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from converters.archs import rope as ropes
from converters.archs.decoder import Decoder, Field, Fixed, Shape
from converters.archs.settings import per_layer
from converters.errors import Unsupported
from converters.hf_config import Config
from converters.metadata import KV, booleans, i32s, u32
from converters.transforms import F32, Index, MappedRows, ReshapedRows, Rows

_LINEAR = "linear_attention"
_RECURRENT = "attention.recurrent_layers"
_SECTIONS = [11, 11, 10]  # of the published models; without an image all positions are equal


class Qwen35(Decoder):
    """Linear attention between full ones."""

    NAME = "qwen35"
    HF_CLASS = "Qwen3_5ForCausalLM"
    MODEL_TYPE = "qwen3_5_text"
    ROPE_TYPES = ("default",)
    WHOLE_HEADS = False
    HEAD_NORMS = ("q_norm", "k_norm")
    NORM_SHIFT = 1.0
    FIELDS = (
        Field("ssm.conv_kernel", "linear_conv_kernel_dim"),
        Field("ssm.state_size", "linear_key_head_dim"),
        Field("ssm.group_count", "linear_num_key_heads"),
        Field("ssm.time_step_rank", "linear_num_value_heads"),
        Field("ssm.inner_size", "linear_inner"),
        Field("rope.dimension_count", "rotary_dim"),
    )
    FIXED = (Fixed("attention_bias", (False,), "the runtime has no biases"),)
    LEFT_OUT = ("model.visual.", "visual.", "mtp.", "model.mtp.")

    def rotary_dim(self, config: Config) -> int:
        """A quarter of a head, if config.json does not say otherwise."""
        return int(self.head_dim(config) * ropes.rotary_factor(config, 0.25))

    def layer_types(self, config: Config) -> list[str]:
        """Of every layer: linear_attention or full_attention."""
        step, n = config.get("full_attention_interval") or 4, config["num_hidden_layers"]
        types = [_LINEAR if (i + 1) % step else "full_attention" for i in range(n)]
        return list(config.get("layer_types") or types)

    def _problems(self, config: Config) -> Iterator[str]:
        yield from super()._problems(config)
        types = self.layer_types(config)
        if len(types) != config["num_hidden_layers"] or set(types) - {_LINEAR, "full_attention"}:
            yield f"layer_types={types}: one of two kinds is needed for every layer"
        key, value = config["linear_key_head_dim"], config["linear_value_head_dim"]
        if key != value:
            yield f"linear_value_head_dim={value}: the runtime wants linear_key_head_dim={key}"
        if config["linear_num_value_heads"] % config["linear_num_key_heads"]:
            yield "linear_num_value_heads is no multiple of linear_num_key_heads"

    def required(self) -> tuple[str, ...]:
        """Also the linear attention's shape."""
        linear = ("conv_kernel_dim", "key_head_dim", "value_head_dim")
        heads = ("num_key_heads", "num_value_heads")
        return (*super().required(), *(f"linear_{key}" for key in (*linear, *heads)))

    def notes(self, config: Config) -> list[str]:
        """What is left out."""
        out = super().notes(config)
        if config.get("mtp_num_hidden_layers"):
            out.append(
                "the layer that guesses tokens ahead (mtp) is left out: answers are the same"
            )
        return out

    def settings(self, config: Config) -> Config:
        """With the products of two settings."""
        inner = config["linear_value_head_dim"] * config["linear_num_value_heads"]
        rotary = self.rotary_dim(config)
        return {**super().settings(config), "linear_inner": inner, "rotary_dim": rotary}

    def more_pairs(self, config: Config) -> list[KV]:
        """Which layers are which, and the sections of the positions."""
        linear = [kind == _LINEAR for kind in self.layer_types(config)]
        sections = list(self.rope(config)[1].get("mrope_section") or _SECTIONS)
        interval = linear.index(False) + 1 if False in linear else len(linear)
        return [
            booleans(f"{self.NAME}.{_RECURRENT}", linear),
            u32(f"{self.NAME}.full_attention_interval", interval),
            i32s(f"{self.NAME}.rope.dimension_sections", [*sections, 0, 0, 0, 0][:4]),
        ]

    def attention(self, config: Config, layer: int) -> dict[str, Shape]:
        """Full attention has a gate beside every query head."""
        plain = super().attention(config, layer)
        if self.layer_types(config)[layer] != _LINEAR:
            rows, width = plain["self_attn.q_proj"]
            return {**plain, "self_attn.q_proj": (2 * rows, width)}
        width, heads = config["hidden_size"], config["linear_num_value_heads"]
        values = heads * config["linear_value_head_dim"]
        return {
            "linear_attn.in_proj_qkv": (2 * _key_width(config) + values, width),
            "linear_attn.in_proj_z": (values, width),
            "linear_attn.in_proj_a": (heads, width),
            "linear_attn.in_proj_b": (heads, width),
            "linear_attn.out_proj": (width, values),
        }

    def layer(self, config: Config, layer: int) -> dict[str, Shape]:
        """Linear attention has parameters besides its projections."""
        out = super().layer(config, layer)
        if "linear_attn.in_proj_qkv.weight" in out:
            heads, channels = (
                config["linear_num_value_heads"],
                out["linear_attn.in_proj_qkv.weight"],
            )
            out["linear_attn.A_log"] = out["linear_attn.dt_proj.bias"] = (heads,)
            out["linear_attn.norm.weight"] = (config["linear_value_head_dim"],)
            kernel = config["linear_conv_kernel_dim"]
            out["linear_attn.conv1d.weight"] = (channels[0], kernel)
        return out

    def canonical(self, name: str) -> str:
        """gguf-py knows dt_bias as the bias of a dt_proj."""
        plain = super().canonical(name)
        return plain.removesuffix("dt_bias") + "dt_proj.bias" if _is_dt(plain) else plain

    def gather(self, config: Config, weights: Mapping[str, Rows]) -> dict[str, Rows]:
        """conv1d [channels, 1, kernel] becomes [channels, kernel]."""
        out = super().gather(config, weights)
        for name, rows in out.items():
            if name.endswith(".conv1d.weight") and len(rows.shape) == 3 and rows.shape[1] == 1:
                out[name] = ReshapedRows(rows, (rows.shape[0], rows.shape[2]))
        return out

    def row_order(self, config: Config, module: str) -> Index | None:
        """Value heads: key heads' repetitions one after the other."""
        kind = module.rpartition(".linear_attn.")[2]
        dim = config["linear_value_head_dim"]
        if kind in ("in_proj_qkv", "conv1d"):
            skip = 2 * _key_width(config)
            kept = np.arange(skip, dtype=np.intp)
            return np.concatenate([kept, skip + _tiled(config, dim)])
        if kind == "in_proj_z":
            return _tiled(config, dim)
        return _tiled(config, 1) if kind in _PER_HEAD else None

    def column_order(self, config: Config, module: str) -> Index | None:
        """The values come into out_proj in the runtime's order."""
        last = module.endswith(".linear_attn.out_proj")
        return _tiled(config, config["linear_value_head_dim"]) if last else None

    def shift(self, name: str) -> float:
        """The norm inside the linear attention is stored as it is."""
        return 0.0 if name.endswith("linear_attn.norm.weight") else super().shift(name)

    def transform(self, config: Config, name: str, rows: Rows) -> list[tuple[str, Rows]]:
        """A_log as the runtime multiplies by it."""
        out = super().transform(config, name, rows)
        if name.endswith(".A_log"):
            return [(part, MappedRows(values, lambda v: -np.exp(v))) for part, values in out]
        return out

    def put_rope(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> None:
        """Also the layers' kinds and the rotated part."""
        inner, heads = config.pop("linear_inner", 0), config.get("linear_num_value_heads") or 1
        config["linear_value_head_dim"] = inner // heads
        recurrent = per_layer(config, values.get(f"{self.NAME}.{_RECURRENT}"))
        if recurrent:
            config["layer_types"] = [_LINEAR if one else "full_attention" for one in recurrent]
        else:
            config["full_attention_interval"] = values.get(f"{self.NAME}.full_attention_interval")
        part = config.pop("rotary_dim", config["head_dim"] // 4) / config["head_dim"]
        super().put_rope(config, values, tensors)
        config["rope_parameters"]["partial_rotary_factor"] = part

    def undo(self, config: Config, name: str, rows: Rows) -> Rows:
        """Not needed so far."""
        raise Unsupported(f"a GGUF file of architecture {self.NAME} cannot be turned back", name)


_PER_HEAD = ("in_proj_a", "in_proj_b", "A_log", "dt_proj")


def _is_dt(name: str) -> bool:
    return name.endswith(".linear_attn.dt_bias")


def _key_width(config: Config) -> int:
    return int(config["linear_key_head_dim"] * config["linear_num_key_heads"])


def _tiled(config: Config, dim: int) -> Index:
    """Source index of each element: [value heads * dim], grouped by key head -> tiled."""
    keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    index = np.arange(values * dim, dtype=np.intp).reshape(keys, values // keys, dim)
    return index.swapaxes(0, 1).reshape(-1)


QWEN35 = Qwen35()
