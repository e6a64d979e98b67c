"""A stream as a structural model: its program bound to the records of a data set.

Predictions and their errors come from the program alone. Of an observation it gives either the
prediction and the logarithm of its standard deviation (``Y`` and its slopes by ``EPS``), or the log
likelihood (``F_FLAG`` 1 and 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.nonmem import carried
from pkpd.nonmem.acting import predicted_compartments, what_acts, with_items
from pkpd.nonmem.code import element
from pkpd.nonmem.effects import Effects
from pkpd.nonmem.evaluate import Evaluator, choose_element
from pkpd.nonmem.inspect_code import assigned, assignments, reads
from pkpd.nonmem.likelihood_rows import L2Groups, given_earlier, group_rows
from pkpd.nonmem.program import OBSERVED, Live, Program, data_statements
from pkpd.nonmem.reasons import reasons
from pkpd.nonmem.solving import Solving
from pkpd.nonmem.tree import Statement
from pkpd.predict.structure import CLOSED_FORMS_AT_ONCE, SOLUTIONS_AT_ONCE, OfPrograms

LINE = "Y"
_POISONS = (0.37, -2.9)  # beginnings of variables that should not matter
_SAME = 1e-9


@dataclass(frozen=True, eq=False)
class StreamStructure:
    """A control stream as a structural model.

    Attributes
    ----------
    program
        What the stream computes.
    effects
        Its parameters.
    start
        Values of all parameters, at which steps are chosen.
    """

    program: Program
    effects: Effects
    start: Mapping[str, float] = field(default_factory=dict)
    own_error = True

    @property
    def parameters(self) -> tuple[str, ...]:
        """Fixed effects, random effects and residual standard deviations."""
        return self.effects.names

    @property
    def lines(self) -> tuple[str, ...]:
        """The one line, ``Y``."""
        return (LINE,)

    def bind(self, dataset: Dataset) -> StreamPredictor:
        """Prepare predictions of a data set's observations.

        Raises
        ------
        PkpdError
            If a variable would be read whose value depends on what came before the individual.
        """
        return StreamPredictor(self, dataset)


@dataclass(eq=False)
class StreamPredictor(OfPrograms):
    """`StreamStructure` bound to a data set of ``B`` subjects, ``N`` records, ``M`` observations.

    Attributes
    ----------
    structure, dataset
        What is bound.
    """

    structure: StreamStructure
    dataset: Dataset

    def __post_init__(self) -> None:
        """Work out all that does not depend on parameters."""
        program, data = self.structure.program, with_items(self.structure.program, self.dataset)
        events, seen = data.events, data.observations
        self.dataset, self._rows, self._columns = data, seen.subject, seen.record
        self.data = {name: self._narrow(values) for name, values in data.covariates.items()}
        self._default = program.compartments.observed
        self._cmt = predicted_compartments(program, data)
        self.live: Live = what_acts(program, data)
        self.given = carried.given_variables(data)
        there = np.zeros(events.shape)
        there[self._rows, self._columns] = 1.0
        self.given[OBSERVED] = there
        self.solving = Solving(program, self.live, data, self.structure.effects)
        self._scanned: tuple[str, ...] = ()
        self._passes, self._scanned_rows = 1, dict[int, Any]()
        self._starts: dict[str, Any] = {}
        self._flags = np.zeros(len(seen), dtype=int)
        self._groups: L2Groups | None = None
        with np.errstate(all="ignore"):
            away = self._environment(self._probe(1), {})
        self.solving.prepare(self._environment(self._start, {}), away)
        self._settle()
        self._flags = self._find_flags()
        self._groups = group_rows(data, self._flags == 0, self.given_l2)
        start = self._start
        begun = self._kept(start)[0] if self._scanned else self._starts
        self.solving = self.solving.chosen(
            lambda states: self._judged(start, begun, states), self._environment(start, begun)
        )

    @property
    def given_l2(self) -> np.ndarray | None:
        """Values of the data item L2 at the records, [B, N]."""
        return self.dataset.covariates.get("L2")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters read."""
        return self.structure.parameters

    @property
    def note(self) -> str:
        """A sentence on the solver."""
        return self.solving.note

    @property
    def forward(self) -> bool:
        """Whether it can be differentiated in forward mode: all but adaptive steps."""
        return self.solving.linear or self.solving.options.marches

    @property
    def lanes_at_once(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Subjects times points that are worth taking together."""
        return CLOSED_FORMS_AT_ONCE if self.solving.linear else SOLUTIONS_AT_ONCE

    @property
    def normal(self) -> np.ndarray:
        """Observations with a normal error; the code gives the likelihood of others, bool[M]."""
        return self._flags == 0

    def _narrow(self, values: np.ndarray) -> np.ndarray:
        """[B, 1] of values that do not change within an individual."""
        valid = self.dataset.events.valid
        same = np.all((values == values[:, :1]) | ~valid)
        return values[:, :1] if same else values

    @cached_property
    def _start(self) -> dict[str, Any]:
        n = len(self.dataset.subjects)
        return {name: np.full(n, self.structure.start[name]) for name in self.parameters}

    # Values -------------------------------------------------------------------------------------

    def _base(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Collect data items, thetas, etas and the variables that NONMEM gives."""
        wide = {}
        for name, value in parameters.items():
            value = value if isinstance(value, jax.Array) else np.asarray(value, dtype=float)
            wide[name] = value[:, None] if value.ndim == 1 else value
        made = {name: make(wide) for name, make in self.structure.effects.made.items()}
        return {**self.given, **self.data, **made}

    @staticmethod
    def _run(
        values: dict[str, Any], statements: tuple[Statement, ...], missing: Any = None
    ) -> dict[str, Any]:
        run = Evaluator(values, lambda name, number: choose_element(name, number, values), missing)
        run.run(statements)
        return values

    def _environment(
        self, parameters: Mapping[str, Any], starts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Values after ``$PK``, numbers, [B, 1] or [B, N]."""
        return self._run({**self._base(parameters), **starts}, self.live.pk)

    def _with_amounts(self, values: dict[str, Any], states: Any, cmt: np.ndarray) -> dict[str, Any]:
        """Values that ``$ERROR`` reads, with amounts of some records, [..., S]."""
        if states is None:
            return values
        for n in range(1, self.structure.program.compartments.size + 1):
            values[element("A", n)] = states[..., n - 1]
        total: Any = 0.0
        for c in self.live.predicted:
            scale = values.get(f"S{c}", values.get("SC", 1.0) if c == self._default else 1.0)
            total = jnp.where(cmt == c, states[..., c - 1] / scale, total)
        values["F"] = total
        own = assigned(self.live.des)
        if any(name in own for name in self._des_read_later):
            values["T"] = values.get("TIME", 0.0)
            self._run(values, self.live.des)
        return values

    @cached_property
    def _des_read_later(self) -> frozenset[str]:
        out: set[str] = set()
        for one, conditions in assignments(self.live.error):
            out |= set().union(reads(one.value), *map(reads, conditions))
        return frozenset(out - assigned(self.live.pk))

    def _gathered(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values at the observations, [M], from those at all records."""
        rows, columns = self._rows, self._columns

        def take(value: Any) -> Any:
            if np.ndim(value) < 2:
                return value
            return value[rows, columns] if value.shape[1] > 1 else value[rows, 0]

        return {name: take(value) for name, value in values.items()}

    def _kept(self, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """Variables at the beginning of each record, and amounts, [B, N, S]."""
        starts = dict(self._starts)
        states = None
        if self.structure.program.compartments.size and set(self._scanned) & assigned(self.live.pk):
            starts |= self._scan(parameters, starts, None)
        for _ in range(self._passes):
            environment = self._environment(parameters, starts)
            states = self.solving.states(environment)
            if not self._scanned:
                break
            starts |= self._scan(parameters, starts, states)
        return starts, states

    def _scan(
        self, parameters: Mapping[str, Any], starts: Mapping[str, Any], states: Any
    ) -> dict[str, Any]:
        """Variables at the beginning of each record; without states, as ``$PK`` alone sets them."""
        values = {**self._base(parameters), **starts, "cmt": self._cmt.astype(float)}
        whole = self.structure.program.compartments.size
        size = whole if states is not None else 0
        values |= {} if states is None else {f"state {n}": states[..., n] for n in range(size)}

        def step(now: dict[str, Any]) -> dict[str, Any]:
            amounts = None
            if states is not None:
                amounts = jnp.stack([now.pop(f"state {n}") for n in range(size)], axis=-1)
            cmt = now.pop("cmt")
            self._run(now, self.live.pk)
            if size != whole:
                return now
            self._with_amounts(now, amounts, cmt)
            self._run(now, self.live.error)
            return now

        for name in self._scanned:
            values.pop(name, None)
        begin = {name: parameters.get(_first(name), 0.0) for name in self._scanned}
        return carried.by_scan(self._scanned, step, values, self.dataset.events.shape, begin)

    def rows(self, parameters: Mapping[str, Any], **begun: float) -> tuple[Any, Any, Any]:
        """``Y`` without residual error [M], its slopes by EPS [M, K], and ``F_FLAG`` [M].

        ``begun`` has values of variables before the code is carried out.
        """
        starts, states = self._kept(parameters)
        return self._from_states(parameters, {**starts, **begun}, states)

    def _from_states(
        self, parameters: Mapping[str, Any], starts: Mapping[str, Any], states: Any
    ) -> tuple[Any, Any, Any]:
        every = self._gathered(self._environment(parameters, starts))
        mine = None if states is None else states[self._rows, self._columns]
        cmt = self._cmt[self._rows, self._columns]
        count, n = self.structure.effects.eps, len(self._rows)

        def observed(eps: Any) -> tuple[Any, Any]:
            values = dict(every)
            for k in range(count):
                values[element("EPS", k + 1)] = values[element("ERR", k + 1)] = eps[k]
            self._with_amounts(values, mine, cmt)
            self._run(values, self.live.error)
            if "Y" not in values:
                raise PkpdError(where=self.structure.program.source, what="Y is never set")
            y = jnp.broadcast_to(jnp.asarray(values["Y"], dtype=float), (n,))
            flag = values.get("F_FLAG", float(self.structure.program.likelihood))
            return y, (y, jnp.broadcast_to(jnp.asarray(flag, dtype=float), (n,)))

        if not count:
            y, (_, flag) = observed(jnp.zeros(0))
            return y, jnp.zeros((n, 0)), flag
        slope, (y, flag) = jax.jacfwd(observed, has_aux=True)(jnp.zeros(count))
        return y, slope, flag

    def values(self, parameters: Mapping[str, Any], *names: str) -> dict[str, np.ndarray]:
        """Values of variables of the code at the observations, [M], without residual error."""
        every, n = self._gathered(self._after(parameters)), len(self._rows)
        return {
            name: np.broadcast_to(np.asarray(every[name], dtype=float), (n,))
            for name in names
            if name in every
        }

    def _after(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Values of variables after each record, numbers, [B, 1] or [B, N], EPS being 0."""
        starts, states = self._kept(parameters)
        every = self._environment(parameters, starts)
        for k in range(self.structure.effects.eps):
            every[element("EPS", k + 1)] = every[element("ERR", k + 1)] = 0.0
        # all of $ERROR: what is asked for need not act on Y
        with np.errstate(all="ignore"):
            every = self._with_amounts(every, states, self._cmt)
            return self._run(every, self.structure.program.error.statements)

    # What is asked of a predictor -----------------------------------------------------------------

    def __call__(self, parameters: Mapping[str, Any]) -> Any:
        """Predict every observation, [M]: ``Y`` without residual error."""
        return self.rows(parameters)[0]

    def quantities(self, parameters: Mapping[str, Any]) -> Any:
        """Return what the density of each observation is made of, [2 M].

        First ``M`` numbers: predictions, given earlier observations of the same L2 group, or log
        likelihoods; then ``M`` logarithms of standard deviations, 0 beside a likelihood.
        """
        y, slope, _ = self.rows(parameters)
        return self._quantities(parameters, y, slope)

    def _quantities(self, parameters: Mapping[str, Any], y: Any, slope: Any) -> Any:
        flags = self._flags
        entries = {
            place: jnp.asarray(make(parameters), dtype=float)
            for place, make in self.structure.effects.sigma.items()
        }
        normal = flags == 0
        likely = jnp.where(flags == 2, -0.5 * y, jnp.log(jnp.where(flags == 1, y, 1.0)))

        def entry(i: int, j: int) -> Any:
            value = entries.get((max(i, j), min(i, j)), jnp.zeros(1))
            return value[self._rows] if value.ndim else value

        variance: Any = 0.0
        for i, j in entries:
            twice = 1.0 if i == j else 2.0
            variance = variance + twice * slope[:, i - 1] * slope[:, j - 1] * entry(i, j)
        variance = jnp.where(normal, variance, 1.0)
        mean = y
        if self._groups is not None:
            mean, variance = given_earlier(self._groups, y, slope, entry, variance, self.dataset)
        sd = 0.5 * jnp.log(variance)
        return jnp.concatenate([jnp.where(normal, mean, likely), jnp.where(normal, sd, 0.0)])

    def problems(self, parameters: Mapping[str, Any]) -> dict[int, str]:
        """Say for each subject that has no finite prediction why not: index to sentence."""
        found = np.asarray(self.quantities(parameters))
        started = lambda begin: self.rows(parameters, Y=begin)[0]  # noqa: E731
        return reasons(self.dataset, self.live.error, found, started)

    # Worked out once ------------------------------------------------------------------------------

    def _probe(self, seed: int) -> dict[str, Any]:
        """Parameters with random effects away from 0."""
        rng, out = np.random.default_rng(seed), dict(self._start)
        for p in self.structure.effects.parameters:
            if p.iiv is not None:
                out[p.name] = p.iiv.value * 0.3 * rng.standard_normal(len(self.dataset.subjects))
        return out | {_first(name): 0.0 for name in self._scanned}

    @cached_property
    def _all_rows(self) -> Any:
        """Compiled ``(parameters, beginnings) -> Y, slopes, F_FLAG``, for all checks."""

        def of_given(parameters: Any, begun: Any) -> Any:
            states = self.solving.states(self._environment(parameters, begun))
            return self._from_states(parameters, begun, states)

        return jax.jit(of_given)

    def _outcome(
        self, starts: Mapping[str, Any] | None = None, first: dict[str, float] | None = None
    ) -> np.ndarray:
        """All numbers that act on the objective, at parameters away from the start."""
        return self._joined(self._probe(1) | (first or {}), starts)

    def _joined(self, probe: Mapping[str, Any], starts: Mapping[str, Any] | None) -> np.ndarray:
        given = {k: jnp.asarray(v) for k, v in probe.items()}
        if starts is None and self._scanned:
            # a function of its own for each number of passes: JAX keeps what it made of a method
            if self._passes not in self._scanned_rows:
                self._scanned_rows[self._passes] = jax.jit(lambda p: self.rows(p))
            found = self._scanned_rows[self._passes](given)
        else:
            begun = self._starts if starts is None else starts
            shape = self.dataset.events.shape
            wide = {
                k: jnp.broadcast_to(jnp.asarray(v, dtype=float), shape) for k, v in begun.items()
            }
            found = self._all_rows(given, wide)
        return np.concatenate([np.asarray(each).ravel() for each in found])

    def _begun(self, begin: float) -> dict[str, np.ndarray]:
        """Variables at the beginning of each record that follow from the data alone, [B, N]."""
        program, mine = self.structure.program, self.live
        names = mine.from_data
        if not names:
            return {}
        values = {**self.given, **self.data}
        blocks = data_statements(mine, program)
        return carried.from_data(names, blocks, values, self.dataset.events.valid, begin)

    def _settle(self) -> None:
        """Find which variables must be followed from record to record, and how."""
        mine = self.live
        others = [name for name in mine.kept if name not in mine.from_data]
        if not mine.kept:
            return
        first, second = self._begun(_POISONS[0]), self._begun(_POISONS[1])
        same = all(np.array_equal(first[name], second[name]) for name in first)
        self._starts = {name: self._narrow(value) for name, value in self._begun(0.0).items()}
        if same and not others:
            return
        constant = lambda value: dict.fromkeys(others, value)  # noqa: E731
        poisoned = zip((first, second), _POISONS, strict=True)
        if _equal(*(self._outcome({**begun, **constant(value)}) for begun, value in poisoned)):
            self._starts |= constant(0.0)
            return
        if not _equal(*(self._outcome({**begun, **constant(0.0)}) for begun in (first, second))):
            self._refuse_carried([n for n in first if not np.array_equal(first[n], second[n])])
        self._scanned = tuple(others)
        self._starts |= {name: np.zeros(self.dataset.events.shape) for name in others}
        des_reads = set(mine.read_in_des) & set(others)
        in_pk = set(others) & (assigned(mine.error) - assigned(mine.pk))
        self._passes = 1 if not (des_reads or in_pk) else 2
        found = self._outcome()
        for passes in range(self._passes + 1, self._passes + 4):
            before, self._passes = self._passes, passes
            again = self._outcome()
            if _equal(found, again):
                self._passes = before
                break
            found = again
        else:
            self._refuse_carried(others)
        # NONMEM begins with what the individual before left; what no record sets is 0 everywhere
        begin = {_first(name): _POISONS[0] for name in others}
        if _equal(found, self._outcome(first=begin)):
            return
        after, valid = self._after(self._probe(1) | begin), self.dataset.events.valid
        left = [name for name in others if np.any((after[name] != _POISONS[0]) & valid)]
        if not _equal(found, self._outcome(first={k: begin[k] for k in map(_first, left)})):
            self._refuse_carried(left)

    def _refuse_carried(self, names: list[str]) -> None:
        program = self.structure.program
        raise PkpdError(
            where=program.source,
            what=f"{', '.join(names)}: the value at an individual's first record, or through "
            "its records, depends on what NONMEM computed before",
            remedy="set it at the first record: IF (NEWIND.NE.2) ...",
        )

    def _find_flags(self) -> np.ndarray:
        one, two = (self._joined(self._probe(seed), None)[-len(self._rows) :] for seed in (2, 3))
        known = np.all(np.isin(one, (0, 1, 2)))
        if not np.array_equal(one, two) or not known:
            raise PkpdError(
                where=self.structure.program.source,
                what="F_FLAG depends on random effects" if known else "F_FLAG is something else",
                allowed="0, 1 or 2, decided by the data",
            )
        return one.astype(int)

    def _judged(self, parameters: Mapping[str, Any], starts: Mapping[str, Any], states: Any) -> Any:
        """Return what errors of the solver are judged at, [B, N, 2]."""
        y, slope, _ = self._from_states(parameters, starts, jnp.asarray(states))
        found = self._quantities(parameters, y, slope).reshape(2, -1).T
        out = jnp.zeros((*self.dataset.events.shape, 2))
        return out.at[self._rows, self._columns].set(found)


def _first(name: str) -> str:
    """Name, among parameters, of the value that a variable has at an individual's first record."""
    return f"first {name}"


def _equal(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two outcomes are the same, numbers that are not finite included."""
    scale = np.abs(one) + np.abs(two) + 1e-300
    both = ~np.isfinite(one) & ~np.isfinite(two)
    with np.errstate(invalid="ignore"):
        return bool(np.all(both | (np.abs(one - two) <= _SAME * scale)))


def with_start(structure: StreamStructure, values: Mapping[str, float]) -> StreamStructure:
    """Return the structure whose steps are chosen at other values."""
    return replace(structure, start={**structure.start, **values})
