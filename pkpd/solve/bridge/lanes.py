"""A vector of lanes as one value inside compiled kernels.

The compiled engine advances `WIDTH` patients together. Left to the automatic vectoriser, short
inner loops over lanes are guarded by alias checks that cost more than the arithmetic, and the
library ``exp`` and ``log`` are not vectorised at all. Here sixteen numbers are a value of their own
type: LLVM keeps it in two AVX-512 registers or four AVX2 ones. Two registers of independent
numbers also hide the latency of the exponentials, which in a Runge-Kutta step follow one another.

``load(a, i)`` and ``store(a, i, v)`` read and write elements ``i * WIDTH`` onwards of a flat,
contiguous float64 array, or of a bare pointer into one (`vectors`): compiling a function takes much
longer with arrays as arguments, each of which is seven values and counted references. The
arithmetic operators work between vectors and with numbers.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import (
    intrinsic,
    lower_builtin,  # pyright: ignore[reportAttributeAccessIssue]
    register_model,  # pyright: ignore[reportAttributeAccessIssue]
    type_callable,
)

from pkpd.solve.bridge.vector import WIDTH, Arithmetic

ZERO = np.int64(0)
"""To call functions with: a plain 0 has a type of its own, for which they are compiled again."""

# fused multiply-add is allowed; reassociation is not
_FLAGS = ("contract", "nsz")
_F64 = ir.DoubleType()
_I64 = ir.IntType(64)
_VECTOR = ir.VectorType(_F64, WIDTH)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes{WIDTH}")


LANES = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VECTOR)


def _splat(builder, value):
    start = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _I64(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(start, ir.Constant(_VECTOR, ir.Undefined), mask)


def _to_vector(context, builder, value, kind):
    if kind == LANES:
        return value
    return _splat(builder, context.cast(builder, value, kind, types.float64))


def _register(symbol, name: str) -> None:
    @type_callable(symbol)
    def typer(context):
        def resolve(a, b):
            if LANES in (a, b) and all(t == LANES or isinstance(t, types.Number) for t in (a, b)):
                return LANES
            return None

        return resolve

    def lower(context, builder, sig, args):
        left = _to_vector(context, builder, args[0], sig.args[0])
        right = _to_vector(context, builder, args[1], sig.args[1])
        return getattr(builder, name)(left, right, flags=_FLAGS)

    for first, second in ((LANES, LANES), (LANES, types.Number), (types.Number, LANES)):
        lower_builtin(symbol, first, second)(lower)


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.iadd, "fadd"),
    (operator.isub, "fsub"),
    (operator.imul, "fmul"),
):
    _register(_symbol, _name)


class _PointerType(types.Type):
    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Pointer({dtype})")


FLOATS, INTEGERS = _PointerType(types.float64), _PointerType(types.int32)


@register_model(_PointerType)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = _F64 if fe_type == FLOATS else ir.IntType(32)
        super().__init__(dmm, fe_type, element.as_pointer())


def _data(context, builder, kind, value):
    if isinstance(kind, _PointerType):
        return value
    return cgutils.create_struct_proxy(kind)(context, builder, value).data


def _pointer(context, builder, array_type, array, index, index_type):
    start = builder.mul(context.cast(builder, index, index_type, types.int64), _I64(WIDTH))
    place = builder.gep(_data(context, builder, array_type, array), [start])
    return builder.bitcast(place, _VECTOR.as_pointer())


def _is_flat(array) -> bool:
    if array == FLOATS:
        return True
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"


@intrinsic
def vectors(typingctx, array, index):
    """Pointer to vector number ``index`` of a contiguous float64 array, or of a pointer."""

    def generate(context, builder, sig, args):
        start = context.cast(builder, args[1], sig.args[1], types.int64)
        start = builder.mul(start, _I64(WIDTH))
        return builder.gep(_data(context, builder, sig.args[0], args[0]), [start])

    return FLOATS(array, index), generate


@intrinsic
def integers(typingctx, array, index):
    """Pointer to element ``index`` of a contiguous int32 array taken as flat."""

    def generate(context, builder, sig, args):
        start = context.cast(builder, args[1], sig.args[1], types.int64)
        return builder.gep(_data(context, builder, sig.args[0], args[0]), [start])

    return INTEGERS(array, index), generate


@type_callable(operator.getitem)
def _type_getitem(context):
    def resolve(pointer, index):
        if isinstance(pointer, _PointerType) and isinstance(index, types.Integer):
            return pointer.dtype
        return None

    return resolve


@lower_builtin(operator.getitem, _PointerType, types.Integer)
def _lower_getitem(context, builder, sig, args):
    start = context.cast(builder, args[1], sig.args[1], types.int64)
    return builder.load(builder.gep(args[0], [start]))


@type_callable(operator.setitem)
def _type_setitem(context):
    def resolve(pointer, index, value):
        if pointer == FLOATS and isinstance(index, types.Integer):
            return types.none
        return None

    return resolve


@lower_builtin(operator.setitem, _PointerType, types.Integer, types.Number)
def _lower_setitem(context, builder, sig, args):
    start = context.cast(builder, args[1], sig.args[1], types.int64)
    value = context.cast(builder, args[2], sig.args[2], types.float64)
    builder.store(value, builder.gep(args[0], [start]))
    return context.get_dummy_value()


@intrinsic
def load(typingctx, array, index):
    """Vector number ``index`` of a flat array."""
    if not (_is_flat(array) and isinstance(index, types.Integer)):
        return None

    def generate(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], sig.args[1])
        return builder.load(pointer, align=8)

    return LANES(array, index), generate


@intrinsic
def store(typingctx, array, index, value):
    """Write vector number ``index`` of a flat array."""
    if not (_is_flat(array) and isinstance(index, types.Integer)):
        return None

    def generate(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], sig.args[1])
        builder.store(_to_vector(context, builder, args[2], sig.args[2]), pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


def _accumulate(name: str, doc: str):
    # one call instead of load, add, store: half the work of compiling an adjoint
    def typed(typingctx, array, index, value):
        if not (_is_flat(array) and isinstance(index, types.Integer)):
            return None

        def generate(context, builder, sig, args):
            pointer = _pointer(context, builder, sig.args[0], args[0], args[1], sig.args[1])
            value = _to_vector(context, builder, args[2], sig.args[2])
            total = getattr(builder, name)(builder.load(pointer, align=8), value, flags=_FLAGS)
            builder.store(total, pointer, align=8)
            return context.get_dummy_value()

        return types.void(array, index, value), generate

    typed.__doc__ = doc
    return intrinsic(typed)


add = _accumulate("fadd", "Add to vector number ``index`` of a flat array.")
subtract = _accumulate("fsub", "Subtract from vector number ``index`` of a flat array.")


@intrinsic
def splat(typingctx, value):
    """Vector with the same number in every lane."""
    if not isinstance(value, types.Number):
        return None

    def generate(context, builder, sig, args):
        return _to_vector(context, builder, args[0], sig.args[0])

    return LANES(value), generate


def _compare_select(name: str, doc: str):
    def typed(typingctx, a, b, yes, no):
        def generate(context, builder, sig, args):
            a, b, yes, no = (
                _to_vector(context, builder, v, t) for v, t in zip(args, sig.args, strict=True)
            )
            return builder.select(builder.fcmp_ordered(name, a, b), yes, no)

        return LANES(a, b, yes, no), generate

    typed.__doc__ = doc
    return intrinsic(typed)


where_less = _compare_select("<", "``yes`` in lanes where ``a < b``, else ``no``.")
where_greater = _compare_select(">", "``yes`` in lanes where ``a > b``, else ``no``.")


@intrinsic
def largest(typingctx, value):
    """Largest of the lanes, a number."""

    def generate(context, builder, sig, args):
        result = builder.extract_element(args[0], _I64(0))
        for i in range(1, WIDTH):
            other = builder.extract_element(args[0], _I64(i))
            result = builder.select(builder.fcmp_ordered(">", other, result), other, result)
        return result

    return types.float64(value), generate


def _arithmetic(name: str, doc: str):
    def typed(typingctx, x):
        if x != LANES:
            return None

        def generate(context, builder, sig, args):
            return getattr(Arithmetic(builder), name)(args[0])

        return LANES(x), generate

    typed.__doc__ = doc
    return intrinsic(typed)


exp = _arithmetic("exp", "Exponential: see `pkpd.solve.bridge.vector`.")
log = _arithmetic("log", "Natural logarithm of a positive normal number: see the same.")
