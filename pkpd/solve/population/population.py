"""Solve a population: `population_counts`.

It takes a structure, parameters per lane, doses and times, and gives counts with a status of every
lane. Parameters may be JAX tracers: the counts can be differentiated by every one of them. What is
called again and again for one data set (a likelihood, a simulation) is better made once by
`pkpd.solve.population.problem.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpy.typing import ArrayLike, NDArray

from pkpd.errors import sentence
from pkpd.solve.grid.grid import DEFAULT_STEP_H, Doses, refine
from pkpd.solve.grid.structure import PopulationStructure
from pkpd.solve.population.problem import Engine, PopulationProblem, prepare
from pkpd.solve.population.resolve import general_log_counts
from pkpd.solve.population.status import LARGEST_LOG_COUNT, LaneStatus, PopulationStatus, assess

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-4
"""Estimated relative error above which a lane is solved again by the general engine."""


def _is_traced(*values: Any) -> bool:
    return any(isinstance(v, Tracer) for v in values)


@dataclass(frozen=True, eq=False)
class PopulationCounts:
    """Counts of a population.

    Attributes
    ----------
    log_count : float[lines, L, T]
        Natural log of counts in 10^9/L; NaN for missing times and for lanes not solved.
    status
        Status of every lane; ``None`` when the parameters were traced.
    problem
        What was solved.
    theta : float[P, L]
        With which parameters.
    """

    log_count: Any
    status: PopulationStatus | None
    problem: PopulationProblem
    theta: Any

    @property
    def counts(self) -> Any:
        """Counts in 10^9/L, ``[lines, L, T]``."""
        return (
            jnp.exp(self.log_count) if isinstance(self.log_count, Array) else np.exp(self.log_count)
        )


def population_counts(
    structure: PopulationStructure,
    parameters: Mapping[str, Any],
    doses: Doses,
    times_h: ArrayLike,
    *,
    schedule: ArrayLike | None = None,
    max_step_h: float = DEFAULT_STEP_H,
    engine: Engine = "auto",
    threads: int | None = None,
    check: Literal["finite", "error"] = "finite",
    tolerance: float = TOLERANCE,
) -> PopulationCounts:
    """Solve a population.

    Parameters
    ----------
    structure
        Drugs and lines.
    parameters
        ``{"pk": {drug: {...}}, "effect": {line: {drug: {...}}}, "marrow": {line: {...}}}``, each
        ``[L]`` or a number.
    doses, times_h, schedule, max_step_h, engine, threads
        See `prepare`.
    check
        ``"finite"``: lanes are checked for parameters and counts that cannot be. ``"error"``: the
        error is also estimated, by solving again on half the step; the counts are then those of
        the half step, and lanes over ``tolerance`` are solved by the general engine.
    tolerance
        Largest estimated relative error of a count.

    Returns
    -------
    PopulationCounts
        A lane that cannot be solved has a status and NaN, never an exception.
    """
    problem = prepare(
        structure,
        doses,
        times_h,
        schedule=schedule,
        max_step_h=max_step_h,
        engine=engine,
        threads=threads,
    )
    theta = problem.theta(parameters)
    if _is_traced(theta):
        return PopulationCounts(problem.log_counts(theta), None, problem, theta)
    values = np.asarray(theta, dtype=np.float64)
    log_count = problem.log_counts(values)
    missing = problem.missing(values.shape[1])
    if check == "finite":
        status = assess(structure, values, log_count, missing)
    else:
        log_count, status = _with_error(problem, values, log_count, missing, tolerance)
    log_count[:, ~status.solved] = np.nan
    return PopulationCounts(log_count, status, problem, values)


def _with_error(
    problem: PopulationProblem,
    theta: FloatArray,
    coarse: FloatArray,
    missing: NDArray[np.bool_],
    tolerance: float,
) -> tuple[FloatArray, PopulationStatus]:
    fine = replace(problem, grid=refine(problem.grid)).log_counts(theta)
    gap = np.where(missing, 0.0, np.abs(fine - coarse))
    # halving gains about a factor of three to sixteen: the difference bounds the error left
    error = np.where(np.isnan(gap), np.inf, gap).max(axis=(0, 2))
    status = assess(problem.structure, theta, fine, missing, error, tolerance)
    again = np.isin(status.code, (LaneStatus.OVER_TOLERANCE, LaneStatus.EXPLODED))
    if not again.any():
        return fine, status
    code, detail = status.code.copy(), dict(status.detail)
    for lane in np.flatnonzero(again).tolist():
        solved = general_log_counts(problem, theta, lane)
        good = np.abs(solved) < LARGEST_LOG_COUNT
        if np.all(good | missing[lane]):
            fine[:, lane] = np.where(missing[lane], np.nan, solved)
            code[lane] = LaneStatus.SOLVED_AGAIN
            detail[lane] = sentence(
                where=f"lane {lane}",
                what=f"estimated relative error {error[lane]:.1e} on fixed steps",
                remedy="it was solved by the general engine",
            )
    return fine, PopulationStatus(code, error, detail)


def stream_counts(
    problem: PopulationProblem,
    n_lanes: int,
    theta_of: Callable[[int, int], FloatArray],
    reduce: Callable[[FloatArray], Any],
    *,
    chunk: int = 16384,
) -> Iterator[Any]:
    """Solve many lanes under one schedule in chunks of bounded memory.

    Parameters
    ----------
    problem
        A problem with one schedule for all lanes.
    n_lanes
        Number of lanes in all.
    theta_of
        ``theta_of(first, stop)`` gives ``theta[P, stop - first]``.
    reduce
        What is kept of the log counts ``[lines, lanes, T]`` of a chunk.
    chunk
        Lanes at a time.

    Yields
    ------
    Any
        What ``reduce`` gave, chunk by chunk.
    """
    for first in range(0, n_lanes, chunk):
        stop = min(first + chunk, n_lanes)
        yield reduce(problem.log_counts(np.asarray(theta_of(first, stop), dtype=np.float64)))
