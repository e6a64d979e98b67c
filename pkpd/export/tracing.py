"""From a Python function of numbers to statements that any language has.

A function written with `jax.numpy` is traced, and every operation of the trace becomes an
expression tree of `pkpd.nonmem.tree`. What is read more than once gets a name, a choice between
values becomes an IF block. Arrays are unrolled to their elements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pkpd.errors import PkpdError
from pkpd.nonmem.tree import Assign, Binary, Expression, If, Item, Name, Number, Statement, Unary

_BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
_COMPARE = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "/="}
_LOGIC = {"and": "AND", "or": "OR"}
_FUNCTION = {
    "exp": "EXP",
    "log": "LOG",
    "sqrt": "SQRT",
    "abs": "ABS",
    "sin": "SIN",
    "cos": "COS",
    "tan": "TAN",
    "tanh": "TANH",
    "max": "MAX",
    "min": "MIN",
}
_SAME = ("stop_gradient", "copy", "finite_derivative", "copy_p")
_INNER = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "closed_call", "remat", "checkpoint")


@dataclass
class Statements:
    """Statements in order, with names for intermediate values.

    Attributes
    ----------
    prefix
        First letters of the names given.
    lines
        What was written so far.
    count
        How many names were given.
    """

    prefix: str
    lines: list[Statement] = field(default_factory=list)
    count: int = 0

    def named(self, value: Expression) -> Expression:
        """Give a value a name, unless it is one or a number."""
        if isinstance(value, Name | Number):
            return value
        target = self.fresh()
        self.lines.append(Assign(target, value, 0))
        return Name(target)

    def fresh(self) -> str:
        """Return a name that is not used yet."""
        self.count += 1
        return f"{self.prefix}{self.count}"

    def chosen(self, condition: Expression, yes: Expression, no: Expression) -> Expression:
        """Name of a value that a condition decides."""
        target = self.fresh()
        branch = (condition, (Assign(target, yes, 0),)), (None, (Assign(target, no, 0),))
        self.lines.append(If(branch, 0))
        return Name(target)


def trace(
    function: Callable[..., Sequence[Any]],
    given: Mapping[str, Any],
    into: Statements,
    where: str,
) -> list[Expression]:
    """Trace ``function(values by name)``; return the expressions of its results.

    Parameters
    ----------
    function
        Takes numbers by name, returns numbers.
    given
        Expression of each number, or a tuple of them, or a mapping with names of its own.
    into
        Statements are added here.
    where
        For messages.

    Raises
    ------
    PkpdError
        If it uses an operation that the languages do not share.

    Examples
    --------
    >>> into = Statements("X")
    >>> (one,) = trace(lambda p: [p["CL"] / p["V"]], {"CL": Name("CL"), "V": Name("V")}, into, "")
    >>> one
    Binary(operator='/', left=Name(name='CL'), right=Name(name='V'))
    """
    expressions, tree = jax.tree.flatten(dict(given))  # as JAX orders the entries of a mapping
    values = jax.tree.unflatten(tree, [jnp.asarray(0.5, dtype=float)] * len(expressions))
    closed = jax.make_jaxpr(lambda v: [jnp.asarray(x, dtype=float) for x in function(v)])(values)
    arrays = [_scalar(expression) for expression in expressions]
    out = _run(closed.jaxpr, closed.consts, arrays, into, where)
    return [array.reshape(-1)[0] for array in out]


def _scalar(value: Expression) -> np.ndarray:
    out = np.empty((), dtype=object)
    out[()] = value
    return out


def _constant(value: Any) -> np.ndarray:
    numbers = np.asarray(value, dtype=float)
    out = np.empty(numbers.shape, dtype=object)
    for place in np.ndindex(numbers.shape):
        out[place] = Number(float(numbers[place]))
    return out


def _run(
    jaxpr: Any, consts: Sequence[Any], arrays: Sequence[np.ndarray], into: Statements, where: str
) -> list[np.ndarray]:
    known: dict[Any, np.ndarray] = {}
    uses: Counter[Any] = Counter()
    for equation in jaxpr.eqns:
        uses.update(v for v in equation.invars if not hasattr(v, "val"))
    uses.update(v for v in jaxpr.outvars if not hasattr(v, "val"))
    known.update(zip(jaxpr.constvars, map(_constant, consts), strict=True))
    known.update(zip(jaxpr.invars, arrays, strict=True))

    def read(v: Any) -> np.ndarray:
        return _constant(v.val) if hasattr(v, "val") else known[v]

    for equation in jaxpr.eqns:
        found = _operation(equation, [read(v) for v in equation.invars], into, where)
        for v, array in zip(equation.outvars, found, strict=True):
            if uses[v] > 1 and str(v.aval.dtype) != "bool":
                array = _each(into.named, array)
            known[v] = array
    return [read(v) for v in jaxpr.outvars]


def _each(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    arrays = tuple(np.broadcast_arrays(*arrays))
    out = np.empty(arrays[0].shape, dtype=object)
    for place in np.ndindex(out.shape):
        out[place] = function(*(array[place] for array in arrays))
    return out


def _operation(
    equation: Any, given: list[np.ndarray], into: Statements, where: str
) -> list[np.ndarray]:
    name, params = equation.primitive.name, equation.params
    if name in _INNER:
        inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
        jaxpr, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, ())
        return _run(jaxpr, consts, given, into, where)
    if name == "convert_element_type":
        source, target = equation.invars[0].aval.dtype, params["new_dtype"]
        if jnp.issubdtype(source, jnp.bool_):
            return [_each(lambda c: _as_number(c, into), given[0])]
        whole = jnp.issubdtype(source, jnp.integer) and jnp.issubdtype(target, jnp.integer)
        if whole or jnp.issubdtype(target, jnp.floating):
            return [given[0]]
        name = f"{name} to {target}"  # it cuts off what is behind the point
    moved = _moved(name, params, given)
    if moved is not None:
        return moved
    if name == "select_n":
        condition, no, yes = given[0], given[1], given[2]
        pick = lambda c, n, y: y if y == n else into.chosen(_truth(c), y, n)  # noqa: E731
        return [_each(pick, condition, no, yes)]
    return [_each(lambda *values: _arithmetic(name, params, values, where), *given)]


def _truth(condition: Expression) -> Expression:
    """Return a condition, also where it became a number."""
    if isinstance(condition, Number):
        return Binary("==", condition, Number(1.0))
    return condition


def _as_number(condition: Expression, into: Statements) -> Expression:
    """Return 1 or 0 for a condition that is reckoned with."""
    if isinstance(condition, Number):
        return condition
    return into.chosen(condition, Number(1.0), Number(0.0))


def _moved(
    name: str, params: Mapping[str, Any], given: list[np.ndarray]
) -> list[np.ndarray] | None:
    """Results of operations that only put elements elsewhere; None for others."""
    one = given[0] if given else np.empty(())
    if name in _SAME:
        return [one]
    if name == "broadcast_in_dim":
        shape, dims = params["shape"], params["broadcast_dimensions"]
        wide = [1] * len(shape)
        for i, d in enumerate(dims):
            wide[d] = one.shape[i]
        return [np.broadcast_to(one.reshape(wide), shape)]
    if name in ("reshape", "squeeze", "expand_dims"):
        sizes = params.get("new_sizes")
        return [one.reshape(sizes) if sizes is not None else np.squeeze(one, params["dimensions"])]
    if name == "concatenate":
        return [np.concatenate(given, axis=params["dimension"])]
    if name == "stack":
        return [np.stack(given, axis=params["axis"])]
    if name == "slice":
        strides = params["strides"] or (1,) * one.ndim
        at = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
        return [one[tuple(slice(*each) for each in at)]]
    if name == "split":
        ends = np.cumsum(params["sizes"])[:-1]
        return list(np.split(one, ends, axis=params["axis"]))
    if name == "unstack":
        return list(np.moveaxis(one, params.get("axis", 0), 0))
    if name == "transpose":
        return [np.transpose(one, params["permutation"])]
    if name == "rev":
        return [np.flip(one, params["dimensions"])]
    if name == "reduce_sum":
        axes, total = params["axes"], one
        for axis in sorted(axes, reverse=True):
            parts = np.moveaxis(total, axis, 0)
            total = parts[0]
            for part in parts[1:]:
                total = _each(lambda a, b: simple("+", a, b), total, part)
        return [np.asarray(total, dtype=object)]
    return None


def simple(operator: str, left: Expression, right: Expression) -> Expression:
    """Join two operands; zeros and ones that change nothing are left out."""
    zero, one = Number(0.0), Number(1.0)
    if isinstance(left, Number) and isinstance(right, Number) and operator in "+-*":
        a, b = left.value, right.value
        return Number({"+": a + b, "-": a - b, "*": a * b}[operator])
    if operator == "+" and left == zero:
        return right
    if operator in "+-" and right == zero:
        return left
    if operator == "-" and left == zero:
        return Unary("-", right)
    if operator == "*" and zero in (left, right):
        return zero
    if operator == "*" and left == one:
        return right
    if operator in ("*", "/", "**") and right == one:
        return left
    return Binary(operator, left, right)


def _arithmetic(
    name: str, params: Mapping[str, Any], values: tuple[Expression, ...], where: str
) -> Expression:
    one = values[0]
    if name in _BINARY:
        return simple(_BINARY[name], one, values[1])
    if name in _COMPARE:
        return Binary(_COMPARE[name], one, values[1])
    if name in _LOGIC:
        return Binary(_LOGIC[name], one, values[1])
    if name in _FUNCTION:
        return Item(_FUNCTION[name], values)
    if name == "integer_pow":
        return simple("**", one, Number(float(params["y"])))
    if name == "square":
        return simple("**", one, Number(2.0))
    if name == "neg":
        return Unary("-", one)
    if name == "not":
        return Unary("NOT", one)
    if name == "log1p":
        return Item("LOG", (simple("+", Number(1.0), one),))
    if name == "expm1":
        return simple("-", Item("EXP", (one,)), Number(1.0))
    if name == "rsqrt":
        return simple("/", Number(1.0), Item("SQRT", (one,)))
    if name == "logistic":
        return simple("/", Number(1.0), simple("+", Number(1.0), Item("EXP", (Unary("-", one),))))
    raise PkpdError(
        where=where,
        what=f"the operation {name!r} has no counterpart in the text of other programs",
        allowed="arithmetic, powers, exponentials, logarithms, roots, conditions",
    )
