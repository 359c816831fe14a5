"""Mixture of experts: however a checkpoint stores its experts, the file has three stacks per layer.

A checkpoint has one matrix per expert and projection (`experts.7.gate_proj.weight`, Mixtral:
`experts.7.w1.weight`) or, since transformers 5, two stacks (`experts.gate_up_proj` [E, 2 * inner,
width], gate first, and `experts.down_proj` [E, width, inner]). The canonical tensors, and those of
the file, are `mlp.experts.{gate,up,down}_proj.weight` [E, n_out, n_in]. Adapters come in the same
two forms, independently of the checkpoint's.
Sources: transformers conversion_mapping.py ("mixtral", "qwen2_moe"); llama.cpp conversion/qwen.py
(Qwen2MoeModel.modify_tensors).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from converters.archs.decoder import Decoder, Field, Shape
from converters.errors import Unsupported
from converters.hf_config import Config
from converters.lora import LoraPair, PairSource, stack_pairs
from converters.transforms import RowRange, Rows, StackedRows

_ONE = re.compile(r"(.+\.mlp\.experts)\.(\d+)\.(\w+)")
_FUSED = re.compile(r"(.+\.mlp\.experts)\.gate_up_proj")
_PROJECTIONS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
_Any = TypeVar("_Any")


class Experts(Decoder):
    """A decoder whose feed-forward part is a router and its experts."""

    INNER: ClassVar[str] = "moe_intermediate_size"

    def required(self) -> tuple[str, ...]:
        """Also the numbers of experts."""
        return (*super().required(), "num_experts", self.INNER, "num_experts_per_tok")

    def _problems(self, config: Config) -> Iterator[str]:
        yield from super()._problems(config)
        used, there = config["num_experts_per_tok"], config["num_experts"]
        if used > there:
            yield f"num_experts_per_tok={used}, and there are {there}"

    def fields(self) -> tuple[Field, ...]:
        """expert_count and expert_used_count stand before the head's length."""
        plain = super().fields()
        counts = (
            Field("expert_count", "num_experts"),
            Field("expert_used_count", "num_experts_per_tok"),
        )
        return (*plain[:8], *counts, *plain[8:])

    def mlp(self, config: Config) -> dict[str, Shape]:
        """The router and three stacks."""
        n, inner, width = config["num_experts"], config[self.INNER], config["hidden_size"]
        return {
            "mlp.gate": (n, width),
            "mlp.experts.gate_proj": (n, inner, width),
            "mlp.experts.up_proj": (n, inner, width),
            "mlp.experts.down_proj": (n, width, inner),
        }

    def canonical(self, name: str) -> str:
        """Mixtral calls its feed-forward part block_sparse_moe."""
        return super().canonical(name).replace(".block_sparse_moe.", ".mlp.")

    def gather(self, config: Config, weights: Mapping[str, Rows]) -> dict[str, Rows]:
        """Stacks instead of single or fused experts. An incomplete stack stays in its pieces."""
        out: dict[str, Rows] = {}
        stacks: dict[str, dict[int, Rows]] = {}
        for name, rows in super().gather(config, weights).items():
            one = _single(name.removesuffix(".weight"))
            fused = _FUSED.fullmatch(name.removesuffix(".weight"))
            if one:
                stacks.setdefault(one[0], {})[one[1]] = rows
            elif fused and len(rows.shape) == 3 and rows.shape[1] % 2 == 0:
                out[fused[1] + ".gate_proj.weight"] = _half(rows, 0)
                out[fused[1] + ".up_proj.weight"] = _half(rows, 1)
            elif name.endswith(".mlp.experts.down_proj"):
                out[name + ".weight"] = rows
            else:
                out[name] = rows
        for module, parts in stacks.items():
            shapes = {rows.shape for rows in parts.values()}
            if sorted(parts) == list(range(config["num_experts"])) and len(shapes) == 1:
                out[module + ".weight"] = StackedRows(_in_order(parts))
            else:
                where, _, projection = module.rpartition(".")
                out |= {f"{where}.{n}.{projection}.weight": rows for n, rows in parts.items()}
        return out

    def gather_pairs(
        self, config: Config, pairs: Mapping[str, PairSource]
    ) -> dict[str, PairSource]:
        """Pairs of stacks. Experts without a pair get none; a fused pair becomes two."""
        out: dict[str, PairSource] = {}
        stacks: dict[str, dict[int, PairSource]] = {}
        for name, pair in super().gather_pairs(config, pairs).items():
            one, fused = _single(name), _FUSED.fullmatch(name)
            if one and one[1] < config["num_experts"]:
                stacks.setdefault(one[0], {})[one[1]] = pair
            elif fused and len(pair.weight_shape) == 3:
                half = pair.weight_shape[1] // 2
                for start, projection in ((0, "gate_proj"), (half, "up_proj")):
                    module = f"{fused[1]}.{projection}"
                    out[module] = SlicedPair(module, pair, start, start + half)
            else:
                out[name] = pair
        for module, parts in stacks.items():
            out[module] = StackedPair(module, parts, config["num_experts"])
        return out

    def undo(self, config: Config, name: str, rows: Rows) -> Rows:
        """Stacks are not taken apart."""
        raise Unsupported(
            f"a GGUF file of architecture {self.NAME} with experts cannot be turned back", name
        )


def _single(module: str) -> tuple[str, int] | None:
    """(module of the stack, number of the expert) for the module of one expert."""
    found = _ONE.fullmatch(module)
    if found is None:
        return None
    return f"{found[1]}.{_PROJECTIONS.get(found[3], found[3])}", int(found[2])


def _in_order(parts: Mapping[int, _Any]) -> tuple[_Any, ...]:
    return tuple(parts[number] for number in sorted(parts))


def _half(rows: Rows, which: int) -> StackedRows:
    """The first (gate) or second (up) half of every expert's rows. rows: [E, 2 * inner, width]."""
    n, both, _ = rows.shape
    half = both // 2
    return StackedRows(tuple(RowRange(rows, e * both + which * half, half) for e in range(n)))


@dataclass(frozen=True)
class StackedPair:
    """Pairs of single experts as the pair of their stack."""

    name: str
    parts: Mapping[int, PairSource]
    count: int
    embedding: bool = False

    @property
    def rank(self) -> int:
        """The largest rank among them."""
        return max(part.rank for part in self.parts.values())

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[E, n_out, n_in]; no shape at all if the experts' shapes differ."""
        shapes = {part.weight_shape for part in self.parts.values()}
        return (self.count, *shapes.pop()) if len(shapes) == 1 else ()

    def load(self) -> LoraPair:
        """Read all of them: a [E, r, n_in], b [E, n_out, r]."""
        present = {number: part.load() for number, part in self.parts.items()}
        return stack_pairs(self.name, [present.get(number) for number in range(self.count)])


@dataclass(frozen=True)
class SlicedPair:
    """The pair of rows start..stop of a stack's experts."""

    name: str
    whole: PairSource
    start: int
    stop: int
    embedding: bool = False

    @property
    def rank(self) -> int:
        """That of the whole."""
        return self.whole.rank

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[E, stop - start, n_in]."""
        n, _, width = self.whole.weight_shape
        return n, self.stop - self.start, width

    def load(self) -> LoraPair:
        """Read the whole, keep its rows."""
        pair = self.whole.load().slice_rows(self.start, self.stop)
        return LoraPair(self.name, pair.a, pair.b, pair.scale)
