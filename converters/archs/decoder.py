"""What decoder families have in common: names, shapes, metadata, and the way back.

A family is a subclass with tables that say only what differs from the plainest decoder (separate
q, k and v, gated MLP, two norms per layer, RoPE over whole heads). One table of fields serves both
directions, config.json -> keys and back, so that they cannot drift apart.
Keys and their order: llama.cpp conversion/base.py (set_gguf_parameters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from converters.archs import rope as ropes
from converters.archs.rope import Scaling, decimal
from converters.archs.settings import setting_problems
from converters.errors import ConvertError
from converters.hf_config import Config
from converters.lora import LoraPair, PairSource
from converters.metadata import KV, f32, u32
from converters.transforms import (
    F32,
    Index,
    MappedRows,
    PermutedColumns,
    PermutedRows,
    Rows,
    inverse_order,
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Field:
    """One setting in both worlds. key: without the architecture; make: builds the typed pair."""

    key: str
    setting: str
    make: Callable[[str, Any], KV] = u32


@dataclass(frozen=True)
class Fixed:
    """A setting the runtime has no key for. allowed: the values under which it does the same."""

    setting: str
    allowed: tuple[object, ...]
    why: str


class Decoder:
    """The plainest decoder; see converters.archs.Architecture for what each method means."""

    NAME: ClassVar[str]
    HF_CLASS: ClassVar[str]
    MODEL_TYPE: ClassVar[str]
    EXTRA: ClassVar[tuple[str, ...]] = ()
    FIELDS: ClassVar[tuple[Field, ...]] = ()
    FIXED: ClassVar[tuple[Fixed, ...]] = ()
    CONSTANTS: ClassVar[Config] = {"hidden_act": "silu"}
    ACTIVATION: ClassVar[Fixed] = Fixed("hidden_act", ("silu", "swish"), "the runtime uses silu")
    ROPE_TYPES: ClassVar[tuple[str, ...]] = ("default", "linear", "yarn")
    NORMS: ClassVar[tuple[str, ...]] = ("input_layernorm", "post_attention_layernorm")
    HEAD_NORMS: ClassVar[tuple[str, ...]] = ()
    NORM_SHIFT: ClassVar[float] = 0.0
    HEADS_FILL_WIDTH: ClassVar[bool] = False
    WHOLE_HEADS: ClassVar[bool] = True
    LEFT_OUT: ClassVar[tuple[str, ...]] = ()

    # -- settings ---------------------------------------------------------------------------

    def head_dim(self, config: Config) -> int:
        """Width of one attention head."""
        return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])

    def n_head_kv(self, config: Config) -> int:
        """Number of key/value heads."""
        return int(config.get("num_key_value_heads") or config["num_attention_heads"])

    def rotary_dim(self, config: Config) -> int:
        """How many elements of a head are rotated."""
        return self.head_dim(config)

    def rope(self, config: Config) -> tuple[float, Scaling]:
        """Theta and scaling."""
        return ropes.rope(config)

    def is_tied(self, config: Config) -> bool:
        """Whether the output layer is the embedding."""
        return bool(config.get("tie_word_embeddings", False))

    def required(self) -> tuple[str, ...]:
        """Settings without which there is no shape."""
        return (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
        )

    def problems(self, config: Config) -> list[str]:
        """Settings llama.cpp's graph of this family does not have."""
        unusable = list(setting_problems(config, self.required()))
        return unusable or list(self._problems(config))

    def _problems(self, config: Config) -> Iterator[str]:
        if config.get("quantization_config"):
            yield "quantization_config is set: start from the float checkpoint"
        for fixed in (self.ACTIVATION, *self.FIXED):
            value = config.get(fixed.setting)
            if value is not None and value not in fixed.allowed:
                yield f"{fixed.setting}={value}: {fixed.why}"
        yield from self.rope_problems(config)
        heads, dim = config["num_attention_heads"], self.head_dim(config)
        if dim % 2 or dim < 2 or self.rotary_dim(config) not in range(2, dim + 1, 2):
            yield f"head_dim={dim}, of which {self.rotary_dim(config)} rotate: not even numbers"
        if heads % self.n_head_kv(config):
            yield f"num_attention_heads={heads} is no multiple of {self.n_head_kv(config)}"
        if self.HEADS_FILL_WIDTH and heads * dim != config["hidden_size"]:
            yield f"head_dim={dim}: the runtime wants hidden_size / num_attention_heads"

    def rope_problems(self, config: Config) -> Iterator[str]:
        """Positional settings the family's graph does not apply."""
        _, scaling = self.rope(config)
        yield from ropes.scaling_problems(scaling, self.ROPE_TYPES)
        yield from ropes.yarn_problems(scaling)
        if self.WHOLE_HEADS and ropes.rotary_factor(config) != 1:
            yield (
                f"partial_rotary_factor={ropes.rotary_factor(config)}: "
                "the runtime rotates whole heads"
            )

    def notes(self, config: Config) -> list[str]:
        """What is left out or honoured in part."""
        out = []
        window = config.get("sliding_window") if self.ignores_window(config) else None
        if window and window < (config.get("max_position_embeddings") or 2048):
            out.append(
                f"the runtime does not apply sliding_window={window}: longer prompts see more"
            )
        if config.get("vision_config"):
            out.append("the vision part is left out: the file answers text only")
        return out

    def ignores_window(self, config: Config) -> bool:
        """Whether `sliding_window` is meant and the runtime attends to everything all the same."""
        return bool(config.get("use_sliding_window", True))

    # -- shapes -----------------------------------------------------------------------------

    def shapes(self, config: Config) -> dict[str, Shape]:
        """Canonical Hugging Face names and shapes of all tensors."""
        width = config["hidden_size"]
        out: dict[str, Shape] = {
            "model.embed_tokens.weight": (config["vocab_size"], width),
            "model.norm.weight": (width,),
        }
        if not self.is_tied(config):
            out["lm_head.weight"] = (config["vocab_size"], width)
        for layer in range(config["num_hidden_layers"]):
            for name, shape in self.layer(config, layer).items():
                out[f"model.layers.{layer}.{name}"] = shape
        return out

    def layer(self, config: Config, layer: int) -> dict[str, Shape]:
        """Tensors of one layer."""
        out: dict[str, Shape] = {f"{norm}.weight": (config["hidden_size"],) for norm in self.NORMS}
        linears = {**self.attention(config, layer), **self.mlp(config)}
        biased = self.biased(config)
        for module, shape in linears.items():
            out[f"{module}.weight"] = shape
            if module in biased:
                out[f"{module}.bias"] = shape[:1]
        if "self_attn.o_proj" in linears:
            for norm in self.HEAD_NORMS:
                out[f"self_attn.{norm}.weight"] = (self.head_dim(config),)
        return out

    def attention(self, config: Config, layer: int) -> dict[str, Shape]:
        """Modules of the attention: [n_out, n_in]."""
        width, dim = config["hidden_size"], self.head_dim(config)
        q_rows, kv_rows = config["num_attention_heads"] * dim, self.n_head_kv(config) * dim
        return {
            "self_attn.q_proj": (q_rows, width),
            "self_attn.k_proj": (kv_rows, width),
            "self_attn.v_proj": (kv_rows, width),
            "self_attn.o_proj": (width, q_rows),
        }

    def mlp(self, config: Config) -> dict[str, Shape]:
        """Modules of the feed-forward part."""
        width, inner = config["hidden_size"], config["intermediate_size"]
        return {
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }

    def biased(self, config: Config) -> tuple[str, ...]:
        """Modules of a layer that have a bias."""
        return ()

    # -- metadata ---------------------------------------------------------------------------

    def fields(self) -> tuple[Field, ...]:
        """Keys that are one setting each."""
        return (
            Field("block_count", "num_hidden_layers"),
            Field("context_length", "max_position_embeddings"),
            Field("embedding_length", "hidden_size"),
            Field("feed_forward_length", "intermediate_size"),
            Field("attention.head_count", "num_attention_heads"),
            Field("attention.head_count_kv", "num_key_value_heads"),
            Field("rope.freq_base", "rope_theta", f32),
            Field("attention.layer_norm_rms_epsilon", "rms_norm_eps", f32),
            Field("attention.key_length", "head_dim"),
            Field("attention.value_length", "head_dim"),
            *self.FIELDS,
        )

    def settings(self, config: Config) -> Config:
        """The config with the values that `fields` names spelled out."""
        theta, _ = self.rope(config)
        return {
            **config,
            "max_position_embeddings": config.get("max_position_embeddings") or 2048,
            "rms_norm_eps": config.get("rms_norm_eps") or 1e-6,
            "num_key_value_heads": self.n_head_kv(config),
            "rope_theta": theta,
            "head_dim": self.head_dim(config),
        }

    def pairs(self, config: Config) -> list[KV]:
        """Metadata in the order llama.cpp writes it."""
        settings = self.settings(config)
        out = [
            field.make(f"{self.NAME}.{field.key}", settings[field.setting])
            for field in self.fields()
            if settings.get(field.setting) is not None
        ]
        return out + self.more_pairs(config)

    def more_pairs(self, config: Config) -> list[KV]:
        """Keys that are more than one setting."""
        _, scaling = self.rope(config)
        return ropes.scaling_pairs(self.NAME, scaling)

    def config_of(self, values: Mapping[str, object], tensors: Mapping[str, F32]) -> Config:
        """The way back. Floats are given as the shortest decimal of their float32."""
        config: Config = {"architectures": [self.HF_CLASS], "model_type": self.MODEL_TYPE}
        config.update(self.CONSTANTS)
        for field in self.fields():
            value = values.get(f"{self.NAME}.{field.key}")
            if field.make is f32 and value is not None:
                config[field.setting] = decimal(value)
            elif field.make is u32 and value is not None:
                config[field.setting] = self._positive(field, value)
        self._fill(config, values)
        self.put_rope(config, values, tensors)
        required = [key for key in self.required() if key != "vocab_size"]  # the embedding's rows
        unusable = list(setting_problems(config, tuple(required)))
        if unusable:
            raise ConvertError("the file's metadata is not usable", "", "\n".join(unusable))
        return config

    def _positive(self, field: Field, value: object) -> int:
        least = 0 if field.key == "attention.sliding_window" else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConvertError(
                f"{self.NAME}.{field.key} is missing or not a positive number",
                "",
                f"found {value!r}",
            )
        return value

    def _fill(self, config: Config, values: Mapping[str, object]) -> None:
        """Keys that old files lack, as the runtime fills them in (src/llama-model.cpp)."""
        config.setdefault("rms_norm_eps", 1e-5)
        config.setdefault("rope_theta", 10000.0)
        for field in self.fields()[:5]:
            if field.setting not in config:
                self._positive(field, None)
        config.setdefault("num_key_value_heads", config["num_attention_heads"])
        if "head_dim" not in config:
            config["head_dim"] = config["hidden_size"] // config["num_attention_heads"]

    def put_rope(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> None:
        """Add the positional settings in both spellings of config.json."""
        scaling = self.scaling_of(config, values, tensors)
        if scaling:
            config["rope_scaling"] = scaling
        theta = config["rope_theta"]
        config["rope_parameters"] = {"rope_theta": theta, "rope_type": "default", **scaling}

    def scaling_of(
        self, config: Config, values: Mapping[str, object], tensors: Mapping[str, F32]
    ) -> Scaling:
        """rope_scaling from keys and extra tensors."""
        return ropes.scaling_of(self.NAME, values)

    # -- weights ----------------------------------------------------------------------------

    def canonical(self, name: str) -> str:
        """The name as in the text-only class: without the prefixes of a multimodal model."""
        for prefix, plain in _TEXT_PREFIXES:
            if name.startswith(prefix):
                return plain + name[len(prefix) :]
        return name

    def gather(self, config: Config, weights: Mapping[str, Rows]) -> dict[str, Rows]:
        """A checkpoint under canonical names, without the parts that are left out."""
        return {
            self.canonical(name): rows
            for name, rows in weights.items()
            if not name.startswith(self.LEFT_OUT)
        }

    def gather_pairs(
        self, config: Config, pairs: Mapping[str, PairSource]
    ) -> dict[str, PairSource]:
        """LoRA pairs under canonical names."""
        return {self.canonical(name): pair for name, pair in pairs.items()}

    def row_order(self, config: Config, module: str) -> Index | None:
        """Row order of a module in the file (weights, biases and LoRA B alike)."""
        return None

    def column_order(self, config: Config, module: str) -> Index | None:
        """Column order of a module in the file (weights and LoRA A alike)."""
        return None

    def shift(self, name: str) -> float:
        """What the file's tensor has on top of the checkpoint's: 1 for norms that store w - 1."""
        return self.NORM_SHIFT if name.endswith("norm.weight") else 0.0

    def transform(self, config: Config, name: str, rows: Rows) -> list[tuple[str, Rows]]:
        """Rows and columns permuted, norms shifted."""
        module = _module(name)
        order, columns = self.row_order(config, module), self.column_order(config, module)
        if order is not None:
            rows = PermutedRows(rows, order)
        if columns is not None and name.endswith(".weight"):
            rows = PermutedColumns(rows, columns)
        return [(name, _shifted(rows, self.shift(name)))]

    def transform_lora(self, config: Config, pair: LoraPair) -> list[LoraPair]:
        """The rows of B and the columns of A permuted like those of W."""
        order, columns = self.row_order(config, pair.name), self.column_order(config, pair.name)
        if order is not None:
            pair = pair.permute_rows(order)
        return [pair if columns is None else pair.permute_columns(columns)]

    def undo(self, config: Config, name: str, rows: Rows) -> Rows:
        """Rows and columns back in checkpoint order."""
        module = _module(name)
        order, columns = self.row_order(config, module), self.column_order(config, module)
        if order is not None:
            rows = PermutedRows(rows, inverse_order(order))
        if columns is not None and name.endswith(".weight"):
            rows = PermutedColumns(rows, inverse_order(columns))
        return _shifted(rows, -self.shift(name))

    def extra_tensors(self, config: Config) -> dict[str, F32]:
        """None."""
        return {}


VISION = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)
_TEXT_PREFIXES = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
)


def _module(name: str) -> str:
    """`...q_proj.weight` -> `...q_proj`; a bare parameter is its own module."""
    return name.removesuffix(".weight").removesuffix(".bias")


def _shifted(rows: Rows, shift: float) -> Rows:
    return MappedRows(rows, lambda values: values + np.float32(shift)) if shift else rows
