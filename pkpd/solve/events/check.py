"""Whether fixed steps are accurate enough, and what is done about subjects for which they are not.

Errors are estimated by halving all steps. They are judged at what is predicted: a depot that is
empty but for rounding does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.data.events import EventTable
from pkpd.errors import sentence
from pkpd.solve.cache import keep_compilations
from pkpd.solve.events.ode import GROWTH, IMPLICIT_GROWTH, OdeOptions, solve_padded
from pkpd.solve.events.system import OdeSystem
from pkpd.solve.population.status import LaneStatus

Observed = Callable[[Any], Any]
"""States [B, N, S] to what is judged, [B, N, lines]."""

MOST_STEPS = (4096, 32768)
"""Steps of a subject up to which fixed steps are tried, first explicit ones, then implicit."""
GROWTHS = {"fixed": (GROWTH,), "fixed-stiff": (GROWTH, IMPLICIT_GROWTH)}
"""Growths of steps after a dose that are tried: a fast process that has died out needs none."""
LADDER_H = tuple(2.0**k for k in range(5, -9, -1))
"""Longest steps that `choose_solver` tries, in hours: 32 h to about 14 s."""


@dataclass(frozen=True, eq=False)
class OdeSolution:
    """States at the records, and what became of each subject.

    Attributes
    ----------
    states : float[B, N, S]
        Compartments of the linear system, then the states.
    error : float[B]
        Estimated relative error of the fixed steps, by halving them; NaN if not estimated.
    code : int8[B]
        `pkpd.solve.population.status.LaneStatus`.
    detail : dict
        A sentence for every subject whose code is not 0.
    """

    states: Floats
    error: Floats
    code: NDArray[np.int8]
    detail: Mapping[int, str]


def solve_events_checked(
    system: OdeSystem,
    events: EventTable,
    parameters: Mapping[str, Any],
    *,
    options: OdeOptions | None = None,
    observed: Observed | None = None,
) -> OdeSolution:
    """States at each record with an error estimate, failing subjects solved again; numbers only.

    Fixed steps are halved to estimate the error. Subjects over the tolerance or not finite are
    solved again by an implicit method on adaptive steps; the others keep the states they have
    under tracing. ``observed`` gives what is judged from the states (default: the states).
    """
    options = options or OdeOptions()
    n_subjects = events.shape[0]
    half = replace(options, refine=2.0 * options.refine)
    solved = solve_padded(system, events, parameters, options, sized=half)
    states = np.array(solved.states)
    unsteady = np.array(solved.unsteady)
    code = np.zeros(n_subjects, dtype=np.int8)
    error = np.full(n_subjects, np.nan)
    detail: dict[int, str] = {}
    bad = ~_finite(states, events)
    if options.marches:
        finer = np.asarray(solve_padded(system, events, parameters, half).states)
        error = _difference(states, finer, observed)
        bad = bad | ~(error <= options.tolerance)
        # cycles that go on growing have no steady state, whatever the solver
        again = np.flatnonzero(bad & ~unsteady)
        if again.size:
            stiff = replace(options, solver="diffrax-stiff")
            some = _rows(parameters, again, n_subjects)
            solved = solve_padded(system, events.subset(again), some, stiff)
            new = np.asarray(solved.states)
            good = _finite(new, events.subset(again))
            # where this fails too, what the fixed steps gave cannot be trusted either
            states[again] = new
            code[again[good]] = LaneStatus.SOLVED_AGAIN
            unsteady[again] |= np.asarray(solved.unsteady)
    for b in np.flatnonzero(bad).tolist():
        where = f"subject {events.subject[b]}"
        if code[b] == LaneStatus.SOLVED_AGAIN:
            estimate = f"{error[b]:.1e}" if np.isfinite(error[b]) else "no finite value"
            detail[b] = sentence(
                where=where,
                what=f"fixed steps of {options.max_step_h:g} h gave an error of {estimate}, so it "
                "was solved again on adaptive steps",
                remedy='shorten max_step_h, or use solver="diffrax-stiff", if many need it',
            )
        else:
            code[b] = LaneStatus.EXPLODED
            detail[b] = sentence(
                where=where,
                what=_lost(system, events, states, b, bool(unsteady[b])),
                remedy="look at the parameters of this subject",
            )
    return OdeSolution(states, error, code, detail)


def choose_solver(
    system: OdeSystem,
    events: EventTable,
    parameters: Mapping[str, Any],
    *,
    options: OdeOptions | None = None,
    observed: Observed | None = None,
    safety: float = 10.0,
) -> tuple[OdeOptions, str]:
    """Find the longest fixed steps that are accurate enough at given parameters, or leave them.

    Parameters
    ----------
    system, events, parameters
        As `solve_events`; numbers, typical of the population.
    options
        Tolerance and reading of events; its steps are not looked at.
    observed
        What is judged, from the states; default the states.
    safety
        How far the error has to be below the tolerance, as individuals differ from the typical.

    Returns
    -------
    tuple
        Options, and a sentence on what was found. Without steps that will do: an adaptive
        implicit solver.
    """
    keep_compilations()  # of explicit and of implicit steps: seconds each
    options = replace(options or OdeOptions(), refine=1.0)
    allowed = options.tolerance / safety

    compiled: set[tuple[str, int]] = set()

    def error(trial: OdeOptions, most: int) -> float:
        """Largest error of any subject; infinite where there is none, or too many steps."""

        def rounded(steps: int) -> int:
            made = [size for solver, size in compiled if solver == trial.solver and size >= steps]
            size = min(made) if steps <= most and made else _coarsely(steps, most)
            compiled.add((trial.solver, size))
            return size

        try:
            one, two = (
                np.asarray(solve_padded(system, events, parameters, each, rounded=rounded).states)
                for each in (trial, replace(trial, refine=2.0))
            )
        except _TooManySteps:
            return np.inf
        if not np.all(_finite(one, events)):
            return np.inf
        return float(np.max(_difference(one, two, observed), initial=0.0))

    span = float(np.max(events.time) - np.min(events.time))
    ladder = [h for h in LADDER_H if h <= max(span, LADDER_H[-1])]
    # few explicit steps, else few implicit ones, else many
    for most, solver in product(MOST_STEPS, ("fixed", "fixed-stiff")):
        for longest, growth in product(ladder, GROWTHS[solver]):
            trial = replace(
                options,
                solver=solver,
                max_step_h=longest,
                first_step_h=longest / 256.0,
                growth=growth,
            )
            worst = error(trial, most)
            if worst > allowed:
                continue
            for part in (1.0, 4.0, 16.0, 64.0):
                longer = replace(trial, first_step_h=longest / part)
                found = error(longer, most)
                if found <= allowed:
                    trial, worst = longer, found
                    break
            kind = "fixed" if solver == "fixed" else "implicit"
            return trial, (
                f"{system.name}: {kind} steps of {trial.first_step_h:.2g} h after each dose, "
                f"growing to {trial.max_step_h:g} h; relative error {worst:.0e} at the typical "
                "parameters."
            )
    return replace(options, solver="diffrax-stiff"), (
        f"{system.name}: no fixed steps are accurate to {allowed:.0e} at the typical "
        "parameters, so an implicit solver on adaptive steps is used."
    )


class _TooManySteps(Exception):
    """More steps than it is worth to try."""


def _coarsely(steps: int, most: int) -> int:
    """Round up so that trials share few programs."""
    for size in (512, *MOST_STEPS):
        if steps <= size <= most:
            return size
    raise _TooManySteps


def _difference(states: Floats, finer: Floats, observed: Observed | None) -> Floats:
    """Largest difference by subject, relative to a value and a hundredth of the largest, [B].

    Values far below the largest of their kind in the subject are judged against that.
    """
    one, two = (np.asarray(observed(each) if observed else each) for each in (states, finer))
    lost = ~np.isfinite(one) | ~np.isfinite(two)
    one, two = (np.where(lost, 0.0, each) for each in (one, two))
    with np.errstate(over="ignore"):
        scale = np.abs(two) + 1e-2 * np.max(np.abs(two), axis=1, keepdims=True)
        part = np.where(scale > 0, np.abs(one - two) / np.where(scale > 0, scale, 1.0), 0.0)
    return np.max(np.where(lost, np.inf, part), axis=(1, 2), initial=0.0)


def _finite(states: Floats, events: EventTable) -> NDArray[np.bool_]:
    """Subjects whose states are finite at all their records, [B]."""
    return np.all(np.isfinite(states) | ~events.valid[..., None], axis=(1, 2))


def _lost(system: OdeSystem, events: EventTable, states: Floats, b: int, unsteady: bool) -> str:
    """Say when and in which state a subject was lost."""
    if unsteady:
        return (
            "no steady state was found for a steady-state dose (input above what can be "
            "eliminated, or a state that only accumulates)"
        )
    lost = ~np.isfinite(states[b]) & events.valid[b][:, None]
    n = int(np.argmax(lost.any(axis=1)))
    names = [name for name, bad in zip(system.compartments, lost[n], strict=True) if bad]
    return f"{names[0]} is not finite from {events.time[b, n]:g} h on"


def _rows(parameters: Mapping[str, Any], rows: np.ndarray, n: int) -> dict[str, Any]:
    """Parameters of some subjects."""
    out: dict[str, Any] = {}
    for name, value in parameters.items():
        array = np.asarray(value, dtype=float)
        whole = array.ndim > 0 and array.shape[0] == n
        out[name] = array[rows] if whole and not (array.ndim == 1 and n == 1) else array
    return out
