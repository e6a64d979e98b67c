"""Programs of a whole marrow: its start, what drugs do in a cell, its step, and what is observed.

Each is traced from the marrow's equations (`pkpd.marrow.protocol`) together with its derivative,
and runs inside the kernels of `pkpd.solve.compiled.whole`. Blocks of memory, by number: 0 states
(or levels of the drugs), 1 parameters, 2 inputs of the cell and its length in days, 3 results or
derivatives by what 0 holds, 4 derivatives by parameters, 5 derivatives by inputs, 6 derivatives by
what was observed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.marrow.actions import combined
from pkpd.solve.bridge.program import Place, program
from pkpd.solve.population.structure import PopulationStructure, Whole

LEVEL_OF_DRUG, RATE_OF_DRUG, SILENT = 0, 1, 2
"""What of a drug the marrow sees: four levels a cell, a rate of dosing, nothing."""

NODES = 4
_HOURS = 24.0
_LEAST = 1e-300  # of what is observed: its logarithm has to be a number


@dataclass(frozen=True)
class Keys:
    """Keys of the programs, and of their derivatives (`pkpd.solve.bridge.program`)."""

    start: int
    act: int
    step: int
    look: int
    start_adjoint: int
    act_adjoint: int
    step_adjoint: int
    look_adjoint: int


@dataclass(frozen=True, eq=False)
class WholePlan:
    """A whole marrow in the form its kernels read.

    Attributes
    ----------
    keys
        Of the programs.
    places : int[K, 2]
        Of each drug its kind and its first row among the levels.
    n_levels, n_states, n_inputs, n_observed
        Numbers of rows; the inputs are without the length of the cell.
    rest : float[n_inputs]
        Inputs when no drug acts.
    """

    keys: Keys
    places: NDArray[np.int32]
    n_levels: int
    n_states: int
    n_inputs: int
    n_observed: int
    rest: NDArray[np.float64]

    @property
    def tape(self) -> int:
        """Rows that each cell leaves for the adjoint."""
        return self.n_states + self.n_inputs

    def scratch(self, n_cells: int) -> int:
        """Rows of scratch that the kernels take besides parameters and doses."""
        own = self.n_states + 2 * (self.n_inputs + 1 + self.n_levels)
        return own + 4 * self.n_observed * n_cells


def whole_plan(structure: PopulationStructure, whole: Whole) -> WholePlan:
    """Trace the programs of a structure."""
    marrow = whole.marrow
    row = {name[1]: i for name, i in structure.row.items() if name[0] == "marrow"}
    states, inputs = marrow.states, marrow.inputs
    places = np.zeros((len(structure.drugs), 2), dtype=np.int32)
    used = 0
    for k, action in enumerate(whole.actions):
        kind = SILENT
        if action is not None:
            kind = LEVEL_OF_DRUG if action.driver == "level" else RATE_OF_DRUG
        places[k] = kind, used
        used += {LEVEL_OF_DRUG: NODES, RATE_OF_DRUG: 1, SILENT: 0}[kind]
    acting = [(k, a) for k, a in enumerate(whole.actions) if a is not None]
    length: Place = (2, len(inputs))

    def start(p: dict[str, Any]) -> list[Any]:
        y = marrow.start(p)
        return [y[name] for name in states]

    def act(levels: list[Any], p: dict[str, Any]) -> list[Any]:
        drivers = [
            levels[places[k, 1] : places[k, 1] + NODES]
            if places[k, 0] == LEVEL_OF_DRUG
            else levels[places[k, 1]]
            for k, _ in acting
        ]
        u = combined(marrow, [action for _, action in acting], drivers, p)
        return [jnp.asarray(u[name], jnp.float64) for name in inputs]

    def step(y: list[Any], p: dict[str, Any], u: list[Any], h: Any) -> list[Any]:
        after = marrow.step(_named(states, y), p, _named(inputs, u), h)
        return [after[name] for name in states]

    def look(y: list[Any], p: dict[str, Any], u: list[Any]) -> list[Any]:
        """Log of each observed quantity and its slope per hour."""
        rates = marrow.derivative(_named(states, y), p, _named(inputs, u))

        def logs(values: list[Any]) -> list[Any]:
            seen = marrow.observe(_named(states, values), p)
            return [jnp.log(jnp.maximum(seen[name], _LEAST)) for name in whole.observed]

        slopes = [jnp.asarray(rates[name], jnp.float64) for name in states]
        value, slope = jax.jvp(logs, (y,), (slopes,))
        return [x for pair in zip(value, slope, strict=True) for x in (pair[0], pair[1] / _HOURS)]

    at = Memory(row)
    levels = at.rows(0, used)
    y, u = at.rows(0, len(states)), at.rows(2, len(inputs))
    seen = 2 * len(whole.observed)
    keys = Keys(
        start=at.value(start, [], at.rows(0, len(states))),
        act=at.value(act, [levels], u),
        step=at.value(step, [y, u, [length]], y, single=(2,)),
        look=at.value(look, [y, u], at.rows(3, seen)),
        start_adjoint=at.adjoint(start, [], (), at.rows(3, len(states)), []),
        act_adjoint=at.adjoint(act, [levels], (0,), at.rows(5, len(inputs)), [at.rows(3, used)]),
        step_adjoint=at.adjoint(
            step, [y, u, [length]], (0, 1), at.rows(3, len(states)),
            [at.rows(3, len(states)), at.rows(5, len(inputs))], single=(2,), fresh=(0,),
        ),
        look_adjoint=at.adjoint(
            look, [y, u], (0, 1), at.rows(6, seen),
            [at.rows(3, len(states)), at.rows(5, len(inputs))],
        ),
    )  # fmt: skip
    rest = marrow.rest()
    return WholePlan(
        keys, places, used, len(states), len(inputs), len(whole.observed),
        np.array([rest[name] for name in inputs]),
    )  # fmt: skip


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


class Memory:
    """Where the arguments of programs lie; parameters are rows of ``theta`` by name."""

    def __init__(self, row: dict[str, int]) -> None:
        self._row = row

    @staticmethod
    def rows(block: int, count: int) -> list[Place]:
        """Return the first rows of a block."""
        return [(block, i) for i in range(count)]

    def value(
        self,
        function: Callable[..., list[Any]],
        groups: list[list[Place]],
        outputs: list[Place],
        *,
        single: Sequence[int] = (),
    ) -> int:
        """Key of a function of lists of numbers and of parameters (its second argument)."""
        call, inputs = self._call(function, groups, single)
        return program(call, inputs, outputs).key

    def adjoint(
        self,
        function: Callable[..., list[Any]],
        groups: list[list[Place]],
        wanted: Sequence[int],
        bars: list[Place],
        outputs: list[list[Place]],
        *,
        single: Sequence[int] = (),
        fresh: Sequence[int] = (),
    ) -> int:
        """Key of its derivative.

        Parameters
        ----------
        wanted
            Groups whose derivative is wanted; that by parameters always is.
        bars
            Where the derivatives by its results lie.
        outputs
            Where those by the wanted groups go: added, or written anew if in ``fresh``.
        """
        call, inputs = self._call(function, groups, single)
        n = len(inputs)

        def pull(*numbers: Any) -> list[Any]:
            values, cotangents = numbers[:n], numbers[n:]
            _, back = jax.vjp(call, *values)
            found = back([jnp.asarray(c) for c in cotangents])
            first = np.concatenate([[0], np.cumsum([len(g) for g in groups])]).astype(int)
            out = [x for g in wanted for x in found[first[g] : first[g + 1]]]
            return [*out, *found[first[-1] :]]

        to = [place for group in outputs for place in group]
        adds = [g not in fresh for i, g in enumerate(wanted) for _ in outputs[i]]
        parameters = [(4, i) for i in self._row.values()]
        every = [True] * len(parameters)
        return program(pull, [*inputs, *bars], [*to, *parameters], adds=[*adds, *every]).key

    def _call(
        self, function: Callable[..., list[Any]], groups: list[list[Place]], single: Sequence[int]
    ) -> tuple[Callable[..., list[Any]], list[Place]]:
        sizes = [len(g) for g in groups]
        names = list(self._row)

        def call(*numbers: Any) -> list[Any]:
            given, at = [], 0
            for i, size in enumerate(sizes):
                part = list(numbers[at : at + size])
                given.append(part[0] if i in single else part)
                at += size
            p = dict(zip(names, numbers[at:], strict=True))
            return function(*given[:1], p, *given[1:])

        inputs = [place for group in groups for place in group]
        return call, [*inputs, *((1, i) for i in self._row.values())]
