"""Structural models written by the user as differential equations.

The right side is given by names of states; doses, infusions, lags, resets and steady states are
those of the data (`pkpd.solve.events.ode`). A linear structure (`pkpd.predict.pk`) may drive it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from pkpd.data.dataset import Dataset
from pkpd.data.events import MODELLED_DURATION, MODELLED_RATE
from pkpd.errors import DataError, PkpdError, SolverWarning, sentence
from pkpd.predict.ode_functions import InitialStates, Named, RightSide, count_arguments
from pkpd.predict.pk import LinearStructure
from pkpd.predict.structure import (
    IndividualParameters,
    OfPrograms,
    check_dosing,
    check_lines,
    check_parameters,
    value_at,
)
from pkpd.solve.events.advance import left_out_when_compiled, solve_linear
from pkpd.solve.events.check import choose_solver, solve_events_checked
from pkpd.solve.events.guard import finite_derivative
from pkpd.solve.events.ode import OdeOptions, Solver, solve_events
from pkpd.solve.events.system import OdeSystem
from pkpd.solve.events.timeline import EventOptions

_CODES = {"R": MODELLED_RATE, "D": MODELLED_DURATION}


@dataclass(frozen=True)
class OdeStructure:
    """Differential equations as a structural model; made by `ode_model`.

    Attributes
    ----------
    system
        What the engine solves.
    own
        Names of the user's states.
    outputs
        Lines and the functions ``(y, p, c)`` that predict them.
    pk
        Linear structure that drives the states, or None.
    dosing
        Dosing parameters: ``ALAG1``, ``F2``, ...
    options
        How it is solved.
    choose
        Whether ``bind`` looks for a step at the typical parameters.
    typical
        Typical individual parameters, or None.
    """

    system: OdeSystem
    own: tuple[str, ...]
    outputs: tuple[tuple[str, Callable[..., Any]], ...]
    pk: LinearStructure | None = None
    dosing: tuple[str, ...] = ()
    options: OdeOptions = field(default_factory=OdeOptions)
    choose: bool = False
    typical: Mapping[str, float] | None = field(default=None, hash=False)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of the linear structure, of the equations, and of dosing."""
        return (*self.system.parameters, *self.dosing)

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the lines it predicts."""
        return tuple(name for name, _ in self.outputs)

    def judged_at(self, typical: Mapping[str, float]) -> OdeStructure:
        """Give the structure whose steps are chosen at these values, unless others were given."""
        if not self.choose or self.typical is not None:
            return self
        return replace(self, typical=dict(typical))

    def bind(self, dataset: Dataset) -> OdePredictor:
        """Prepare predictions of a data set's observations, and choose the step.

        Raises
        ------
        DataError
            If the data set has a line, a compartment or a modelled rate that the model lacks.
        """
        check_lines(dataset, self.lines, self.system.name)
        events = dataset.events
        beyond = events.is_dose & (events.cmt > self.system.size)
        if np.any(beyond):
            b, n = np.argwhere(beyond)[0]
            names = enumerate(self.system.compartments, start=1)
            raise DataError(
                where=events.place(b, n, "cmt"),
                what=f"compartment {events.cmt[b, n]} does not exist in {self.system.name}",
                allowed=", ".join(f"{i} {name}" for i, name in names),
                remedy="correct CMT, or the order of the states",
            )
        cmt = np.where(events.cmt > 0, events.cmt, self.system.dose_compartment)
        for letter, code in _CODES.items():
            for b, n in np.argwhere(events.is_dose & (events.rate == code)):
                need = f"{letter}{cmt[b, n]}"
                if need not in self.dosing:
                    raise DataError(
                        where=events.place(b, n, "rate"),
                        what=f"RATE {code:g} asks for a parameter {need} that the model lacks",
                        remedy=f'build the model with dosing=("{need}",)',
                    )
        options, note = self.options, ""
        if self.choose and self.typical is not None and self.own:
            check_parameters(self.typical, self.parameters, self.system.name)
            options, note = choose_solver(
                self.system,
                events,
                self.typical,
                options=self.options,
                observed=OdePredictor(self, dataset).at_records(self.typical),
            )
        return OdePredictor(replace(self, options=options), dataset, note)


@dataclass(frozen=True, eq=False)
class OdePredictor(OfPrograms):
    """`OdeStructure` bound to a data set.

    Attributes
    ----------
    structure
        The structure, its options as chosen.
    dataset
        The data set.
    note
        A sentence on the step that was chosen; empty if none was.
    """

    structure: OdeStructure
    dataset: Dataset
    note: str = ""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Individual parameters read."""
        return self.structure.parameters

    @property
    def forward(self) -> bool:
        """Whether it can be differentiated in forward mode: all but on adaptive steps."""
        return not self.structure.own or self.structure.options.marches

    def __call__(self, parameters: IndividualParameters) -> Any:
        """Predict every observation; see `pkpd.predict.structure.Predictor`.

        Under tracing fixed steps are taken as they are. With numbers their error is estimated, and
        subjects over the tolerance are solved again on adaptive steps, with a `SolverWarning`.
        """
        shape = self.structure
        check_parameters(parameters, shape.parameters, shape.system.name)
        if any(isinstance(value, Tracer) for value in parameters.values()):
            return self._observed(self._states(parameters), parameters)
        states, detail = self._checked(parameters)
        if detail:
            warnings.warn(_counted(detail, self.dataset.subjects), SolverWarning, stacklevel=2)
        return self._observed(states, parameters)

    def problems(self, parameters: IndividualParameters) -> dict[int, str]:
        """Say which subjects needed adaptive steps or could not be solved, and why."""
        shape = self.structure
        check_parameters(parameters, shape.parameters, shape.system.name)
        states, detail = self._checked(parameters)
        compartment, options = shape.system.dose_compartment, shape.options.events
        out = left_out_when_compiled(self.dataset.events, compartment, parameters, options)
        out |= detail
        for b, words in self._bad_starts(parameters).items():
            if b in detail:
                out[b] = words
        predicted = np.asarray(self._observed(states, parameters))
        seen = self.dataset.observations
        for m in np.flatnonzero(~np.isfinite(predicted)).tolist():
            b = int(seen.subject[m])
            if b not in out:
                out[b] = sentence(
                    where=f"subject {self.dataset.subjects[b]}",
                    what=f"the {self.dataset.lines[seen.line[m]]} predicted at {seen.time[m]:g} h "
                    "is not finite, although the states are",
                    remedy="look at the output function, and at the parameters of this subject",
                )
        return out

    def _states(self, parameters: IndividualParameters) -> Any:
        shape, events = self.structure, self.dataset.events
        if not shape.own and shape.pk is not None:
            linear, options = shape.pk.system, shape.options.events
            read = {n: parameters[n] for n in (*linear.parameters, *shape.dosing)}
            return solve_linear(linear, events, read, options=options)
        return solve_events(shape.system, events, parameters, options=shape.options)

    def _checked(self, parameters: IndividualParameters) -> tuple[Any, Mapping[int, str]]:
        shape, events = self.structure, self.dataset.events
        if not shape.own:
            return self._states(parameters), {}
        solution = solve_events_checked(
            shape.system,
            events,
            parameters,
            options=shape.options,
            observed=self.at_records(parameters),
        )
        return solution.states, solution.detail

    def at_records(self, parameters: IndividualParameters) -> Callable[[Any], Any]:
        """Return the function from states [B, N, S] to all lines at all records, [B, N, lines]."""
        shape = self.structure
        rows, columns = np.indices(self.dataset.events.shape).reshape(2, -1)
        p = {name: value_at(parameters[name], rows, columns) for name in shape.system.parameters}

        def lines(states: Any) -> Any:
            flat = jnp.asarray(states).reshape(rows.size, -1)
            values = jax.vmap(
                lambda y, q: jnp.stack([_output(shape, f, y, q) for _, f in shape.outputs])
            )(flat, p)
            return values.reshape(*self.dataset.events.shape, -1)

        return lines

    def _observed(self, states: Any, parameters: IndividualParameters) -> Any:
        """Lines from states, at the observations."""
        shape, seen = self.structure, self.dataset.observations
        places = check_lines(self.dataset, shape.lines, shape.system.name)[seen.line]
        out = jnp.zeros(len(seen))
        for place, (_, function) in enumerate(shape.outputs):
            mine = np.flatnonzero(places == place)
            if not mine.size:
                continue
            subject, record = seen.subject[mine], seen.record[mine]
            p = {
                name: finite_derivative(value_at(parameters[name], subject, record))
                for name in shape.system.parameters
            }
            values = jax.vmap(lambda y, q, f=function: _output(shape, f, y, q))(
                jnp.asarray(states)[subject, record], p
            )
            out = out.at[mine].set(values)
        return out

    def _bad_starts(self, parameters: IndividualParameters) -> dict[int, str]:
        """Subjects whose initial states, or derivatives there, are not finite."""
        shape, events = self.structure, self.dataset.events
        system, own = shape.system, shape.system.states
        rows = np.arange(events.shape[0])
        first = np.zeros_like(rows)
        p = {name: value_at(parameters[name], rows, first) for name in system.parameters}
        y: Any = tuple(jnp.zeros(rows.size) for _ in own)
        if system.initial is not None:
            y = tuple(jax.vmap(system.initial)(p))
        slopes = jax.vmap(system.rhs)(jnp.asarray(events.time[:, 0]), y, jnp.zeros(rows.size), p)
        out: dict[int, str] = {}
        for what, values in (("derivative", slopes), ("initial value", y)):
            for name, value in zip(own, values, strict=True):
                for b in np.flatnonzero(~np.isfinite(np.asarray(value))).tolist():
                    out[b] = sentence(
                        where=f"subject {self.dataset.subjects[b]}, state {name!r}",
                        what=f"the {what} at the start is {float(value[b]):g}",
                        remedy="look for a division by 0 or a power or logarithm of 0 in rhs and "
                        "initial, and at the parameters of this subject",
                    )
        return out


def _counted(detail: Mapping[int, str], labels: np.ndarray) -> str:
    if len(detail) == 1:
        return next(iter(detail.values()))
    named = ", ".join(str(labels[b]) for b in [*detail][:5])
    more = ", ..." if len(detail) > 5 else ""
    return f"{next(iter(detail.values()))} ({len(detail)} subjects in all: {named}{more})"


def _output(
    shape: OdeStructure, function: Callable[..., Any], state: Array, p: Mapping[str, Any]
) -> Array:
    """Evaluate one line at one observation."""
    before = shape.system.size - len(shape.own)
    concentrations: dict[str, Any] = {}
    if shape.pk is not None:
        for line, (place, volume) in zip(shape.pk.lines, shape.pk.observed, strict=True):
            concentrations[line] = state[place] / (1.0 if volume is None else p[volume])
    y = {name: state[before + i] for i, name in enumerate(shape.own)}
    given: list[Any] = [Named(y, "state"), Named(p, "parameter")]
    if count_arguments(function, 2, "output") == 3:
        given.append(Named(concentrations, "concentration"))
    return jnp.asarray(function(*given), dtype=float)


@dataclass(frozen=True)
class _Concentration:
    """Output of a line of the linear structure."""

    line: str

    def __call__(self, y: Any, p: Any, c: Any) -> Any:
        return c[self.line]


def ode_model(
    rhs: Callable[..., Mapping[str, Any]],
    *,
    states: Sequence[str],
    parameters: Sequence[str],
    outputs: Mapping[str, Callable[..., Any]],
    doses_into: str | None = None,
    initial: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    pk: LinearStructure | None = None,
    exact_pk: bool | None = None,
    dosing: Sequence[str] = (),
    typical: Mapping[str, float] | None = None,
    solver: Solver | Literal["auto"] = "auto",
    max_step_h: float | None = None,
    tolerance: float = 1e-5,
    events: EventOptions | None = None,
    name: str = "model",
) -> OdeStructure:
    """Structural model from differential equations.

    Parameters
    ----------
    rhs
        ``rhs(t, y, p)`` or ``rhs(t, y, p, c)``: ``t`` in hours on the clock of the data, ``y``
        states, ``p`` parameters, ``c`` concentrations of ``pk`` (``c["concentration"]``), by name,
        all single numbers. Returns a dict with the derivative of each state per hour, without
        infusions, which are added. Written with `jax.numpy`; ``jnp.where`` instead of ``if``.
    states
        Names in the order of CMT, from 1; after the compartments of ``pk`` if there is one.
    parameters
        Names of the parameters that ``rhs``, ``initial`` and ``outputs`` read besides those of
        ``pk``.
    outputs
        Line to function ``(y, p)`` or ``(y, p, c)``. Lines of ``pk`` are there of themselves.
    doses_into
        State or compartment that takes doses whose CMT is 0 or missing; default the first (of
        ``pk``: its own default).
    initial
        ``initial(p)`` gives a dict of states at a subject's first record and after a reset; those
        left out are 0.
    pk
        Linear structure, e.g. ``compartments(1, absorption="first_order")``.
    exact_pk
        Solve ``pk`` exactly (True) or integrate it with the states (False); default exact where
        there is a closed form, as a matrix exponential per stretch costs more than steps do.
    dosing
        Parameters of doses: ``("ALAG1", "F1")``; those of ``pk`` are taken over.
    typical
        Typical individual parameters, at which the longest sufficient step is found in ``bind``.
        Without them and ``max_step_h``: a quarter of an hour.
    solver
        ``"auto"``: fixed steps, implicit ones if need be, where accurate at ``typical``, else
        ``"diffrax-stiff"``. See `pkpd.solve.events.ode`.
    max_step_h
        Longest fixed step (h).
    tolerance
        Relative error of a prediction above which a subject is solved again on adaptive steps.
    events
        How events are read; default those of ``pk``.
    name
        For messages.

    Raises
    ------
    PkpdError
        If the functions do not fit the names; the message says which name.

    Examples
    --------
    >>> model = ode_model(
    ...     lambda t, y, p: {"central": -p["Vmax"] * y["central"] / (p["Km"] + y["central"])},
    ...     states=["central"], parameters=["Vmax", "Km"],
    ...     outputs={"concentration": lambda y, p: y["central"]})
    >>> model.lines
    ('concentration',)
    """
    own = tuple(states)
    linear = pk.system if pk else None
    exact = bool(linear) and (linear.closed_form is not None if exact_pk is None else exact_pk)
    if not own:
        exact = bool(linear)
    before = linear.compartments if linear else ()
    names = (*before, *own)
    every = (*(linear.parameters if linear else ()), *parameters)
    for what, given in (("state", names), ("parameter", every)):
        double = [n for i, n in enumerate(given) if n in given[:i]]
        if double:
            raise PkpdError(
                where=f"{name}, {what} {double[0]!r}",
                what="is there twice" + (" (pk has it already)" if linear else ""),
                remedy="rename or remove one",
            )
    if pk:
        every = tuple(dict.fromkeys((*every, *(volume for _, volume in pk.observed if volume))))
    if doses_into is not None and doses_into not in names:
        raise PkpdError(
            where=f"{name}, doses_into",
            what=f"{doses_into!r} is no compartment",
            allowed=", ".join(names),
        )
    default = linear.dose_compartment if linear else 1
    system = OdeSystem(
        name=name,
        states=own if exact or not linear else names,
        parameters=every,
        rhs=RightSide(
            rhs,
            own,
            pk.line if pk else None,
            count_arguments(rhs, 3, f"{name}, rhs"),
            None if exact else pk,
        ),
        initial=None
        if initial is None
        else InitialStates(initial, own, 0 if exact else len(before)),
        pk=linear if exact else None,
        pk_volume=pk.volume if exact and pk else None,
        dose_compartment=default if doses_into is None else names.index(doses_into) + 1,
    )
    theirs = {
        line: _Concentration(line) for line in (pk.lines if pk else ()) if line not in outputs
    }
    lines: dict[str, Callable[..., Any]] = {**theirs, **outputs}
    if not lines:
        raise PkpdError(where=name, what="predicts nothing", remedy="give outputs")
    chosen: Solver = "fixed" if solver == "auto" else solver
    reading = events or (pk.options if pk else EventOptions())
    options = OdeOptions(tolerance=tolerance, events=reading, solver=chosen)
    if max_step_h is not None:
        options = replace(options, max_step_h=max_step_h)
    structure = OdeStructure(
        system,
        own,
        tuple(lines.items()),
        pk,
        check_dosing((*(pk.dosing if pk else ()), *dosing), system),
        options,
        choose=solver == "auto" and max_step_h is None,
        typical=None if typical is None else dict(typical),
    )
    _check_functions(structure)
    return structure


def _check_functions(structure: OdeStructure) -> None:
    """Go through the user's functions once without numbers, to find wrong names."""
    system = structure.system
    number = jax.ShapeDtypeStruct((), float)
    p = dict.fromkeys(system.parameters, number)
    y = (number,) * len(system.states)

    def refuse(where: str, what: str) -> NoReturn:
        raise PkpdError(where=f"{system.name}, {where}", what=what)

    def traced(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return jax.eval_shape(function, *arguments)
        except jax.errors.ConcretizationTypeError:
            refuse(where, "decides by a number's value; use jnp.where instead of if, and jax.numpy")
        except jax.errors.TracerArrayConversionError:
            refuse(where, "calls NumPy; call jax.numpy instead (import jax.numpy as jnp)")

    results = [("rhs", system.states, traced("rhs", system.rhs, number, y, number, p))]
    if system.initial is not None:
        results.append(("initial", system.states, traced("initial", system.initial, p)))
    state = jax.ShapeDtypeStruct((system.size,), float)
    for line, function in structure.outputs:
        where = f"output {line!r}"
        count_arguments(function, 2, f"{system.name}, {where}")
        found = traced(where, lambda s, q, f=function: _output(structure, f, s, q), state, p)
        results.append((where, (line,), (found,)))
    for where, names, shapes in results:
        for name, shape in zip(names, shapes, strict=True):
            if shape.shape != ():
                refuse(where, f"{name!r} has shape {shape.shape}, a single number is wanted")
