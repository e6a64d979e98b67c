"""Programs of a whole marrow: its start, what drugs do in a cell, its step, and what is observed.

Each is traced from the marrow's equations (`pkpd.marrow.protocol`) together with its derivative,
and runs inside the kernels of `pkpd.solve.compiled.whole`. Blocks of memory, by number: 0 states
(or levels of the drugs), 1 parameters, 2 inputs of the cell and its length in days, 3 results or
derivatives by what 0 holds, 4 derivatives by parameters, 5 derivatives by inputs, 6 derivatives by
what was observed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.kinetics.quadrature import WEIGHTS
from pkpd.kinetics.saturable import SaturableIV
from pkpd.marrow.actions import CHANNELS, Action, combined
from pkpd.marrow.protocol import Marrow
from pkpd.solve.bridge.kept_programs import Made, kept_programs
from pkpd.solve.bridge.program import Place, Program, address, in_two, program
from pkpd.solve.grid.structure import PopulationStructure, Whole

LEVEL_OF_DRUG, RATE_OF_DRUG, SILENT = 0, 1, 2
"""What of a drug the marrow sees: its level in a cell, rates of dosing, nothing."""

NODES = len(WEIGHTS)
_HOURS = 24.0
_ROWS = {"level": NODES, "moments": 2, "rate": 1, "rates": len(CHANNELS)}
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


START, SEE, LOOK, DRIFT, FORM, STEP, FORM_AT_REST, STEP_AT_REST, ACT = range(9)
"""Programs of a course through days: start, what is observed on mornings and within the day, an
attempted step of saturable kinetics; what of a step depends on parameters and the length of the
cell alone, and the rest of the step; both without drugs, with the same numbers; and from there on
the inputs of a cell, one program for each set of drugs that are there (`acts_for`)."""

MOST_APART = 3
"""Drugs that act by a level, up to which each set of them has a program of its own."""


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


class MarrowEquations:
    """A marrow with what acts on it, as functions of lists of numbers and of named parameters.

    Parameters
    ----------
    marrow
        The marrow.
    actions
        One for each drug, or ``None``.
    observed
        What `look` and `see` give.

    Attributes
    ----------
    places : int[K, 2]
        Of each drug its kind and its first row among the levels.
    n_levels
        Number of rows of levels.
    """

    def __init__(
        self, marrow: Marrow, actions: Sequence[Action | None], observed: Sequence[str]
    ) -> None:
        self._marrow, self._observed = marrow, tuple(observed)
        self.places = np.zeros((len(actions), 2), dtype=np.int32)
        self.n_levels = 0
        self._acting: list[tuple[Action, slice | int]] = []
        for k, action in enumerate(actions):
            if action is None:
                self.places[k] = SILENT, self.n_levels
                continue
            first = self.n_levels
            self.n_levels += _ROWS[action.driver]
            kind = LEVEL_OF_DRUG if action.driver in ("level", "moments") else RATE_OF_DRUG
            self.places[k] = kind, first
            rows = first if action.driver == "rate" else slice(first, self.n_levels)
            self._acting.append((action, rows))

    def start(self, p: dict[str, Any]) -> list[Any]:
        """State before any drug."""
        y = self._marrow.start(p)
        return [y[name] for name in self._marrow.states]

    def act(self, levels: list[Any], p: dict[str, Any]) -> list[Any]:
        """Form the inputs of a cell from the levels of the drugs."""
        return self._inputs(levels, p, self._acting)

    def act_without(
        self, absent: Collection[int], levels: list[Any], p: dict[str, Any]
    ) -> list[Any]:
        """Form the same while drugs of some numbers are not there."""
        gone = {int(self.places[k, 1]) for k in absent}
        acting = [
            (action, rows)
            for action, rows in self._acting
            if (rows.start if isinstance(rows, slice) else rows) not in gone
        ]
        return self._inputs(levels, p, acting)

    def _inputs(
        self, levels: list[Any], p: dict[str, Any], acting: Sequence[tuple[Action, slice | int]]
    ) -> list[Any]:
        actions = [action for action, _ in acting]
        u = combined(self._marrow, actions, [levels[rows] for _, rows in acting], p)
        return [jnp.asarray(u[name], jnp.float64) for name in self._marrow.inputs]

    @property
    def by_level(self) -> list[int]:
        """Numbers of the drugs that act by a level."""
        return [k for k, (kind, _) in enumerate(self.places) if kind == LEVEL_OF_DRUG]

    def step(self, y: list[Any], p: dict[str, Any], u: list[Any], h: Any) -> list[Any]:
        """State after ``h`` days."""
        states, inputs = self._marrow.states, self._marrow.inputs
        after = self._marrow.step(_named(states, y), p, _named(inputs, u), h)
        return [after[name] for name in states]

    def see(self, y: list[Any], p: dict[str, Any]) -> list[Any]:
        """Observed quantities."""
        seen = self._marrow.observe(_named(self._marrow.states, y), p)
        return [jnp.asarray(seen[name], jnp.float64) for name in self._observed]

    def look(self, y: list[Any], p: dict[str, Any], u: list[Any]) -> list[Any]:
        """Log of each observed quantity, followed by its slope per hour."""
        states = self._marrow.states
        rates = self._marrow.derivative(_named(states, y), p, _named(self._marrow.inputs, u))

        def logs(values: list[Any]) -> list[Any]:
            return [jnp.log(jnp.maximum(x, _LEAST)) for x in self.see(values, p)]

        slopes = [jnp.asarray(rates[name], jnp.float64) for name in states]
        value, slope = jax.jvp(logs, (y,), (slopes,))
        return [x for pair in zip(value, slope, strict=True) for x in (pair[0], pair[1] / _HOURS)]


def whole_plan(structure: PopulationStructure, whole: Whole) -> WholePlan:
    """Trace the programs of a structure."""
    marrow = whole.marrow
    do = MarrowEquations(marrow, whole.actions, whole.observed)
    states, inputs = len(marrow.states), len(marrow.inputs)
    seen = 2 * len(whole.observed)
    at = Memory({name[1]: i for name, i in structure.row.items() if name[0] == "marrow"})
    levels, y, u = at.rows(0, do.n_levels), at.rows(0, states), at.rows(2, inputs)
    length = [(2, inputs)]
    y_bar, u_bar = at.rows(3, states), at.rows(5, inputs)
    keys = Keys(
        start=at.value(do.start, [], y),
        act=at.value(do.act, [levels], u),
        step=at.value(do.step, [y, u, length], y, single=(2,)),
        look=at.value(do.look, [y, u], at.rows(3, seen)),
        start_adjoint=at.adjoint(do.start, [], (), y_bar, []),
        act_adjoint=at.adjoint(do.act, [levels], (0,), u_bar, [at.rows(3, do.n_levels)]),
        step_adjoint=at.adjoint(
            do.step, [y, u, length], (0, 1), y_bar, [y_bar, u_bar], single=(2,), fresh=(0,)
        ),
        look_adjoint=at.adjoint(do.look, [y, u], (0, 1), at.rows(6, seen), [y_bar, u_bar]),
    )
    return WholePlan(
        keys, do.places, do.n_levels, states, inputs, len(whole.observed), rest_of(marrow)
    )


def rest_of(marrow: Marrow) -> NDArray[np.float64]:
    """Return the inputs of a marrow when no drug acts, in their order."""
    rest = marrow.rest()
    return np.array([rest[name] for name in marrow.inputs])


def course_programs(
    marrow: Marrow,
    actions: Sequence[Action | None],
    parameters: Sequence[str],
    curves: Sequence[str],
    *,
    saturable: SaturableIV | None = None,
) -> tuple[NDArray[np.int64], MarrowEquations, tuple[int, int]]:
    """Addresses of the programs of a course, and where the levels of its drugs lie.

    Last the rows that are kept of a step for each length of a cell, with and without drugs.

    Parameters
    ----------
    parameters
        Names of the rows of ``theta``.
    curves
        What is followed within the day.
    saturable
        Kinetics that are solved by steps.
    """
    do = MarrowEquations(marrow, actions, marrow.observed)
    follow = MarrowEquations(marrow, actions, curves)
    states, inputs = len(marrow.states), len(marrow.inputs)
    at = Memory({name: i for i, name in enumerate(parameters)})
    y, u = at.rows(0, states), at.rows(2, inputs)

    def traced() -> Made:
        nothing = program(list, [], [])
        step = at.made(do.step, [y, u, [(2, inputs)]], y, single=(2,))
        held = {*at.parameters, (2, inputs)}
        full = in_two(step, held, {}, 3)
        plain = in_two(step, held, dict(zip(u, map(float, rest_of(marrow)), strict=True)), 3)
        programs = {
            START: at.made(do.start, [], y),
            FORM: full.before,
            STEP: full.after,
            FORM_AT_REST: plain.before,
            STEP_AT_REST: plain.after,
            SEE: at.made(do.see, [y], at.rows(3, len(marrow.observed))),
            LOOK: at.made(follow.look, [y, u], at.rows(3, 2 * len(curves))),
            DRIFT: nothing if saturable is None else _drift(saturable),
        }
        for i, present in enumerate(acts_for(do)):
            absent = [k for k in do.by_level if k not in present]
            act = partial(do.act_without, absent)
            programs[ACT + i] = at.made(act, [at.rows(0, do.n_levels)], u)
        return tuple(programs[i] for i in range(len(programs))), (full.rows, plain.rows)

    made_from = (marrow, tuple(actions), tuple(parameters), tuple(curves), saturable)
    programs, (with_drugs, at_rest) = kept_programs(made_from, traced)
    addresses = np.array([address(one) for one in programs], np.int64)
    return addresses, do, (with_drugs, at_rest)


def acts_for(do: MarrowEquations) -> list[tuple[int, ...]]:
    """Give the sets of drugs that act by a level, in the order of their programs.

    Bit ``i`` of the place is the ``i``-th of these drugs; with more than `MOST_APART` of them there
    is one program, for all.
    """
    drugs = do.by_level
    if len(drugs) > MOST_APART:
        return [tuple(drugs)]
    places = range(2 ** len(drugs))
    return [tuple(k for i, k in enumerate(drugs) if place >> i & 1) for place in places]


DRIFT_ROWS = 6
"""Rows of block 2 of the program of saturable kinetics: the integral of the level and of that,
infusion, hours left, pace, level. Block 0 has the amounts, block 1 the drug's own parameters."""


def _drift(pk: SaturableIV) -> Program:
    """Trace an attempted step of saturable kinetics."""
    n, names = pk.n_states, pk.parameters

    def attempt(*numbers: Any) -> list[Any]:
        y, (flow, left, pace) = list(numbers[: n + 2]), numbers[n + 2 : n + 5]
        p = dict(zip(names, numbers[n + 5 :], strict=True))
        y, left, pace = pk.attempt(y, p, flow, left, pace)
        return [*y, left, pace, pk.level(y, p)]

    amounts, integrals = [(0, i) for i in range(n)], [(2, 0), (2, 1)]
    control = [(2, 2), (2, 3), (2, 4)]
    inputs = [*amounts, *integrals, *control, *((1, i) for i in range(len(names)))]
    return program(attempt, inputs, [*amounts, *integrals, (2, 3), (2, 4), (2, 5)])


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


class Memory:
    """Where the arguments of programs lie; parameters are rows of ``theta`` by name."""

    def __init__(self, row: dict[str, int]) -> None:
        self._row = row

    @property
    def parameters(self) -> list[Place]:
        """Places of the parameters."""
        return [(1, i) for i in self._row.values()]

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
        return self.made(function, groups, outputs, single=single).key

    def made(
        self,
        function: Callable[..., list[Any]],
        groups: list[list[Place]],
        outputs: list[Place],
        *,
        single: Sequence[int] = (),
    ) -> Program:
        """Trace such a function."""
        call, inputs = self._call(function, groups, single)
        return program(call, inputs, outputs)

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
