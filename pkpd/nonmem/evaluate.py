"""Values of abbreviated code: arrays for all records at once, in NumPy or JAX.

Conditions choose between values with ``where``. What stands under a condition is computed
everywhere, with harmless arguments where the condition does not hold, so that neither a logarithm
of zero nor its derivative reaches what is kept. Values that depend on data alone stay NumPy arrays,
and what no record asks for is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, ndtr
from scipy.special import gammaln as np_gammaln
from scipy.special import ndtr as np_ndtr

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.errors import PkpdError
from pkpd.nonmem.code import element
from pkpd.nonmem.tree import Assign, Binary, Expression, If, Item, Name, Number, Statement, Unary

Lookup = Callable[[str, Any], Any]
"""Gives elements whose number is computed: name of the array, number."""

_LARGE = 100.0  # PEXP: NONMEM's protected functions
_SMALL = 1e-100


def traced(*values: Any) -> bool:
    """Whether any value belongs to JAX."""
    return any(isinstance(value, jax.Array) for value in values)


def _where(mask: Any, one: Any, other: Any) -> Any:
    if mask is None:
        return one
    return (jnp if traced(mask, one, other) else np).where(mask, one, other)


def _truth(value: Any) -> Any:
    truth = isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"
    return value if truth else value != 0


def _both(one: Any, other: Any) -> Any:
    if one is None:
        return other
    return (jnp if traced(one, other) else np).logical_and(one, other)


def _power(base: Any, exponent: Any) -> Any:
    xp = jnp if traced(base, exponent) else np
    if not traced(exponent) and np.ndim(exponent) == 0 and float(exponent).is_integer():
        whole = int(exponent)
        if not traced(base):
            return np.asarray(base, dtype=float) ** float(whole)
        return (
            jax.lax.integer_pow(jnp.asarray(base, dtype=float), whole)
            if abs(whole) < 64
            else base**exponent
        )
    return xp.power(xp.asarray(base, dtype=float), exponent)


def _mod(xp: Any, a: Any, b: Any) -> Any:
    return a - xp.trunc(a / b) * b


# function of (module, value, ...) and the argument that is harmless to it
_SIMPLE: dict[str, tuple[Callable[..., Any], float]] = {
    "LOG": (lambda xp, x: xp.log(x), 1.0),
    "LOG10": (lambda xp, x: xp.log10(x), 1.0),
    "EXP": (lambda xp, x: xp.exp(x), 0.0),
    "SQRT": (lambda xp, x: xp.sqrt(x), 1.0),
    "ABS": (lambda xp, x: xp.abs(x), 1.0),
    "SIN": (lambda xp, x: xp.sin(x), 0.0),
    "COS": (lambda xp, x: xp.cos(x), 0.0),
    "TAN": (lambda xp, x: xp.tan(x), 0.0),
    "ASIN": (lambda xp, x: xp.arcsin(x), 0.0),
    "ACOS": (lambda xp, x: xp.arccos(x), 0.0),
    "ATAN": (lambda xp, x: xp.arctan(x), 0.0),
    "SINH": (lambda xp, x: xp.sinh(x), 0.0),
    "COSH": (lambda xp, x: xp.cosh(x), 0.0),
    "TANH": (lambda xp, x: xp.tanh(x), 0.0),
    "INT": (lambda xp, x: xp.trunc(x), 1.0),
    "GAMLN": (lambda xp, x: (gammaln if xp is jnp else np_gammaln)(x), 1.0),
    "PHI": (lambda xp, x: (ndtr if xp is jnp else np_ndtr)(x), 0.0),
    "PEXP": (lambda xp, x: xp.exp(xp.minimum(x, _LARGE)), 0.0),
    "PLOG": (lambda xp, x: xp.log(xp.maximum(x, _SMALL)), 1.0),
    "PLOG10": (lambda xp, x: xp.log10(xp.maximum(x, _SMALL)), 1.0),
    "PSQRT": (lambda xp, x: xp.sqrt(xp.maximum(x, 0.0)), 1.0),
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b,
    "/=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class Evaluator:
    """Expressions and statements over values by name.

    Parameters
    ----------
    values
        Values by name: numbers or arrays that broadcast together. Changed by `run`.
    lookup
        Elements of arrays whose number is computed, as ``THETA(IND)``.
    missing
        Value of a variable that has none yet: 0, as in a NONMEM run, or what the caller gives.
    """

    def __init__(
        self,
        values: MutableMapping[str, Any],
        lookup: Lookup | None = None,
        missing: Callable[[str], Any] | None = None,
    ) -> None:
        self.values = values
        self.lookup = lookup
        self.missing = missing or (lambda name: 0.0)

    def get(self, name: str) -> Any:
        """Value of a variable."""
        return self.values[name] if name in self.values else self.missing(name)

    def run(self, statements: Sequence[Statement], mask: Any = None) -> None:
        """Carry out statements where ``mask`` holds (everywhere if None)."""
        for statement in statements:
            if isinstance(statement, Assign):
                value = self.value(statement.value, mask)
                if mask is not None:
                    value = _where(mask, value, self.get(statement.target))
                self.values[statement.target] = value
            else:
                self._branches(statement, mask)

    def _branches(self, statement: If, mask: Any) -> None:
        left = mask
        for condition, body in statement.branches:
            here = left
            if condition is not None:
                holds = _truth(self.value(condition, left))
                here = _both(left, holds)
                xp = jnp if traced(holds) else np
                left = _both(left, xp.logical_not(holds))
            if here is None or traced(here):
                self.run(body, here)
            elif np.all(here) and np.ndim(here) == 0:
                self.run(body, mask)
            elif np.any(here):
                self.run(body, here)
            if left is not None and not traced(left) and not np.any(left):
                return

    def value(self, expression: Expression, mask: Any = None) -> Any:
        """Value of an expression; under a mask it is finite where the mask does not hold."""
        if isinstance(expression, Number):
            return expression.value
        if isinstance(expression, Name):
            return self.get(expression.name)
        if isinstance(expression, Unary):
            inner = self.value(expression.operand, mask)
            if expression.operator == "NOT":
                return (jnp if traced(inner) else np).logical_not(_truth(inner))
            return -inner
        if isinstance(expression, Item):
            return self._item(expression, mask)
        return self._binary(expression, mask)

    def _binary(self, one: Binary, mask: Any) -> Any:
        left, right = self.value(one.left, mask), self.value(one.right, mask)
        if one.operator in ("AND", "OR"):
            xp = jnp if traced(left, right) else np
            join = xp.logical_and if one.operator == "AND" else xp.logical_or
            return join(_truth(left), _truth(right))
        if one.operator in _COMPARE:
            return _COMPARE[one.operator](left, right)
        with np.errstate(all="ignore"):
            if one.operator == "+":
                return left + right
            if one.operator == "-":
                return left - right
            if one.operator == "*":
                return left * right
            if one.operator == "/":
                return (
                    np.true_divide(left, _where(mask, right, 1.0))
                    if not traced(left, right)
                    else left / _where(mask, right, 1.0)
                )
            return _power(_where(mask, left, 1.0), right)

    def _item(self, one: Item, mask: Any) -> Any:
        if one.name in _SIMPLE:
            function, harmless = _SIMPLE[one.name]
            if len(one.arguments) != 1:
                raise PkpdError(
                    where=f"function {one.name}",
                    what=f"takes {len(one.arguments)} arguments",
                    allowed="1",
                )
            inner = _where(mask, self.value(one.arguments[0], mask), harmless)
            with np.errstate(all="ignore"):
                return function(jnp if traced(inner) else np, inner)
        given = [self.value(argument, mask) for argument in one.arguments]
        xp = jnp if traced(*given) else np
        if one.name in ("MIN", "MAX"):
            out = given[0]
            for other in given[1:]:
                out = (xp.minimum if one.name == "MIN" else xp.maximum)(out, other)
            return out
        if one.name == "MOD":
            return _mod(xp, given[0], _where(mask, given[1], 1.0))
        if all(isinstance(argument, Number) for argument in one.arguments):
            return self.get(element(one.name, *given))
        if self.lookup is None or len(given) != 1:
            raise PkpdError(
                where=f"{one.name}(...)",
                what="the number of an element is computed",
                allowed="a number",
            )
        return self.lookup(one.name, _where(mask, given[0], 1.0))


def choose_element(name: str, number: Any, values: Mapping[str, Any]) -> Any:
    """Element of an array whose number differs between records; numbers beyond it give 0.

    Examples
    --------
    >>> values = {"THETA(1)": 0.5, "THETA(2)": 4.0}
    >>> choose_element("THETA", np.array([2, 1, 2]), values).tolist()
    [4.0, 0.5, 4.0]
    """
    out: Any = 0.0
    for key, value in values.items():
        if key.startswith(f"{name}(") and "," not in key:
            index = int(key[len(name) + 1 : -1])
            if traced(number) or np.any(np.asarray(number) == index):
                out = _where(number == index, value, out)
    return out
