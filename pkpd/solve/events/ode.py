"""Nonlinear systems at every event record of a data set, with NONMEM's meaning of the events.

What events mean is written in `pkpd.solve.events.advance`, and holds here word for word, with these
differences, which come from the nonlinearity:

* States may start at values other than 0 (a baseline). SS = 1 finds the periodic states reached
  from them; SS = 2 adds to the present states the deviation of the periodic from the initial ones.
* With a lag at a steady-state record the cycle repeats (``steady_state_lag="periodic"``); stepping
  back in time is not possible.
* A constant infusion at steady state is the equilibrium under it.

Ways to get from event to event: ``"fixed"``, Runge-Kutta of order 5 on steps fitted to each
subject's events, all subjects side by side (`pkpd.solve.events.march`); ``"fixed-stiff"``, an
implicit method of order 4 on such steps; and ``"diffrax"`` and ``"diffrax-stiff"`` (Tsit5,
Kvaerno5) on adaptive steps. All can be differentiated, the adaptive ones in reverse mode alone.
Fixed steps are far faster for a population; `pkpd.solve.events.check` measures whether they will
do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import Floats
from pkpd.data.events import MODELLED_RATE, EventTable
from pkpd.data.expand import DoseSchedule
from pkpd.errors import PkpdError
from pkpd.solve.events.advance import (
    _check_doses,
    _checked_parameters,
    _prepared,
)
from pkpd.solve.events.clock import StepLengths, most_steps
from pkpd.solve.events.nodes import CONSTANT_CYCLE_H, EventPlan, Solved, record_states
from pkpd.solve.events.steady_slots import steady_state_slots
from pkpd.solve.events.system import OdeSystem
from pkpd.solve.events.timeline import EventOptions, Slots
from pkpd.solve.grid.grid import bucket

Solver = Literal["fixed", "fixed-stiff", "diffrax", "diffrax-stiff"]

GROWTH = 0.2
"""Growth of the steps. A process of rate k that a dose excites has an error per step of
3e-4 (growth k s)^6 exp(-k s) at most, 2e-6 at k s = 6, of its size at the dose."""
IMPLICIT_GROWTH = 0.05
"""The same for implicit steps, whose order is lower: where nothing else is chosen."""


@dataclass(frozen=True)
class OdeOptions:
    """How a system is solved.

    Attributes
    ----------
    max_step_h
        Longest fixed step (h). The default resolves processes with time constants of an hour
        (absorption) to about 1e-6; `pkpd.solve.events.check.choose_solver` finds a longer one for
        slower systems.
    first_step_h
        Step after a dose, from which steps grow; default 1/16 of the longest.
    growth
        Length of a step, in parts of the time since the dose; default 0.2, of implicit ones 0.05.
    refine
        Into how many equal parts every step is cut, those that an event ends early too.
    solver
        ``"fixed"`` (explicit), ``"fixed-stiff"`` (implicit), or on adaptive steps ``"diffrax"``
        (explicit) and ``"diffrax-stiff"`` (implicit).
    tolerance
        Relative error above which a subject is solved again on adaptive steps.
    events
        How events are read.
    """

    max_step_h: float = 0.5
    first_step_h: float | None = None
    growth: float | None = None
    refine: float = 1.0
    solver: Solver = "fixed"
    tolerance: float = 1e-5
    events: EventOptions = field(default_factory=EventOptions)

    @property
    def marches(self) -> bool:
        """Whether steps are fixed."""
        return self.solver in ("fixed", "fixed-stiff")

    @property
    def lengths(self) -> StepLengths:
        """Lengths of fixed steps."""
        longest = float(self.max_step_h)
        first = longest / 16.0 if self.first_step_h is None else float(self.first_step_h)
        usual = GROWTH if self.solver == "fixed" else IMPLICIT_GROWTH
        growth = usual if self.growth is None else float(self.growth)
        return StepLengths(min(first, longest), longest, growth, float(self.refine))

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if not self.max_step_h > 0:
            raise PkpdError(
                where="max_step_h", what=f"{self.max_step_h!r}", allowed="hours, more than 0"
            )
        if self.growth is not None and not self.growth > 0:
            raise PkpdError(where="growth", what=f"{self.growth!r}", allowed="more than 0")
        if self.solver not in get_args(Solver):
            raise PkpdError(
                where="solver",
                what=f"{self.solver!r}",
                allowed=", ".join(map(repr, get_args(Solver))),
            )
        if self.events.steady_state_lag != "periodic":
            raise PkpdError(
                where="steady_state_lag",
                what="a nonlinear system cannot be stepped back in time",
                allowed="'periodic'",
            )


def solve_events(
    system: OdeSystem,
    events: EventTable,
    parameters: Mapping[str, Any],
    *,
    options: OdeOptions | None = None,
) -> Array:
    """States of a system at each record; JAX may trace and differentiate it, in both modes.

    Parameters
    ----------
    system
        The system.
    events
        Event records of ``B`` subjects, ``N`` records after padding.
    parameters
        The system's parameters, and ``ALAGn`` (h), ``Fn``, ``Dn`` (h), ``Rn`` (mg/h) by number of
        the compartment. Each a scalar, [B] per subject, or [B, N] per record.
    options
        How it is solved.

    Returns
    -------
    Array
        [B, N, S], compartments of the linear system first. A subject that cannot be solved is NaN,
        and its derivatives are 0 in reverse mode.

    Raises
    ------
    DataError, PkpdError
        As `pkpd.solve.events.advance.solve_linear`.

    Examples
    --------
    >>> from pkpd.data.events import EventTable
    >>> table = EventTable.from_columns([1, 1], [0.0, 10.0], evid=[1, 0], amt=[100.0, 0.0])
    >>> decay = OdeSystem("decay", ("central",), ("k",), lambda t, y, u, p: (-p["k"] * y[0],))
    >>> round(float(solve_events(decay, table, {"k": 0.1})[0, 1, 0]), 4)
    36.7879
    """
    return solve_padded(system, events, parameters, options or OdeOptions()).states


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What does not depend on parameters, at padded shapes."""

    schedule: DoseSchedule
    data: dict[str, np.ndarray]
    shape: tuple[int, int]
    hours: Floats  # spanned by the records of each subject
    pieces: np.ndarray  # stretches of each subject that can take a step
    kicks: np.ndarray  # events of each subject after which steps are short
    steady: np.ndarray  # steady-state records of each subject


@lru_cache(maxsize=32)
def _padded(events: EventTable, dose_compartment: int) -> _Prepared:
    """Pad subjects, records and doses to bucket sizes."""
    schedule, arrays = _prepared(events, dose_compartment)
    data = {name: np.asarray(value) for name, value in arrays.items()}
    data["ss"] = events.ss.astype(np.int32)
    n_subjects, n_records = events.shape
    widths = {
        n_records: bucket(n_records),
        "doses": bucket(schedule.record.shape[1]) if schedule.record.shape[1] else 0,
    }
    by_record = ("time", "segment", "segment_end", "starts", "resets", "dose_of_record", "ss")
    rows = bucket(n_subjects) if n_subjects > 4 else 1 << (n_subjects - 1).bit_length()
    for name, array in data.items():
        records = name in by_record
        width = array.shape[1]
        if records:
            more = widths[n_records] - width
        else:
            more = 0 if name.startswith("ss_") else widths["doses"] - width
        edge = name in ("time", "segment", "segment_end")
        padding = ((0, 0), (0, more))
        if edge:
            array = np.pad(array, padding, mode="edge")
        else:
            array = np.pad(array, padding, constant_values=-1 if name == "dose_of_record" else 0)
        data[name] = np.pad(array, ((0, rows - n_subjects), (0, 0)), mode="edge")
    doses = schedule.valid.sum(axis=1)
    infusions = (schedule.valid & (schedule.rate != 0)).sum(axis=1)
    hours = np.zeros(n_subjects)
    distinct = np.zeros(n_subjects, dtype=np.int64)
    for b in range(n_subjects):
        for s in np.unique(events.segment[b]):
            times = events.time[b, events.segment[b] == s]
            hours[b] += times[-1] - times[0]
            distinct[b] += 1 + len(np.unique(times))
    steady = schedule.ss_valid.sum(axis=1)
    starts = events.starts.sum(axis=1)
    return _Prepared(
        schedule=schedule,
        data=data,
        shape=events.shape,
        hours=hours,
        # a dose and the end of an infusion: a piece before and perhaps one of no length after
        pieces=distinct + 2 * doses + 2 * infusions + steady,
        kicks=starts + doses + infusions + steady,
        steady=steady,
    )


def solve_padded(
    system: OdeSystem,
    events: EventTable,
    parameters: Mapping[str, Any],
    options: OdeOptions,
    sized: OdeOptions | None = None,
    rounded: Callable[[int], int] = bucket,
) -> Solved:
    """Solve; scans are long enough for the steps of ``sized`` and rounded up, to share programs."""
    prepared = _padded(events, system.dose_compartment)
    schedule, data = prepared.schedule, prepared.data
    values = _checked_parameters(system.layout, events, parameters)
    _check_doses(system.layout, events, schedule, values)
    overlap, pending = steady_state_slots(schedule, values, options.events)
    width = data["record"].shape[1]
    slots = Slots(
        infusions=tuple(range(width)) if schedule.infusions.size else (),
        modelled_rate=bool(np.any(schedule.rate == MODELLED_RATE)),
        overlap=overlap,
        pending=pending,
    )
    n_subjects, n_records = events.shape
    rows, columns = data["time"].shape
    for name, value in values.items():
        wide = ((0, rows - n_subjects if value.shape[0] > 1 else 0),)
        wide += ((0, columns - n_records if value.shape[1] > 1 else 0),)
        if any(b for _, b in wide):
            values[name] = jnp.pad(value, wide, mode="edge")
    steps, cycle_steps = _needed(prepared, values, slots, (sized or options).lengths)
    fixed = options.marches
    moving = any(name.startswith(("ALAG", "D", "R")) and name[-1].isdigit() for name in values)
    arrays = dict(data)
    cells = 0
    if not fixed:
        lanes, cells = _segment_lanes(data, slots)
        arrays |= lanes
    plan = EventPlan(
        method=options.solver,
        steps=rounded(steps) if fixed else 0,
        cycle_steps=rounded(cycle_steps) if fixed and prepared.steady.any() else 0,
        cells=cells,
        moving=moving,
    )
    solved = record_states(
        arrays,
        values,
        options.lengths,
        system=system,
        options=options.events,
        slots=slots,
        plan=plan,
    )
    return Solved(
        solved.states[:n_subjects, :n_records],
        solved.unsteady[:n_subjects],
        solved.status[:n_subjects],
    )


def _needed(
    prepared: _Prepared, values: Mapping[str, Array], slots: Slots, lengths: StepLengths
) -> tuple[int, int]:
    """Return the steps of the subject with most of them, over its records and over a cycle."""
    changing = any(value.shape[1] > 1 for value in values.values())
    implied = prepared.steady * 2 * (slots.overlap + 2 * slots.pending)
    pieces = prepared.pieces + implied
    kicks = pieces if changing else prepared.kicks + implied
    schedule = prepared.schedule
    cycles = np.where(schedule.ss_constant, CONSTANT_CYCLE_H, schedule.ss_ii)
    cycle = np.max(cycles, initial=0.0, keepdims=True).ravel()
    return (
        most_steps(lengths, prepared.hours, kicks, pieces),
        most_steps(lengths, cycle, np.array([2]), np.array([4])),
    )


def _segment_lanes(data: dict[str, np.ndarray], slots: Slots) -> tuple[dict[str, np.ndarray], int]:
    """Where the events between two starts lie among the sorted events of a subject."""
    segment = data["segment"]
    of = np.arange(segment.shape[0])[:, None]
    blocks = [segment]
    if data["record"].shape[1]:
        ordered = segment[of, data["record"]]
        blocks += [ordered, ordered[:, list(slots.infusions)]]
    steady = segment[of, data["ss_record"]]
    if steady.shape[1]:
        extra = slots.overlap + slots.pending * (2 if slots.overlap else 1)
        blocks.append(np.repeat(steady, extra, axis=1))
    joined = np.sort(np.concatenate(blocks, axis=1), axis=1)
    lane_subject, lane_first, lane_count = [], [], []
    event_lane = np.zeros(joined.shape, dtype=np.int32)
    event_cell = np.zeros(joined.shape, dtype=np.int32)
    for b, row in enumerate(joined):
        for s in np.unique(row):
            own = np.flatnonzero(row == s)
            event_lane[b, own] = len(lane_subject)
            event_cell[b, own] = np.arange(own.size)
            lane_subject.append(b)
            lane_first.append(own[0])
            lane_count.append(own.size)
    cells = bucket(max(lane_count))
    more = bucket(len(lane_subject)) - len(lane_subject)
    return {
        "lane_subject": np.pad(np.array(lane_subject), (0, more)),
        "lane_first": np.pad(np.array(lane_first), (0, more)),
        "lane_count": np.pad(np.array(lane_count), (0, more)),
        "event_lane": event_lane,
        "event_cell": event_cell,
    }, cells
