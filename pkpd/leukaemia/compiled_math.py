"""Exponential and logarithm that a compiler can turn into vector instructions.

The mathematical library is called for one number at a time, which would take most of the time of a
simulated patient. These two are plain arithmetic: relative error of `fast_exp` below 1e-10 for
arguments from -700 to 700 (clamped beyond), absolute error of `fast_log` below 1e-9 for positive
normal numbers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)


@intrinsic
def _as_integer(typing_context, value):
    """Bits of a float as an integer."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _INT64)

    return types.int64(types.float64), code


@intrinsic
def _as_float(typing_context, value):
    """Float with the bits of an integer."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), code


# numba gives these two their types; a type checker sees only the functions above
_bits: Any = _as_integer
_number: Any = _as_float

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_LN2 = 0.6931471805599453
_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to a whole number in the low bits
_SHIFT_BITS = 0x4338000000000000
_TWO52 = 4503599627370496.0
_TWO52_BITS = 0x4330000000000000
_SQRT2 = 1.4142135623730951
_HALF_LN2 = 0.34657359027997264


@njit(error_model="numpy", fastmath={"contract"})
def fast_exp(x: float) -> float:
    """Exponential of ``x``, clamped to -700 to 700."""
    x = min(max(x, -700.0), 700.0)
    shifted = x * _LOG2_E + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    # Taylor to the ninth power: |r| <= 0.347, error below 7e-12. Pairs are added up first, which
    # makes the chain of operations that wait for one another short (Estrin's scheme).
    r2 = r * r
    r4 = r2 * r2
    p = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6.0))
    upper = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0))
    p += r4 * (upper + r4 * (1.0 / 40320.0 + r * (1.0 / 362880.0)))
    power = (_bits(shifted) - _SHIFT_BITS + 1023) << 52
    return p * _number(power)


@njit(error_model="numpy", fastmath={"contract"})
def fast_log(x: float) -> float:
    """Natural logarithm of a positive normal number."""
    bits = _bits(x)
    exponent = _number((bits >> 52) | _TWO52_BITS) - (_TWO52 + 1023.0)
    m = _number((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)
    t = (m - _SQRT2) / (m + _SQRT2)
    t2 = t * t
    t4 = t2 * t2
    s = (2.0 + t2 * (2.0 / 3.0)) + t4 * (
        (2.0 / 5.0 + t2 * (2.0 / 7.0)) + t4 * (2.0 / 9.0 + t2 * (2.0 / 11.0))
    )
    return exponent * _LN2 + (_HALF_LN2 + t * s)
