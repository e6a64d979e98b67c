"""Elementary operations of a program, and what can be done with them before they are compiled.

Products that are only added to something are fused with that sum, numbers are carried through, and
what depends on some inputs alone can be taken out, to be worked out once and kept. None of it
changes a digit: which products are fused is decided on the whole program, and what is left out is
exact (sums with 0, products with 0 and 1). So a part of a program, or a program in which some
inputs are numbers, gives the very numbers of the whole one, where no input is infinite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, Literal

Atom = int | float | bool
"""A value by its number (int), or a number or truth value itself (float, bool)."""

FUSED = "fused"
"""``a b + c``, rounded once; ``params`` has the signs of the product and of ``c``."""

_SAME = ("stop_gradient", "copy", "copy_p", "broadcast_in_dim", "squeeze")
_SUMS = {"add": (1, 1), "add_any": (1, 1), "sub": (1, -1)}


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes
    ----------
    name, params
        Of the primitive of JAX, or `FUSED`.
    taken, made
        What it takes, and the number of the value it makes.
    truth
        Whether that is a truth value.
    """

    name: str
    params: Mapping[str, Any]
    taken: tuple[Atom, ...]
    made: int
    truth: bool = False


@dataclass(frozen=True)
class Operations:
    """Operations in their order; the inputs are the values 0, 1, 2, ...

    Attributes
    ----------
    inputs
        How many inputs there are.
    steps
        What is done.
    results
        What comes out.
    """

    inputs: int
    steps: tuple[Operation, ...]
    results: tuple[Atom, ...]


def is_value(atom: Atom) -> bool:
    """Whether an atom is a value and not a number."""
    return isinstance(atom, int) and not isinstance(atom, bool)


def operations_of(jaxpr: Jaxpr, constants: Sequence[Any]) -> Operations:
    """Write a flat jaxpr of scalars as operations."""
    known: dict[Any, Atom] = {v: i for i, v in enumerate(jaxpr.invars)}
    known |= {v: _number(c) for v, c in zip(jaxpr.constvars, constants, strict=True)}

    def read(atom: Any) -> Atom:
        return _number(atom.val) if isinstance(atom, Literal) else known[atom]

    steps, following = [], len(jaxpr.invars)
    for equation in jaxpr.eqns:
        (out,) = equation.outvars
        taken = tuple(read(v) for v in equation.invars)
        truth = np.dtype(getattr(out.aval, "dtype", None)) == np.bool_
        params = {k: equation.params[k] for k in ("y", "new_dtype") if k in equation.params}
        steps.append(Operation(equation.primitive.name, params, taken, following, truth))
        known[out] = following
        following += 1
    return Operations(len(jaxpr.invars), tuple(steps), tuple(read(v) for v in jaxpr.outvars))


def _number(value: Any) -> Atom:
    number = np.asarray(value)
    return bool(number) if number.dtype == np.bool_ else float(number)


def fused(ops: Operations) -> Operations:
    """Join each product that is used once, in a sum or difference, with that."""
    uses = Counter(atom for step in ops.steps for atom in step.taken if is_value(atom))
    uses.update(atom for atom in ops.results if is_value(atom))
    products = {
        step.made: step for step in ops.steps if step.name == "mul" and uses[step.made] == 1
    }
    steps: dict[int, Operation] = {}
    for step in ops.steps:
        steps[step.made] = step
        if step.name not in _SUMS:
            continue
        for place in (0, 1):
            product = step.taken[place]
            if is_value(product) and product in products:
                signs = _SUMS[step.name][place], _SUMS[step.name][1 - place]
                taken = (*products[int(product)].taken, step.taken[1 - place])
                steps[step.made] = Operation(FUSED, {"signs": signs}, taken, step.made)
                del steps[int(product)]
                break
    return Operations(ops.inputs, tuple(steps.values()), ops.results)


def simplified(ops: Operations, numbers: Mapping[int, float] | None = None) -> Operations:
    """Carry numbers through, do nothing twice, and leave out what no result needs.

    Parameters
    ----------
    ops
        Operations.
    numbers
        Inputs (by their place) that are known numbers.
    """
    known: dict[int, Atom] = dict(numbers or {})

    def read(atom: Atom) -> Atom:
        return known.get(int(atom), atom) if is_value(atom) else atom

    steps = []
    done: dict[str, int] = {}
    for step in ops.steps:
        taken = tuple(read(atom) for atom in step.taken)
        name, params = step.name, step.params
        if name == FUSED:
            name, params, taken = _plainer(params, taken)
        found = _without(name, params, taken)
        key = repr((name, params, taken))
        if found is None and key in done:
            found = done[key]
        if found is not None:
            known[step.made] = found
        else:
            done[key] = step.made
            steps.append(Operation(name, params, taken, step.made, step.truth))
    results = tuple(read(atom) for atom in ops.results)
    return Operations(ops.inputs, _needed(steps, results), results)


def _plainer(
    params: Mapping[str, Any], taken: tuple[Atom, ...]
) -> tuple[str, Mapping[str, Any], tuple[Atom, ...]]:
    """Write ``a b + c`` as a sum if ``a`` or ``b`` is 0 or 1."""
    a, b, c = taken
    one, other = (a, b) if isinstance(a, float) else (b, a)
    if not isinstance(one, float) or one not in (0.0, 1.0):
        return FUSED, params, taken
    product = other if one == 1.0 else 0.0
    first, second = params["signs"]
    if first > 0:
        return "add" if second > 0 else "sub", {}, (product, c)
    return "sub", {}, (c, product)


def _without(name: str, params: Mapping[str, Any], taken: tuple[Atom, ...]) -> Atom | None:
    """Give what an operation comes to if it is an argument or a number, else ``None``."""
    if name in _SAME:
        return taken[0]
    if name == "convert_element_type" and np.dtype(params["new_dtype"]) == np.float64:
        return taken[0] if isinstance(taken[0], float) else None
    if name not in ("mul", *_SUMS):
        return None
    x, y = taken
    if isinstance(x, float) and isinstance(y, float):
        return x * y if name == "mul" else x - y if name == "sub" else x + y
    if name == "mul":
        if 0.0 in (x if isinstance(x, float) else None, y if isinstance(y, float) else None):
            return 0.0
        if isinstance(x, float) and x == 1.0:
            return y
        return x if isinstance(y, float) and y == 1.0 else None
    if isinstance(y, float) and y == 0.0:
        return x
    return y if name != "sub" and isinstance(x, float) and x == 0.0 else None


def _needed(steps: Sequence[Operation], results: Collection[Atom]) -> tuple[Operation, ...]:
    needed, kept = {atom for atom in results if is_value(atom)}, []
    for step in reversed(steps):
        if step.made in needed:
            kept.append(step)
            needed |= {atom for atom in step.taken if is_value(atom)}
    return tuple(reversed(kept))


@dataclass(frozen=True)
class Split:
    """Operations in two parts.

    Attributes
    ----------
    before
        What depends on held inputs alone; its results are the values that are kept.
    after
        The rest; the kept values are further inputs, behind the others.
    """

    before: Operations
    after: Operations


def split(ops: Operations, held: Callable[[int], bool]) -> Split:
    """Take out what depends on held inputs alone.

    Parameters
    ----------
    ops
        Operations.
    held
        Whether an input, by its place, is held.
    """
    early = {i for i in range(ops.inputs) if held(i)}
    made_early: dict[int, Operation] = {}
    late: list[Operation] = []
    for step in ops.steps:
        if all(not is_value(atom) or atom in early for atom in step.taken):
            early.add(step.made)
            made_early[step.made] = step
        else:
            late.append(step)
    # truth values are not kept: what makes them is done again
    again: dict[int, Operation] = {}
    waiting = [atom for step in late for atom in step.taken] + list(ops.results)
    kept: dict[int, None] = {}
    while waiting:
        atom = waiting.pop()
        if not is_value(atom) or atom not in made_early or atom in again:
            continue
        step = made_early[int(atom)]
        if step.truth:
            again[step.made] = step
            waiting += step.taken
        else:
            kept[step.made] = None
    rows = sorted(kept)
    before = Operations(ops.inputs, _needed(list(made_early.values()), rows), tuple(rows))
    # kept values become inputs, so every other value moves behind them
    order = {value: ops.inputs + i for i, value in enumerate(rows)}

    def moved(atom: Atom) -> Atom:
        if not is_value(atom) or atom < ops.inputs:
            return atom
        return order.get(int(atom), int(atom) + len(rows))

    done_again = sorted(again.values(), key=lambda step: step.made)
    steps = tuple(
        Operation(s.name, s.params, tuple(map(moved, s.taken)), s.made + len(rows), s.truth)
        for s in [*done_again, *late]
    )
    after = Operations(ops.inputs + len(rows), steps, tuple(map(moved, ops.results)))
    return Split(before, after)
