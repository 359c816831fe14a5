"""What a file type really comes to for one model, and which other type serves that model better.

llama-quantize puts another type in the place of one whose blocks do not fit a tensor's rows, warns
on one of its thousand lines and succeeds: "Q4_K_M" of a model with 576 columns is 6.2 bits per
weight. In: the same as for `mix.plan`. Out: data, and one sentence that says it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from converters.quants.mix import ModelFacts, Plan, Shapes, plan
from converters.quants.types import FILE_TYPES, file_type

# Root of the mean squared error over that of the weights, for normally distributed weights. It
# ranks types; it says little about a model's answers.
RELATIVE_ERROR = {
    Kind.F32: 0.0,
    Kind.F16: 0.0002,
    Kind.BF16: 0.0017,
    Kind.Q8_0: 0.0053,
    Kind.Q6_K: 0.0177,
    Kind.Q5_K: 0.0361,
    Kind.Q5_1: 0.0378,
    Kind.Q5_0: 0.0426,
    Kind.Q4_K: 0.0713,
    Kind.IQ4_NL: 0.0761,
    Kind.IQ4_XS: 0.0767,
    Kind.Q4_1: 0.0782,
    Kind.Q4_0: 0.0858,
    Kind.Q3_K: 0.1508,
    Kind.Q2_K: 0.2963,
}
_SUPER = 256
_NARROW = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL")  # blocks of 32


@dataclass(frozen=True)
class Replaced:
    """A tensor whose rows do not divide into the blocks of the type it should have."""

    name: str
    n_cols: int
    wanted: Kind
    got: Kind


@dataclass(frozen=True)
class Fallbacks:
    """What became of a file type. bits and bits_expected: per weight, over all tensors.

    as_exact: a file type that is no larger and more exact, or "". as_small: the most exact one of
    those that need no wide blocks and come within a tenth of the size that was expected, or "".
    """

    outtype: str
    replaced: tuple[Replaced, ...]
    n_tensors: int
    bits: float
    bits_expected: float
    as_exact: str
    as_small: str

    @property
    def sentence(self) -> str:
        """One plain sentence for the user; "" if nothing was replaced."""
        if not self.replaced:
            return ""
        widths = sorted({tensor.n_cols for tensor in self.replaced})
        got = Counter(tensor.got.name for tensor in self.replaced)
        text = (
            f"{self.outtype} of this model is really {self.bits:.1f} bits per weight, "
            f"not {self.bits_expected:.1f}: rows of {_list(list(map(str, widths)), 'and')} do not "
            f"divide into blocks of {_SUPER if widths[0] % 32 == 0 else 32}, so "
            f"{len(self.replaced)} of {self.n_tensors} tensors become "
            f"{_list([kind for kind, _ in got.most_common()], 'or')}"
        )
        offers = []
        if self.as_exact:
            offers.append(f"{self.as_exact} is no larger and more exact")
        if self.as_small:
            offers.append(f"{self.as_small} is about as small as {self.outtype} should be")
        return text + (f"; {', '.join(offers)}" if offers else "")


def fallbacks(
    outtype: str, shapes: Shapes, model: ModelFacts, *, with_importance: bool = False
) -> Fallbacks:
    """Compare the plan with that of the same model with columns that fit. See `mix.plan`."""
    wanted = file_type(outtype)
    widened = {name: _widen(shape) for name, shape in shapes.items()}
    real = plan(outtype, shapes, model, with_importance=with_importance)
    ideal = plan(outtype, widened, model, with_importance=with_importance)
    replaced = tuple(
        Replaced(name, shapes[name][-1], ideal[name], kind)
        for name, kind in real.items()
        if kind != ideal[name]
    )
    bits, expected = _bits(real, shapes), _bits(ideal, shapes)
    others = _others(shapes, model, with_importance) if replaced else {}
    narrow = {name: found for name, found in others.items() if name in _NARROW and found[0] < bits}
    return Fallbacks(
        wanted.name,
        replaced,
        sum(kind != Kind.F32 for kind in real.values()),
        bits,
        expected,
        _best(others, wanted.name, bits, below=_error(real, shapes)),
        _best(narrow, wanted.name, expected * 1.1, below=math.inf),
    )


def bits_per_weight(plan_: Plan, shapes: Shapes) -> float:
    """Bits per weight over all tensors, as llama-quantize counts them."""
    return _bits(plan_, shapes)


def _others(
    shapes: Shapes, model: ModelFacts, with_importance: bool
) -> dict[str, tuple[float, float]]:
    """Bits and error of every file type."""
    found = {}
    for name in FILE_TYPES:
        other = plan(name, shapes, model, with_importance=with_importance)
        found[name] = (_bits(other, shapes), _error(other, shapes))
    return found


def _best(others: dict[str, tuple[float, float]], name: str, bits: float, *, below: float) -> str:
    """The most exact file type of at most `bits`; "" if none has an error below `below`."""
    fitting = {
        other: error
        for other, (size, error) in others.items()
        if size <= bits and error < below and other != name
    }
    return min(fitting, key=lambda other: fitting[other], default="")


def _widen(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-1], -(-shape[-1] // _SUPER) * _SUPER) if len(shape) > 1 else shape


def _bits(kinds: Plan, shapes: Shapes) -> float:
    total = 0.0
    for name, kind in kinds.items():
        block, size = GGML_QUANT_SIZES[kind]
        total += math.prod(shapes[name]) * 8 * size / block
    return total / max(1, sum(math.prod(shape) for shape in shapes.values()))


def _error(kinds: Plan, shapes: Shapes) -> float:
    squares = sum(math.prod(shapes[n]) * RELATIVE_ERROR[kind] ** 2 for n, kind in kinds.items())
    return math.sqrt(squares)


def _list(items: list[str], word: str) -> str:
    return f" {word} ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
