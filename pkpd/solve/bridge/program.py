"""A JAX function of numbers as a program that compiled kernels run for `WIDTH` patients at once.

The function is traced once with scalars; what it does is then a list of elementary operations
(its jaxpr), and each of them becomes a vector instruction in the kernel that runs the program. The
same holds for its derivative, so an equation is written once and both are right or wrong together.
Functions may use arithmetic, comparisons, ``where``, ``exp``, ``log``, ``sqrt``, powers, hyperbolic
tangent and their likes on scalars; no arrays, loops or random numbers.

Kernels are kept in Numba's cache. A program is either part of a kernel (`evaluate`), which is then
made for the keys of its programs, or a function by itself that a kernel made once calls (`address`,
`call`). A key is a checksum of all the operations, so another equation is another one of either.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.interpreters import partial_eval
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

import pkpd.float64
import pkpd.kept_code  # noqa: F401  (before anything is decorated)
from pkpd.errors import PkpdError
from pkpd.solve.bridge import operations, vector
from pkpd.solve.bridge.lanes import FLOATS
from pkpd.solve.bridge.operations import (
    FUSED,
    Operations,
    fused,
    is_value,
    operations_of,
    simplified,
    split,
)
from pkpd.solve.bridge.order import in_turn
from pkpd.solve.bridge.vector import VECTOR, WIDTH, Arithmetic

POINTERS = 7
"""Blocks of memory that a program reads and writes."""

Place = tuple[int, int]
"""Number of the block of memory, and row in it."""


@dataclass(frozen=True, eq=False)
class Program:
    """Operations on rows of blocks of memory; each row holds `WIDTH` numbers.

    Attributes
    ----------
    operations
        What is done.
    inputs, outputs
        Where the numbers lie that it takes and gives.
    adds
        Whether each output is added to what is there, or replaces it.
    key
        Checksum of all of it.
    """

    operations: Operations
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    adds: tuple[bool, ...]
    key: int


@dataclass(frozen=True, eq=False)
class InTwo:
    """A program in two parts.

    Attributes
    ----------
    before
        What depends on held inputs alone; it writes the rows that are kept.
    after
        The rest; it reads them.
    rows
        How many rows are kept.
    """

    before: Program
    after: Program
    rows: int


_KNOWN: dict[int, Program] = {}


@lru_cache(maxsize=1)
def _own_stamp() -> int:
    files = (__file__, vector.__file__, operations.__file__)
    return zlib.crc32(b"".join(Path(file).read_bytes() for file in files))


def program(
    function: Callable[..., Sequence[Any]],
    inputs: Sequence[Place],
    outputs: Sequence[Place],
    *,
    adds: bool | Sequence[bool] = False,
) -> Program:
    """Trace a function of scalars.

    Parameters
    ----------
    function
        Takes as many scalars as there are ``inputs``, returns as many as ``outputs``.
    inputs, outputs
        Where they lie. All inputs are read before any output is written.
    adds
        Whether outputs are added to what is there; one for all, or one for each.

    Raises
    ------
    PkpdError
        If the function uses an operation that has no vector form.
    """
    zero = jax.ShapeDtypeStruct((), jnp.float64)
    closed = jax.make_jaxpr(lambda *x: tuple(jnp.asarray(v, jnp.float64) for v in function(*x)))(
        *[zero] * len(inputs)
    )
    jaxpr, constants = _flat(closed)
    each = (adds,) * len(outputs) if isinstance(adds, bool) else tuple(adds)
    if len(jaxpr.outvars) != len(outputs) or len(each) != len(outputs):
        raise PkpdError(
            where="program",
            what=f"the function gives {len(jaxpr.outvars)} numbers",
            allowed=f"{len(outputs)}, one for each place",
        )
    for equation in jaxpr.eqns:
        if equation.primitive.name not in _OPERATIONS:
            raise PkpdError(
                where="program",
                what=f"the operation {equation.primitive.name!r} has no vector form",
                allowed=", ".join(sorted(_OPERATIONS)),
            )
    ops = fused(operations_of(jaxpr, constants))
    # what adds zero is left out
    kept = [i for i, r in enumerate(ops.results) if not (each[i] and r == 0.0 and not is_value(r))]
    ops = simplified(replace(ops, results=tuple(ops.results[i] for i in kept)))
    return _program(ops, inputs, [outputs[i] for i in kept], [each[i] for i in kept])


def in_two(made: Program, held: Collection[Place], fixed: Mapping[Place, float], to: int) -> InTwo:
    """Take out of a program what depends on held inputs alone; the numbers it gives are the same.

    Parameters
    ----------
    made
        The program.
    held
        Places of inputs that hold still.
    fixed
        Places of inputs that are known numbers.
    to
        Block of memory of the rows that are kept.
    """
    numbers = {i: fixed[place] for i, place in enumerate(made.inputs) if place in fixed}
    still = {i for i, place in enumerate(made.inputs) if place in held}
    parts = split(simplified(made.operations, numbers), still.__contains__)
    rows = len(parts.before.results)
    kept = [(to, i) for i in range(rows)]
    return InTwo(
        before=_program(parts.before, made.inputs, kept, [False] * rows),
        after=_program(parts.after, [*made.inputs, *kept], made.outputs, made.adds),
        rows=rows,
    )


def _program(
    ops: Operations, inputs: Sequence[Place], outputs: Sequence[Place], adds: Sequence[bool]
) -> Program:
    ops = in_turn(ops)
    text = repr((ops, tuple(inputs), tuple(outputs), tuple(adds), WIDTH, _own_stamp()))
    key = zlib.crc32(text.encode()) | (zlib.adler32(text.encode()) << 30)
    return known(Program(ops, tuple(inputs), tuple(outputs), tuple(adds), key))


def known(made: Program) -> Program:
    """Let a program be compiled by its key; returns it."""
    _KNOWN[made.key] = made
    return made


def _flat(closed: ClosedJaxpr) -> tuple[Jaxpr, Sequence[Any]]:
    """Write out functions within the function; leave out what no result needs."""

    def run(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        known |= dict(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else known[atom]

        for eqn in jaxpr.eqns:
            values = [read(v) for v in eqn.invars]
            inner = eqn.params.get("jaxpr") or eqn.params.get("call_jaxpr")
            if inner is not None:
                if isinstance(inner, ClosedJaxpr):
                    out = run(inner.jaxpr, inner.consts, values)
                else:
                    out = run(inner, (), values)
            else:
                out = eqn.primitive.bind(*values, **eqn.params)
                out = out if eqn.primitive.multiple_results else [out]
            known |= dict(zip(eqn.outvars, out, strict=True))
        return [read(v) for v in jaxpr.outvars]

    avals = [jax.ShapeDtypeStruct((), v.aval.dtype) for v in closed.jaxpr.invars]
    made = jax.make_jaxpr(lambda *x: run(closed.jaxpr, closed.consts, x))(*avals)
    jaxpr, _ = partial_eval.dce_jaxpr(made.jaxpr, [True] * len(made.jaxpr.outvars), True)
    return jaxpr, made.consts


def _integer_power(a: Arithmetic, x: Any, exponent: int) -> Any:
    if exponent < 0:
        return a.div(vector.constant(1.0), _integer_power(a, x, -exponent))
    result, square = None, x
    while exponent:
        if exponent & 1:
            result = square if result is None else a.mul(result, square)
        exponent >>= 1
        if exponent:
            square = a.mul(square, square)
    return vector.constant(1.0) if result is None else result


def _convert(a: Arithmetic, x: Any, params: dict[str, Any]) -> Any:
    wanted = np.dtype(params["new_dtype"])
    if x.type == vector.TRUTHS and wanted != np.bool_:
        return a.number(x)
    if x.type == VECTOR and wanted == np.bool_:
        return a.inverse(a.compare("==", x, vector.constant(0.0)))
    return x


def _absolute(a: Arithmetic, x: Any) -> Any:
    return a.maximum(x, a.neg(x))


def _sign(a: Arithmetic, x: Any) -> Any:
    zero = vector.constant(0.0)
    return a.sub(a.number(a.compare(">", x, zero)), a.number(a.compare("<", x, zero)))


def _tanh(a: Arithmetic, x: Any) -> Any:
    one = vector.constant(1.0)
    e = a.exp(a.mul(vector.constant(-2.0), _absolute(a, x)))
    return a.mul(_sign(a, x), a.div(a.sub(one, e), a.add(one, e)))


def _logistic(a: Arithmetic, x: Any) -> Any:
    one = vector.constant(1.0)
    return a.div(one, a.add(one, a.exp(a.neg(x))))


def _select(a: Arithmetic, which: Any, no: Any, yes: Any) -> Any:
    return a.select(which, yes, no)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, p, x, y: a.add(x, y),
    "add_any": lambda a, p, x, y: a.add(x, y),
    "sub": lambda a, p, x, y: a.sub(x, y),
    "mul": lambda a, p, x, y: a.mul(x, y),
    "div": lambda a, p, x, y: a.div(x, y),
    "neg": lambda a, p, x: a.neg(x),
    "max": lambda a, p, x, y: a.maximum(x, y),
    "min": lambda a, p, x, y: a.minimum(x, y),
    "exp": lambda a, p, x: a.exp(x),
    "log": lambda a, p, x: a.log(x),
    "log1p": lambda a, p, x: a.log(a.add(vector.constant(1.0), x)),
    "sqrt": lambda a, p, x: a.sqrt(x),
    "rsqrt": lambda a, p, x: a.div(vector.constant(1.0), a.sqrt(x)),
    "tanh": lambda a, p, x: _tanh(a, x),
    "logistic": lambda a, p, x: _logistic(a, x),
    "square": lambda a, p, x: a.mul(x, x),
    "pow": lambda a, p, x, y: a.exp(a.mul(y, a.log(x))),
    "integer_pow": lambda a, p, x: _integer_power(a, x, int(p["y"])),
    "abs": lambda a, p, x: _absolute(a, x),
    "sign": lambda a, p, x: _sign(a, x),
    "gt": lambda a, p, x, y: a.compare(">", x, y),
    "ge": lambda a, p, x, y: a.compare(">=", x, y),
    "lt": lambda a, p, x, y: a.compare("<", x, y),
    "le": lambda a, p, x, y: a.compare("<=", x, y),
    "eq": lambda a, p, x, y: a.compare("==", x, y),
    "ne": lambda a, p, x, y: a.inverse(a.compare("==", x, y)),
    "and": lambda a, p, x, y: a.both(x, y),
    "or": lambda a, p, x, y: a.either(x, y),
    "not": lambda a, p, x: a.inverse(x),
    "select_n": lambda a, p, which, no, yes: _select(a, which, no, yes),
    "convert_element_type": lambda a, p, x: _convert(a, x, p),
    "stop_gradient": lambda a, p, x: x,
    "copy": lambda a, p, x: x,
    "copy_p": lambda a, p, x: x,
    "broadcast_in_dim": lambda a, p, x: x,
    "squeeze": lambda a, p, x: x,
    FUSED: lambda a, p, x, y, z: a.fused(p["signs"], x, y, z),
}


def _value(atom: float | bool) -> Any:
    return vector.truth(atom) if isinstance(atom, bool) else vector.constant(atom)


def _emit(builder: Any, made: Program, pointers: Sequence[Any]) -> None:
    arithmetic = Arithmetic(builder)

    def place(where: Place) -> Any:
        start = vector.I64(where[1] * WIDTH)
        return builder.bitcast(builder.gep(pointers[where[0]], [start]), VECTOR.as_pointer())

    ops = made.operations
    used = {atom for step in ops.steps for atom in step.taken if is_value(atom)}
    used |= {atom for atom in ops.results if is_value(atom)}
    known: dict[Any, Any] = {}
    for value, where in enumerate(made.inputs):
        if value in used:
            known[value] = builder.load(place(where), align=8)

    def read(atom: Any) -> Any:
        return known[atom] if is_value(atom) else _value(atom)

    for step in ops.steps:
        values = [read(atom) for atom in step.taken]
        known[step.made] = _OPERATIONS[step.name](arithmetic, step.params, *values)
    results = [read(atom) for atom in ops.results]
    for where, result, add in zip(made.outputs, results, made.adds, strict=True):
        target = place(where)
        if add:
            result = arithmetic.add(builder.load(target, align=8), result)
        builder.store(result, target, align=8)


@intrinsic(prefer_literal=True)
def evaluate(
    typingctx: Any, key: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any
) -> Any:
    """Run the program of a key, known when the kernel is compiled, on pointers to its blocks."""
    if not isinstance(key, types.IntegerLiteral):
        return None
    made = _KNOWN[key.literal_value]

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _emit(builder, made, args[1:])
        return context.get_dummy_value()

    return types.void(key, *[FLOATS] * POINTERS), generate


@lru_cache(maxsize=1024)
def _function(key: int) -> Any:
    # the key is a closure variable, and those are part of the key of the cache
    @cfunc(types.void(*[FLOATS] * POINTERS), cache=True)
    def run_program(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any) -> None:
        evaluate(key, a, b, c, d, e, f, g)

    return run_program


def address(made: Program) -> int:
    """Address of a program as a function that kernels `call`; it is compiled once and kept."""
    return _function(made.key).address


@intrinsic
def call(
    typingctx: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any
) -> Any:
    """Run the program at an address on pointers to its blocks."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [x.type for x in args[1:]])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *[FLOATS] * POINTERS), generate
