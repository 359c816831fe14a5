"""Vectors of float32 as values that kernels compute with: one sub-block per element, a lane.

A compiler left to vectorise loops over lanes keeps their running sums in memory, and does so only
for some forms of a loop. With vectors as values the sums of a sub-block stay in registers, on every
CPU LLVM knows: it splits a vector into as many registers as it takes. `+ - * /`, `<`, `>`, `abs`
and `sqrt` are IEEE's, lane by lane, and nothing is fused, so the width does not change the bytes.
Two widths: LANES, and ROW for neighbours within a sub-block.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba.core import cgutils, types
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from converters.quants.lanes_width import LANES, LINE, ROW, SQUARE

_infer: Any = infer_global
_lower: Any = lower_builtin
_pointer: Any = types.CPointer
_llvm: Any = cgutils.get_or_insert_function

_BYTE, _INT, _FLOAT = ir.IntType(8), ir.IntType(32), ir.FloatType()


class _Vector(types.Type):  # type: ignore[misc, unused-ignore]
    """float32 x width, or truth values x width."""

    def __init__(self, width: int, *, truth: bool = False) -> None:
        super().__init__(f"{'truth' if truth else 'float32'} x {width}")
        self.llvm = ir.VectorType(ir.IntType(1) if truth else _FLOAT, width)


_FLOATS = {width: _Vector(width) for width in (LANES, ROW)}
_TRUTHS = {width: _Vector(width, truth=True) for width in (LANES, ROW)}


@register_model(_Vector)
class _Model(models.PrimitiveModel):  # type: ignore[misc, unused-ignore]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.llvm)  # type: ignore[no-untyped-call, unused-ignore]


def _generator(emit: Callable[..., Any]) -> Callable[..., Any]:
    """emit(builder, *values) -> value, as numba calls it."""
    return lambda _, builder, __, values: emit(builder, *values)


def _infix(symbol: Any, emit: Callable[..., Any], operands: Any, results: Any) -> None:
    """Give an operator its meaning for two vectors of one type. operands, results: by width."""
    pairs = [(operands[width], results[width]) for width in operands]
    cases = [result(operand, operand) for operand, result in pairs]
    _infer(symbol)(type("_Infix", (ConcreteTemplate,), {"cases": cases}))
    for operand, _ in pairs:
        _lower(symbol, operand, operand)(_generator(emit))


_infix(operator.add, lambda b, x, y: b.fadd(x, y), _FLOATS, _FLOATS)
_infix(operator.sub, lambda b, x, y: b.fsub(x, y), _FLOATS, _FLOATS)
_infix(operator.mul, lambda b, x, y: b.fmul(x, y), _FLOATS, _FLOATS)
_infix(operator.truediv, lambda b, x, y: b.fdiv(x, y), _FLOATS, _FLOATS)
_infix(operator.lt, lambda b, x, y: b.fcmp_ordered("<", x, y), _FLOATS, _TRUTHS)
_infix(operator.gt, lambda b, x, y: b.fcmp_ordered(">", x, y), _FLOATS, _TRUTHS)
_infix(operator.eq, lambda b, x, y: b.fcmp_ordered("==", x, y), _FLOATS, _TRUTHS)
_infix(operator.ne, lambda b, x, y: b.fcmp_unordered("!=", x, y), _FLOATS, _TRUTHS)
_infix(operator.and_, lambda b, x, y: b.and_(x, y), _TRUTHS, _TRUTHS)


def _constant(kind: Any, value: Any) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _integers(vector: Any) -> Any:
    return ir.VectorType(_INT, vector.type.count)


def _repeated(width: int) -> Any:
    """The intrinsic that makes a vector of one number."""

    def emit(builder: Any, value: Any) -> Any:
        unset = ir.Constant(_FLOATS[width].llvm, ir.Undefined)
        one = builder.insert_element(unset, value, _INT(0))
        return builder.shuffle_vector(one, unset, _constant(ir.VectorType(_INT, width), 0))

    return intrinsic(lambda _, value: (_FLOATS[width](types.float32), _generator(emit)))


def _unary(emit: Callable[..., Any]) -> Any:
    return intrinsic(lambda _, vector: (vector(vector), _generator(emit)))


def _function(name: str) -> Any:
    """One of LLVM's own functions of a vector, or of one float32."""

    def emit(builder: Any, value: Any) -> Any:
        kind = ir.FunctionType(value.type, [value.type])
        width = f"v{value.type.count}" if isinstance(value.type, ir.VectorType) else ""
        whole = f"llvm.{name}.{width}f32"
        return builder.call(_llvm(builder.module, kind, whole), [value])

    return _unary(emit)


def _nearest(builder: Any, value: Any) -> Any:
    kind = _integers(value)
    magic = _constant(value.type, 12582912.0)
    bits = builder.bitcast(builder.fadd(value, magic), kind)
    mantissa = builder.and_(bits, _constant(kind, 0x007FFFFF))
    return builder.sitofp(builder.sub(mantissa, _constant(kind, 0x00400000)), value.type)


def _everywhere(builder: Any, value: Any) -> Any:
    kind = ir.IntType(value.type.count)
    return builder.icmp_unsigned("==", builder.bitcast(value, kind), kind(2**kind.width - 1))


splat = _repeated(LANES)
splat_row = _repeated(ROW)
absolute = _function("fabs")
root = _function("sqrt")
rounded = _function("rint")
"""To the nearest integer, halves to even; `nearest` where a number may be beyond 2^22."""
nearest = _unary(_nearest)
"""See lanes.nearest; the integers as float32."""
select: Any = intrinsic(
    lambda _, condition, yes, no: (
        yes(condition, yes, no),
        _generator(lambda builder, *values: builder.select(*values)),
    )
)
everywhere: Any = intrinsic(lambda _, truth: (types.boolean(truth), _generator(_everywhere)))


def _address(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return context.make_array(signature.args[0])(context, builder, values[0]).data


def _aligned(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    pointer = _address(context, builder, signature, values)
    number = ir.IntType(64)
    past = builder.add(builder.ptrtoint(pointer, number), number(LINE - 1))
    return builder.inttoptr(builder.and_(past, number(-LINE)), pointer.type)


def _pointer_to(generate: Callable[..., Any]) -> Any:
    return intrinsic(lambda _, array: (_pointer(array.dtype)(array), generate))


def _vector_at(builder: Any, pointer: Any, index: Any, step: int, vector: Any) -> Any:
    place = builder.gep(pointer, [builder.mul(index, index.type(step))])
    return builder.bitcast(place, vector.as_pointer())


def _loader(width: int, step: int) -> Any:
    """The intrinsic that reads a vector from element step * index of a pointer on."""

    def emit(builder: Any, pointer: Any, index: Any) -> Any:
        place = _vector_at(builder, pointer, index, step, _FLOATS[width].llvm)
        return builder.load(place, align=4)

    return intrinsic(
        lambda _, pointer, index: (_FLOATS[width](pointer, types.intp), _generator(emit))
    )


def _stored(emit: Callable[..., Any]) -> Callable[..., Any]:
    """emit(builder, *values), as numba calls what returns nothing."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        emit(builder, *values)
        return context.get_dummy_value()

    return generate


def _storer(emit: Callable[..., Any]) -> Any:
    return intrinsic(
        lambda _, pointer, index, vector: (types.void(pointer, types.intp, vector), _stored(emit))
    )


def _put(builder: Any, pointer: Any, index: Any, vector: Any) -> None:
    builder.store(vector, _vector_at(builder, pointer, index, LANES, vector.type), align=4)


def _put_bytes(builder: Any, pointer: Any, index: Any, vector: Any) -> None:
    kind = ir.VectorType(_BYTE, vector.type.count)
    narrow = builder.trunc(builder.fptosi(vector, _integers(vector)), kind)
    builder.store(narrow, _vector_at(builder, pointer, index, 1, kind), align=1)


def _put_nibbles(builder: Any, pointer: Any, index: Any, low: Any, high: Any) -> None:
    kind = ir.VectorType(_BYTE, low.type.count)
    low, high = (builder.trunc(builder.fptosi(v, _integers(v)), kind) for v in (low, high))
    low = builder.and_(low, _constant(kind, 15))
    both = builder.or_(low, builder.shl(high, _constant(kind, 4)))
    builder.store(both, _vector_at(builder, pointer, index, 1, kind), align=1)


def _put_fifth_bits(builder: Any, pointer: Any, index: Any, vector: Any) -> None:
    kind = _integers(vector)
    bits = builder.and_(builder.fptosi(vector, kind), _constant(kind, 16))
    packed = builder.bitcast(
        builder.icmp_unsigned("!=", bits, _constant(kind, 0)), ir.IntType(vector.type.count)
    )
    place = builder.bitcast(builder.gep(pointer, [index]), packed.type.as_pointer())
    builder.store(packed, place, align=1)


# Pointers and not arrays: vectors are loaded through them, and an array is nine values to pass on.
# The caller must hold the array.
address = _pointer_to(_address)
aligned = _pointer_to(_aligned)
"""The first element of an array that begins a cache line."""


def _interleaved(builder: Any, a: Any, b: Any) -> list[Any]:
    """a0 b0 a1 b1 ... in two vectors."""
    kind, half = ir.VectorType(_INT, SQUARE), SQUARE // 2
    halves = (range(half), range(half, SQUARE))
    return [
        builder.shuffle_vector(
            a, b, ir.Constant(kind, [i + side for i in part for side in (0, SQUARE)])
        )
        for part in halves
    ]


def _transpose(builder: Any, source: Any, step: Any, tile: Any) -> Any:
    """Interleaving row i with row i + 4, three times over, transposes 8 rows of 8."""
    kind = ir.VectorType(_FLOAT, SQUARE)
    rows = []
    for i in range(SQUARE):
        place = builder.gep(source, [builder.mul(step, step.type(i))])
        rows.append(builder.load(builder.bitcast(place, kind.as_pointer()), align=4))
    for _ in range(SQUARE.bit_length() - 1):
        halves = zip(rows[: SQUARE // 2], rows[SQUARE // 2 :], strict=True)
        rows = [row for a, b in halves for row in _interleaved(builder, a, b)]
    for i, row in enumerate(rows):
        place = builder.gep(tile, [step.type(i * LANES)])
        builder.store(row, builder.bitcast(place, kind.as_pointer()), align=4)


transpose: Any = intrinsic(
    lambda _, source, step, tile: (types.void(source, types.intp, tile), _stored(_transpose))
)
"""transpose(source, step, tile): SQUARE rows, `step` elements apart, into a tile's columns."""
offset: Any = intrinsic(
    lambda _, pointer, index: (
        pointer(pointer, types.intp),
        _generator(lambda builder, start, count: builder.gep(start, [count])),
    )
)
get = _loader(LANES, LANES)
"""get(tile, i): row i of a tile."""
get_row = _loader(ROW, 1)
"""get_row(pointer, i): ROW elements from the i-th on."""
put = _storer(_put)
"""put(tile, i, vector): into row i of a tile."""
put_bytes = _storer(_put_bytes)
"""put_bytes(pointer, i, vector): small integers as uint8, from the i-th on."""
put_fifth_bits = _storer(_put_fifth_bits)
"""put_fifth_bits(pointer, i, vector): bit 4 of every integer, from byte i on."""
put_nibbles: Any = intrinsic(
    lambda _, pointer, index, low, high: (
        types.void(pointer, types.intp, low, high),
        _stored(_put_nibbles),
    )
)
"""put_nibbles(pointer, i, low, high): bits 0 to 3 of integers, two vectors in the bytes from i."""
