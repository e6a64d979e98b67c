"""Arithmetic of a program on vectors of lanes, as LLVM instructions.

A value is a vector of `WIDTH` numbers, one for each patient, or of as many truth values. Products
and sums are fused where it is said (`Arithmetic.fused`); nothing is reassociated. The exponential
is within two units in the last place and holds its argument in [-708, 709]; the logarithm is within
one unit for positive normal numbers and says nothing for others.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

WIDTH = 16
"""Lanes in one vector."""

F64 = ir.DoubleType()
I64 = ir.IntType(64)
VECTOR = ir.VectorType(F64, WIDTH)
INTEGERS = ir.VectorType(I64, WIDTH)
TRUTHS = ir.VectorType(ir.IntType(1), WIDTH)

_FLAGS = ("nsz",)
_PLUS, _MINUS = (1, 1), (-1, 1)
_ROOT_HALF = 0x3FE6A09E667F3BCD  # bits of sqrt(1/2)
_UPWARD = 1024 << 52  # keeps the shifted exponent positive, so that a logical shift serves
_MAGIC = 1.5 * 2.0**52
_PER_LN2 = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_FACTORIAL = [1.0 / math.factorial(i) for i in range(14)]
# log(1 + f) in powers of s^2, s = f / (2 + f), on [sqrt(1/2), sqrt(2)]: minimax numbers of fdlibm
_LOG = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)

Value = Any
"""An LLVM value of type `VECTOR`, or of type `TRUTHS` for comparisons."""


def constant(number: float) -> Value:
    """Return the same number in every lane."""
    return ir.Constant(VECTOR, [float(number)] * WIDTH)


def truth(value: bool) -> Value:
    """Return the same truth value in every lane."""
    return ir.Constant(TRUTHS, [int(value)] * WIDTH)


def _integers(value: int) -> Value:
    return ir.Constant(INTEGERS, [value] * WIDTH)


class Arithmetic:
    """Operations on vectors, written through a builder of LLVM instructions.

    Parameters
    ----------
    builder
        Where the instructions go.
    """

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def add(self, a: Value, b: Value) -> Value:
        """Return ``a + b``."""
        return self.builder.fadd(a, b, flags=_FLAGS)

    def sub(self, a: Value, b: Value) -> Value:
        """Return ``a - b``."""
        return self.builder.fsub(a, b, flags=_FLAGS)

    def mul(self, a: Value, b: Value) -> Value:
        """Return ``a * b``."""
        return self.builder.fmul(a, b, flags=_FLAGS)

    def div(self, a: Value, b: Value) -> Value:
        """Return ``a / b``."""
        return self.builder.fdiv(a, b, flags=_FLAGS)

    def fused(self, signs: tuple[int, int], a: Value, b: Value, c: Value) -> Value:
        """Return ``a b + c`` with signs of the product and of ``c``, rounded once."""
        module = self.builder.module
        name = f"llvm.fmuladd.v{WIDTH}f64"
        found = module.globals.get(name)
        if found is None:
            found = ir.Function(module, ir.FunctionType(VECTOR, [VECTOR] * 3), name)
        a = a if signs[0] > 0 else self.neg(a)
        return self.builder.call(found, [a, b, c if signs[1] > 0 else self.neg(c)])

    def neg(self, a: Value) -> Value:
        """Return ``-a``."""
        return self.builder.fsub(constant(-0.0), a, flags=_FLAGS)

    def compare(self, sign: str, a: Value, b: Value) -> Value:
        """Truth of ``a sign b`` in each lane."""
        return self.builder.fcmp_ordered(sign, a, b)

    def select(self, which: Value, yes: Value, no: Value) -> Value:
        """``yes`` where true, else ``no``."""
        return self.builder.select(which, yes, no)

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the larger of both; NaN where ``a`` is, so that a bound hides no lost state."""
        return self.select(self.compare(">", b, a), b, a)

    def minimum(self, a: Value, b: Value) -> Value:
        """Return the smaller of both; NaN where ``a`` is."""
        return self.select(self.compare("<", b, a), b, a)

    def both(self, a: Value, b: Value) -> Value:
        """Logical and of truth values."""
        return self.builder.and_(a, b)

    def either(self, a: Value, b: Value) -> Value:
        """Logical or of truth values."""
        return self.builder.or_(a, b)

    def inverse(self, a: Value) -> Value:
        """Logical not of truth values."""
        return self.builder.xor(a, truth(True))

    def number(self, a: Value) -> Value:
        """Return 1.0 where true, 0.0 where false."""
        return self.select(a, constant(1.0), constant(0.0))

    def sqrt(self, a: Value) -> Value:
        """Square root."""
        module = self.builder.module
        name = f"llvm.sqrt.v{WIDTH}f64"
        found = module.globals.get(name)
        if found is None:
            found = ir.Function(module, ir.FunctionType(VECTOR, [VECTOR]), name)
        return self.builder.call(found, [a])

    def exp(self, x: Value) -> Value:
        """Exponential."""
        # what is no number stays none
        x = self.minimum(self.maximum(x, constant(-708.0)), constant(709.0))
        shifted = self.fused(_PLUS, x, constant(_PER_LN2), constant(_MAGIC))
        k = self.sub(shifted, constant(_MAGIC))
        r = self.fused(_MINUS, k, constant(_LN2_HIGH), x)
        r = self.fused(_MINUS, k, constant(_LN2_LOW), r)
        r2 = self.mul(r, r)
        r4 = self.mul(r2, r2)
        c = _FACTORIAL

        def pair(i: int) -> Value:
            return self.fused(_PLUS, r, constant(c[i + 1]), constant(c[i]))

        low = self.fused(_PLUS, r2, pair(2), self.add(constant(1.0), r))
        high = self.fused(_PLUS, r4, pair(12), self.fused(_PLUS, r2, pair(10), pair(8)))
        middle = self.fused(_PLUS, r2, pair(6), pair(4))
        p = self.fused(_PLUS, r4, self.fused(_PLUS, r4, high, middle), low)
        # the low bits of ``k + 1.5 * 2^52`` are the integer k
        integer = self.builder.bitcast(shifted, INTEGERS)
        biased = self.builder.add(integer, _integers(1023))
        power = self.builder.bitcast(self.builder.shl(biased, _integers(52)), VECTOR)
        return self.mul(p, power)

    def log(self, x: Value) -> Value:
        """Natural logarithm of a positive normal number; of none none."""
        b = self.builder
        integer = b.bitcast(x, INTEGERS)
        moved = b.add(b.sub(integer, _integers(_ROOT_HALF)), _integers(_UPWARD))
        exponent = b.lshr(moved, _integers(52))
        unbiased = b.shl(b.sub(exponent, _integers(1024)), _integers(52))
        m = b.bitcast(b.sub(integer, unbiased), VECTOR)
        as_bits = b.or_(exponent, _integers(0x4330000000000000))
        k = b.fsub(b.bitcast(as_bits, VECTOR), constant(2.0**52 + 1024.0))
        f = self.sub(m, constant(1.0))
        s = self.div(f, self.add(f, constant(2.0)))
        z = self.mul(s, s)
        w = self.mul(z, z)

        def series(first: int) -> Value:
            total = constant(_LOG[-1] if first % 2 == 0 else _LOG[-2])
            start = len(_LOG) - 3 if first % 2 == 0 else len(_LOG) - 4
            for i in range(start, first - 1, -2):
                total = self.fused(_PLUS, w, total, constant(_LOG[i]))
            return total

        total = self.fused(_PLUS, w, series(1), self.mul(z, series(0)))
        f2 = self.mul(f, f)
        half = constant(0.5)
        # what is no number has bits of one: 0 times it brings it back
        inner = self.fused(_PLUS, x, constant(0.0), self.mul(k, constant(_LN2_LOW)))
        inner = self.fused(_PLUS, s, self.fused(_PLUS, half, f2, total), inner)
        inner = self.sub(self.fused((1, -1), half, f2, inner), f)
        return self.fused((1, -1), k, constant(_LN2_HIGH), inner)
