"""Amounts of a stream's compartments at every record, by the fastest solver that will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.data.events import EventTable
from pkpd.errors import DataError
from pkpd.kinetics.closed_form import mammillary_step
from pkpd.kinetics.compartments import LinearSystem
from pkpd.nonmem.advan import GENERAL, fixed_rates, named_rates
from pkpd.nonmem.code import element
from pkpd.nonmem.effects import Effects
from pkpd.nonmem.evaluate import Evaluator, choose_element, traced
from pkpd.nonmem.inspect_code import assigned, assignments, reads
from pkpd.nonmem.program import Live, Program, linear_equations
from pkpd.nonmem.splitting import Split, find_split, needed_statements, refers_to
from pkpd.nonmem.switches import Switches, read_switches, refuse_again
from pkpd.nonmem.tree import Number
from pkpd.solve.events.advance import solve_linear
from pkpd.solve.events.check import choose_solver
from pkpd.solve.events.ode import OdeOptions, solve_events
from pkpd.solve.events.system import OdeSystem
from pkpd.solve.events.timeline import EventOptions

_CLOSED = (1, 2, 3, 4, 11, 12)
TOLERANCE = 1e-4
"""Relative error of a prediction that steps may have; they are chosen for a tenth of it."""


def dosing_parameters(program: Program, events: EventTable) -> tuple[str, ...]:
    """Parameters of doses that ``$PK`` sets, for compartments that take doses in these data."""
    c, pk = program.compartments, program.pk
    if pk is None:
        return ()
    targets = {n if n > 0 else c.dose for n in set(events.cmt[events.is_dose].tolist())}
    names = [f"{letter}{n}" for n in sorted(targets) for letter in ("F", "ALAG", "R", "D")]
    mine = assigned(pk.statements)
    modelled = {"R": -1.0, "D": -2.0}
    out = []
    for name in names:
        if name not in mine:
            continue
        letter, number = name.rstrip("0123456789"), int(name.lstrip("FALGRD"))
        if letter in modelled:
            cmt = np.where(events.cmt > 0, events.cmt, c.dose)
            if not np.any(events.is_dose & (cmt == number) & (events.rate == modelled[letter])):
                continue
        out.append(name)
    return tuple(out)


def _shape(value: Any) -> Any:
    """[1], [B] or [B, N] for the solver, from numbers, [B, 1] or [B, N]."""
    value = value if traced(value) else np.asarray(value, dtype=float)
    if value.ndim == 2 and value.shape[1] == 1:
        return value[:, 0]
    return value


@dataclass(frozen=True, eq=False)
class Solving:
    """How amounts are found; made for one program and one data set.

    Attributes
    ----------
    program, live
        The program, and what of it acts.
    dataset
        Doses and records.
    effects
        Parameters.
    options
        Steps of a nonlinear system.
    note
        A sentence on the steps.
    """

    program: Program
    live: Live
    dataset: Dataset
    effects: Effects
    options: OdeOptions = field(default_factory=lambda: OdeOptions(tolerance=TOLERANCE))
    note: str = ""
    _made: dict[str, Any] = field(default_factory=dict)

    @property
    def events(self) -> EventTable:
        """Events as the solver takes them."""
        return self.dataset.events

    @property
    def linear(self) -> bool:
        """Whether the system is linear with coefficients constant between records."""
        c = self.program.compartments
        if c.advan in GENERAL:
            return (
                "linear" not in self._made and linear_equations(self.live.des) and not self._breaks
            )
        return c.linear

    @property
    def _breaks(self) -> list[str]:
        """Names of model event times."""
        return sorted(name for name in assigned(self.live.pk) if name.startswith("MTIME("))

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Make something once."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @property
    def dosing(self) -> tuple[str, ...]:
        """Parameters of doses."""
        return self.once("dosing", lambda: dosing_parameters(self.program, self.events))

    @property
    def switches(self) -> Switches:
        """Compartments that records switch off and on."""

        def make() -> Switches:
            c = self.program.compartments
            code = self.dataset.covariates.get("CMT", np.zeros(self.events.shape))
            found = read_switches(self.events, code, self._collecting(), c.off, default=c.dose)
            lagged = any(f"ALAG{n}" in self.dosing for n in found.again)
            if lagged or not self.linear:
                refuse_again(found)
            return found

        return self.once("switches", make)

    def _collecting(self) -> frozenset[int]:
        """Compartments that nothing reads in the equations, not even their own."""
        c = self.program.compartments
        if c.advan not in GENERAL:
            return frozenset()
        used: set[str] = set()
        for one, conditions in assignments(self.live.des):
            used |= set().union(reads(one.value), *map(reads, conditions))
        return frozenset(n for n in range(1, c.size + 1) if f"A({n})" not in used)

    def states(self, values: Mapping[str, Any]) -> Any:
        """Amounts at every record, [B, N, S]; None without compartments.

        Parameters
        ----------
        values
            Values after ``$PK``: numbers, [B, 1] or [B, N].
        """
        if not self.program.compartments.size:
            return None
        found = self._linear(values) if self.linear else self._general(values)
        return self.switches.amounts(jnp.asarray(found))

    def _doses(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _shape(values[name]) for name in self.dosing}

    def _initial(self, values: Mapping[str, Any]) -> list[Any] | None:
        c = self.program.compartments
        out, any_set = [], False
        for n in range(1, c.size + 1):
            value: Any = values.get(f"A_0({n})")
            any_set = any_set or value is not None
            value = 0.0 if value is None else value
            out.append(value)
        return out if any_set else None

    # Linear ---------------------------------------------------------------------------------------

    def _rates(self, values: Mapping[str, Any]) -> dict[tuple[int, int | None], Any]:
        """Rate constants by (from, to), numbers, [B, 1] or [B, N]."""
        c = self.program.compartments
        if c.advan in (5, 7):
            names = named_rates([name for name in values if name.startswith("K")], c.size)
            names = {n: p for n, p in names.items() if n in assigned(self.live.pk)}
            rates: dict[tuple[int, int | None], Any] = {}
            for name, place in names.items():
                rates[place] = rates.get(place, 0.0) + values[name]
        elif c.advan in _CLOSED:
            rates = fixed_rates(c, lambda name: self._needed(values, name))
        else:
            rates = self._matrix(values)
        return self.switches.rates(rates, c.size)

    def _needed(self, values: Mapping[str, Any], name: str) -> Any:
        if name not in values:
            c = self.program.compartments
            assert c.record is not None
            c.record.refuse(f"ADVAN{c.advan} TRANS{c.trans} needs {name}, which $PK does not set")
        return values[name]

    def _matrix(self, values: Mapping[str, Any]) -> dict[tuple[int, int | None], Any]:
        """Rate constants of equations that are linear: one compartment filled at a time."""
        size = self.program.compartments.size
        columns: list[list[Any]] = []
        for j in range(size):
            given = dict(values)
            for n in range(1, size + 1):
                given[element("A", n)] = 1.0 if n - 1 == j else 0.0
            lookup = lambda name, number, given=given: choose_element(name, number, given)  # noqa: E731
            run = Evaluator(given, lookup)
            run.run(self.live.des)
            columns.append([run.values.get(f"DADT({n})", 0.0) for n in range(1, size + 1)])
        rates: dict[tuple[int, int | None], Any] = {}
        for j in range(size):
            left: Any = 0.0
            for i in range(size):
                entry = columns[j][i]
                if not traced(entry) and np.all(np.asarray(entry) == 0):
                    continue
                left = left - entry
                if i != j:
                    rates[j, i] = entry
            if traced(left) or np.any(np.asarray(left) != 0):
                rates[j, None] = left
        return rates

    def _linear(self, values: Mapping[str, Any]) -> Any:
        c = self.program.compartments
        rates = self._rates(values)
        rates = rates or {(0, None): 0.0}
        places = tuple(rates)
        system = self.once(f"system {places}", lambda: self._system(places))
        given = {_rate_name(place): _shape(value) for place, value in rates.items()}
        initial = self._initial(values)
        if initial is not None:
            initial += [0.0] * self.switches.extra
            shape = self.events.shape
            initial = jnp.stack(
                [jnp.broadcast_to(jnp.asarray(v, dtype=float), shape) for v in initial], -1
            )
        options = EventOptions(steady_state_lag="backward" if c.advan in _CLOSED else "periodic")
        events = self.once("dosed", lambda: self.switches.dosed(self.events, c.size, c.dose))
        given |= self.switches.doses(self._doses(values), c.size)
        return solve_linear(system, events, given, initial=initial, options=options)

    def _system(self, places: tuple[tuple[int, int | None], ...]) -> LinearSystem:
        c = self.program.compartments
        names = {place: _rate_name(place) for place in places}
        depot = c.advan in (2, 4, 12)
        at = 1 if depot else 0

        def flows(p: Mapping[str, Any]) -> dict[tuple[int, int | None], Any]:
            return {place: p[name] for place, name in names.items()}

        def step(p: Mapping[str, Any], rate: Any, dt: Any) -> tuple[Any, Any]:
            around = [(p[names[at, i]], p[names[i, at]]) for i in range(at + 1, c.size)]
            absorbed = p[names[0, 1]] if depot else None
            return mammillary_step(p[names[at, None]], around, absorbed, rate, dt)

        return LinearSystem(
            self.program.source,
            (*c.names, *(f"back {k + 1}" for k in range(self.switches.extra))),
            tuple(names.values()),
            flows,
            c.dose,
            c.observed,
            step
            if c.advan in _CLOSED and not (self.switches.running or self.switches.again)
            else None,
        )

    # General --------------------------------------------------------------------------------------

    @property
    def _system_of_equations(self) -> OdeSystem:
        return self.once("equations", self._make_equations)

    def prepare(self, *values: Mapping[str, Any]) -> None:
        """Look at the equations with numbers, once: which compartments have a closed form.

        Parameters
        ----------
        values
            Values after ``$PK`` as numbers, at several parameters: a flow that is 0 at some of them
            is one. What is missing counts as 0.
        """
        c = self.program.compartments
        self._made["split"] = None
        if c.advan not in GENERAL or self.linear:
            return
        keep = {
            int(one.target[4:-1])
            for one, _ in assignments(self.live.pk)
            if one.target.startswith("A_0(") and one.value != Number(0.0)
        }
        keep |= set(self.switches.running) | set(self.switches.since)
        numbers = [
            {name: np.asarray(value, dtype=float) for name, value in each.items()}
            for each in values
        ]
        self._made["split"] = find_split(self.live.des, c.size, numbers, keep)

    @property
    def _split(self) -> Split | None:
        return self._made.get("split")

    @property
    def _order(self) -> tuple[int, ...]:
        """Compartments (from 1) in the order of the solver."""
        split = self._split
        return split.order if split else tuple(range(1, self.program.compartments.size + 1))

    def _make_equations(self) -> OdeSystem:
        program, mine = self.program, self.live
        split = self._split
        exact = split.exact if split else 0
        integrated = self._order[exact:]
        equations = mine.des
        if split is not None:
            equations = needed_statements(mine.des, integrated)
        c, breaks = program.compartments, self._breaks
        names = [*mine.read_in_des]
        if c.advan == 10:
            names = ["VM", "KM"]
        # an element whose number is computed may be any
        if "THETA(*)" in names:
            names.remove("THETA(*)")
            names += [name for name in self.effects.made if name.startswith("THETA(")]
        past = [n for n in names if n.startswith("MPAST(")]
        names = [n for n in dict.fromkeys(names) if n not in past and n != "T"]
        running = {n: f"on {n}" for n in self.switches.running}
        starts = [f"A_0({n})" for n in range(1, c.size + 1) if f"A_0({n})" in assigned(mine.pk)]
        given = (*names, *running.values(), *(n for n in starts if n not in names), *breaks)
        given = tuple(dict.fromkeys(given))
        extra = len(breaks)

        def rhs(t: Any, y: tuple[Any, ...], u: Any, p: Mapping[str, Any]) -> tuple[Any, ...]:
            values: dict[str, Any] = {name: p[name] for name in names}
            values["T"] = t
            for n, amount in zip(integrated, y, strict=False):
                values[element("A", n)] = amount * (p[running[n]] if n in running else 1.0)
            if split is not None:
                values[element("A", split.observed)] = u
            for name in past:
                # the amount that came at that time: it changes between steps, not within one
                values[name] = y[len(integrated) + breaks.index("MTIME" + name[5:])]
            if c.advan == 10:
                return (-values["VM"] * y[0] / (values["KM"] + y[0]),)
            run = Evaluator(values, lambda name, number: choose_element(name, number, values))
            run.run(equations)
            slopes = [run.values.get(f"DADT({n})", 0.0) for n in integrated]
            for n, switch in running.items():
                at = integrated.index(n)
                slopes[at] = slopes[at] * p[switch]
            return (
                *(jnp.asarray(s, dtype=float) for s in slopes),
                *(jnp.zeros(()) for _ in range(extra)),
            )

        def initial(p: Mapping[str, Any]) -> tuple[Any, ...]:
            found = [p[f"A_0({n})"] if f"A_0({n})" in starts else jnp.zeros(()) for n in integrated]
            return (*found, *(jnp.zeros(()) for _ in range(extra)))

        return OdeSystem(
            program.source,
            (*(c.names[n - 1] for n in integrated), *(f"time {k + 1}" for k in range(extra))),
            given,
            rhs,
            initial if starts else None,
            pk=None if split is None else self._exact(split, given),
            dose_compartment=self._order.index(c.dose) + 1,
        )

    def _exact(self, split: Split, given: tuple[str, ...]) -> LinearSystem:
        names = refers_to(split.statements)
        return split.system(self.program.source, [name for name in given if name in names])

    @property
    def _table(self) -> tuple[EventTable, np.ndarray]:
        return self.once("table", self._make_table)

    def _make_table(self) -> tuple[EventTable, np.ndarray]:
        """Events with a dose that arrives at each model event time, and where records went."""
        events, count = self.events, len(self._breaks)
        if self._split is not None:
            places = np.array([0, *(self._order.index(n + 1) + 1 for n in range(len(self._order)))])
            events = replace(events, cmt=places[events.cmt])
        if not count:
            return events, np.arange(events.shape[1])
        if np.any(events.is_reset):
            raise DataError(
                where=events.source, what="MTIME together with EVID 3 or 4 is not supported"
            )
        # after the first record: a dose of 1 into a compartment of its own
        columns = np.concatenate([[0], np.zeros(count, int), np.arange(1, events.shape[1])])
        new = np.zeros(len(columns), bool)
        new[1 : 1 + count] = True
        size = self.program.compartments.size
        wide = {
            name: np.where(new, 0, getattr(events, name)[:, columns])
            for name in ("evid", "cmt", "amt", "rate", "ii", "addl", "ss")
        }
        wide["evid"] = np.where(new, 1, wide["evid"])
        wide["amt"] = np.where(new, 1.0, wide["amt"])
        wide["cmt"][:, 1 : 1 + count] = size + 1 + np.arange(count)
        table = replace(
            events,
            time=events.time[:, columns],
            row=np.where(new, -2, events.row[:, columns]),
            **wide,
        )
        return table, np.flatnonzero(~new)

    def _general_parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        system = self._system_of_equations
        table, kept = self._table
        count = len(self._breaks)
        columns = np.concatenate([[0], np.zeros(count, int), np.arange(1, len(kept))])

        def wide(value: Any) -> Any:
            value = _shape(value)
            return value[:, columns] if value.ndim == 2 and count else value

        given = {}
        for name in system.parameters:
            if name.startswith("on "):
                given[name] = wide(self.switches.running[int(name[3:])])
            else:
                given[name] = wide(self._needed(values, name))
        out = dict(given)
        for name, value in self._doses(values).items():
            letters = name.rstrip("0123456789")
            out[f"{letters}{self._order.index(int(name[len(letters) :])) + 1}"] = wide(value)
        begin = table.time[:, 0]
        for k, name in enumerate(self._breaks):
            first = values[name][:, 0] if np.ndim(values[name]) == 2 else values[name]
            out[f"ALAG{self.program.compartments.size + 1 + k}"] = jnp.maximum(first - begin, 0.0)
        return out

    def _general(self, values: Mapping[str, Any]) -> Any:
        table, kept = self._table
        found = solve_events(
            self._system_of_equations, table, self._general_parameters(values), options=self.options
        )
        return found[:, kept][..., self._places]

    @property
    def _places(self) -> np.ndarray:
        """Place of each compartment among the states of the solver."""
        return np.array([self._order.index(n + 1) for n in range(len(self._order))])

    def chosen(self, judged: Callable[[Any], Any], values: Mapping[str, Any]) -> Solving:
        """Find the longest steps that are accurate at given values.

        Parameters
        ----------
        judged
            From amounts [B, N, S] to what errors are judged at, [B, N, L].
        values
            Values after ``$PK``, as numbers.
        """
        if not self.program.compartments.size or self.linear:
            return self
        table, kept = self._table

        def observed(states: Any) -> Any:
            mine = jnp.asarray(states)[:, kept][..., self._places]
            return judged(self.switches.amounts(mine))

        options, note = choose_solver(
            self._system_of_equations,
            table,
            self._general_parameters(values),
            options=self.options,
            observed=jax.jit(observed),
        )
        return replace(self, options=options, note=note)


def _rate_name(place: tuple[int, int | None]) -> str:
    source, target = place
    return f"k{source + 1}_{0 if target is None else target + 1}"
