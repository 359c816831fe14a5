"""Which tensor gets which type: for every file type the choice llama-quantize makes.

In: the names and shapes of a model's tensors and a few facts about it. Out: a type per tensor.
F32, F16, BF16 and Q8_0 are what the converter writes directly (llama.cpp conversion/base.py,
prepare_tensors). The others follow src/llama-quant.cpp (llama_tensor_get_type_impl,
tensor_type_fallback): attention values and down projections get more bits in some layers, and a
tensor whose rows do not divide into blocks gets another type. `fallbacks` says what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from converters.quants.types import PLAIN_TYPES, file_type
from converters.writer import canonical_order

Shapes = Mapping[str, tuple[int, ...]]
Plan = dict[str, Kind]

FALLBACK = {
    Kind.Q2_K: Kind.Q4_0,
    Kind.Q3_K: Kind.Q4_0,
    Kind.Q4_K: Kind.Q5_0,
    Kind.Q5_K: Kind.Q5_1,
    Kind.Q6_K: Kind.Q8_0,
    Kind.IQ4_XS: Kind.IQ4_NL,
}
_QUANTIZABLE = (".weight", ".lora_a", ".lora_b")
_ALWAYS_F32 = ("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "ssm_conv1d")
_ATTENTION_VALUES = ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight")
_EIGHT_EXPERTS_OUTPUT = (*("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS"),)


@dataclass(frozen=True)
class ModelFacts:
    """What the choice depends on. n_layer: GGUF's block_count; n_head_kv: of the first layer."""

    arch: str
    n_layer: int
    n_head: int
    n_head_kv: int
    n_expert: int = 0

    @property
    def many_queries(self) -> bool:
        """Whether four or more query heads share their values, so that values cost little."""
        return self.n_head_kv > 0 and self.n_head // self.n_head_kv >= 4

    @property
    def is_70b(self) -> bool:
        """What llama.cpp takes for a 70B model (src/models/llama.cpp, qwen2.cpp)."""
        if self.arch == "llama":
            return self.n_layer == 80 and self.n_head != self.n_head_kv and self.n_expert != 8
        return self.arch == "qwen2" and self.n_layer == 80


def plan(outtype: str, shapes: Shapes, model: ModelFacts, *, with_importance: bool = False) -> Plan:
    """The type of every tensor, in llama-quantize's order. shapes: GGUF names, numpy order.

    with_importance: whether the columns' importance is known; it changes a few choices.
    """
    wanted = file_type(outtype)
    if wanted.name in PLAIN_TYPES:
        return {name: tensor_type(name, shape, wanted.name) for name, shape in shapes.items()}
    choice = _Choice(wanted.name, wanted.tensor, shapes, model, with_importance)
    return {name: choice.type_of(name) for name in sorted(shapes, key=canonical_order)}


def tensor_type(name: str, shape: tuple[int, ...], outtype: str) -> Kind:
    """The type of one tensor in a file of a plain type: F32, F16, BF16 or Q8_0. shape: numpy order.

    Norms, biases, routers and everything one-dimensional stay F32: they are a few kilobytes, and
    the runtime's operators read them as F32. A row that is no multiple of the block becomes F16.
    """
    wanted = file_type(outtype, PLAIN_TYPES).tensor
    if not is_quantizable(name, shape):
        return Kind.F32
    return wanted if shape[-1] % _block(wanted) == 0 else Kind.F16


def is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor takes the type of the file at all."""
    if len(shape) < 2 or not name.endswith(_QUANTIZABLE):
        return False
    return not any(part in name for part in _ALWAYS_F32)


class _Choice:
    """The rules, with the running indices they depend on; asked for each tensor once, in order."""

    def __init__(
        self, mix: str, default: Kind, shapes: Shapes, model: ModelFacts, with_importance: bool
    ) -> None:
        self.mix = mix
        self.default = default
        self.shapes = shapes
        self.model = model
        self.with_importance = with_importance
        self.n_values = sum(_is_values(name) for name in shapes)
        self.i_values = self.i_down = 0

    def type_of(self, name: str) -> Kind:
        shape = self.shapes[name]
        if not is_quantizable(name, shape):
            return Kind.F32
        return fitting(self._wanted(name), shape[-1])

    def _wanted(self, name: str) -> Kind:
        tied = "output.weight" not in self.shapes
        if name == "output.weight" or (tied and _is_embedding(name)):
            fits = self.shapes[name][-1] % _block(self.default) == 0
            return Kind.Q6_K if fits and self.default != Kind.Q8_0 else Kind.Q8_0
        if _is_embedding(name):
            return self.default
        if _is_values(name):
            return self._values()
        if "attn_k.weight" in name:
            return Kind.Q8_0 if self.model.n_expert == 8 else self.default
        if "attn_q.weight" in name:
            return self.default
        if "attn_output.weight" in name:
            return self._attention_output()
        return self._down(name) if "ffn_down" in name else self.default

    def _values(self) -> Kind:
        i, self.i_values = self.i_values, self.i_values + 1
        kind = self._values_of_mix(i)
        if self.model.is_70b and kind in (Kind.Q3_K, Kind.Q4_K):
            kind = Kind.Q5_K
        return Kind.Q8_0 if self.model.n_expert == 8 else kind

    def _values_of_mix(self, i: int) -> Kind:
        shared = self.model.many_queries
        rules = {
            "Q2_K": Kind.Q4_K if shared else Kind.Q3_K,
            "Q3_K_M": Kind.Q5_K if i < 2 else Kind.Q4_K,
            "Q3_K_L": Kind.Q5_K,
            "IQ4_NL": Kind.Q5_K if shared else self.default,
            "IQ4_XS": Kind.Q5_K if shared else self.default,
            "Q4_K_S": Kind.Q5_K if i < 4 else self.default,
        }
        if self.mix in ("Q4_K_M", "Q5_K_M"):
            return Kind.Q6_K if _more_bits(i, self.n_values) else self.default
        return rules.get(self.mix, self.default)

    def _down(self, name: str) -> Kind:
        i, self.i_down = self.i_down, self.i_down + 1
        n = self.model.n_layer
        if self.model.n_expert > 1:  # experts are counted by their layer
            i = canonical_order(name)[0]
        early = i < n // 8
        no_data = early and not self.with_importance
        with_data = early and self.with_importance
        rules = {
            "Q2_K": Kind.Q3_K,
            "Q3_K_M": Kind.Q5_K if i < n // 16 else Kind.Q4_K,
            "Q3_K_L": Kind.Q5_K,
            "Q4_K_M": Kind.Q6_K if _more_bits(i, n) else self.default,
            "Q5_K_M": Kind.Q6_K if _more_bits(i, n) else self.default,
            "Q4_K_S": Kind.Q5_K if early else self.default,
            "IQ4_NL": Kind.Q5_K if no_data else self.default,
            "IQ4_XS": Kind.Q5_K if no_data else self.default,
            "Q4_0": Kind.Q4_1 if with_data else self.default,
            "Q5_0": Kind.Q5_1 if with_data else self.default,
        }
        return rules.get(self.mix, self.default)

    def _attention_output(self) -> Kind:
        if self.model.n_expert == 8:
            return Kind.Q5_K if self.mix in _EIGHT_EXPERTS_OUTPUT else self.default
        rules = {"Q2_K": Kind.Q3_K, "Q3_K_M": Kind.Q4_K, "Q3_K_L": Kind.Q5_K}
        return rules.get(self.mix, self.default)


def fitting(wanted: Kind, n_cols: int) -> Kind:
    """`wanted`, or what llama-quantize puts in its place where rows do not divide into blocks."""
    if n_cols % _block(wanted) == 0:
        return wanted
    other = FALLBACK.get(wanted, wanted)
    return other if n_cols % _block(other) == 0 else Kind.F16


def _is_embedding(name: str) -> bool:
    return name in ("token_embd.weight", "per_layer_token_embd.weight")


def _is_values(name: str) -> bool:
    return any(part in name for part in _ATTENTION_VALUES)


def _more_bits(i: int, n: int) -> bool:
    """The first and last eighth of the layers, and every third one between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _block(kind: Kind) -> int:
    return int(GGML_QUANT_SIZES[kind][0])
