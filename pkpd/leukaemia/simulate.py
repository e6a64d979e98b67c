"""Runs the patients of an arm, on all cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pkpd.errors import PkpdError, sentence
from pkpd.leukaemia.compiled_course import Output, run_blocks_cached
from pkpd.leukaemia.compiled_step import WIDTH
from pkpd.leukaemia.drug_effects import PreparedRegimen, prepare_regimen
from pkpd.leukaemia.equations import PARAMETERS
from pkpd.leukaemia.outcomes import DailyCourses
from pkpd.leukaemia.parameters import Theta
from pkpd.leukaemia.schedule import ArmSchedule
from pkpd.marrow.variants import FULL, Variant

Floats = NDArray[np.float64]

STEPS_PER_DAY = 6
"""Steps of 4 h; see ``docs/marrow_with_leukaemia.md`` for their error."""

_FEWEST_BLOCKS = 4  # of a thread: below this, starting it costs more than it saves


def simulate(
    schedule: ArmSchedule,
    theta: Theta,
    parameters: dict[str, Floats],
    state: Floats,
    variant: Variant = FULL,
    *,
    steps_per_day: int = STEPS_PER_DAY,
    threads: int | None = None,
) -> DailyCourses:
    """Simulate many patients under the schedule of an arm, morning by morning.

    Parameters
    ----------
    schedule
        What is given, with gates, holds and reductions by each patient's own counts.
    theta
        Global parameters, for the intensities of drugs.
    parameters
        Parameters of the patients, arrays ``[N]`` by the names of
        `pkpd.leukaemia.equations.PARAMETERS`.
    state
        ``[states, N]`` at the start (`pkpd.leukaemia.equations.initial_state`).
    variant
        Mechanisms that are on.
    steps_per_day
        6 (4 h) or 4 (6 h).
    threads
        At most so many; all cores by default. It does not change any number.

    Returns
    -------
    DailyCourses
        A patient's row does not depend on the others.

    Raises
    ------
    PkpdError
        If a drug is unknown or a parameter is not finite.
    """
    par = as_rows(parameters)
    return simulate_prepared(
        prepare_regimen(schedule), schedule, theta, par, np.ascontiguousarray(state), variant,
        steps_per_day=steps_per_day, threads=threads,
    )  # fmt: skip


def as_rows(parameters: dict[str, Floats]) -> Floats:
    """Parameters of patients as an array ``[P, N]`` in the order of `PARAMETERS`.

    Raises
    ------
    PkpdError
        If one is not finite.
    """
    par = np.array([parameters[name] for name in PARAMETERS])
    if not np.isfinite(par).all():
        bad = [
            name for name, row in zip(PARAMETERS, par, strict=True) if not np.isfinite(row).all()
        ]
        msg = sentence(
            where="patients of an arm",
            what=f"parameters that are no numbers: {', '.join(bad)}",
            remedy="correct the global parameters they come from",
        )
        raise PkpdError(msg)
    return par


def simulate_prepared(
    regimen: PreparedRegimen,
    schedule: ArmSchedule,
    theta: Theta,
    par: Floats,
    state: Floats,
    variant: Variant,
    *,
    steps_per_day: int = STEPS_PER_DAY,
    threads: int | None = None,
) -> DailyCourses:
    """`simulate` with the regimen of the schedule prepared and the parameters as rows.

    Parameters
    ----------
    regimen
        Of `schedule` (`pkpd.leukaemia.drug_effects.prepare_regimen`); its horizon may be longer.
    schedule, theta, variant, steps_per_day, threads
        As `simulate`.
    par
        ``[P, N]`` as `as_rows` gives it.
    state
        ``[states, N]``; both in C order.
    """
    tables, made = regimen.at(theta), regimen.made
    n, days = par.shape[1], schedule.horizon_days
    courses, drugs = tables.hold_below.shape[:2]
    daily = [np.empty((n, days)) for _ in range(8)]
    out = Output(
        neutrophils=daily[0],
        platelets=daily[1],
        platelets_with_transfused=daily[2],
        wbc=daily[3],
        marrow_blasts=daily[4],
        blood_blasts=daily[5],
        marrow_cells=daily[6],
        transfused=np.zeros((n, days), dtype=np.bool_),
        cumulative_hazard=daily[7],
        first_day=np.zeros((n, courses), dtype=np.int64),
        cycles_started=np.zeros((n, courses), dtype=np.int64),
        doses_given=np.zeros((n, drugs), dtype=np.int64),
        full_doses=np.zeros((n, drugs)),
        second_cycle_day=np.empty(n, dtype=np.int64),
    )
    policy = schedule.growth_factor

    def run(first: int, last: int) -> None:
        run_blocks_cached(
            first, last, par, state, tables, policy.below, policy.from_day,
            schedule.transfuse_below, steps_per_day, variant.flags(), out,
        )  # fmt: skip

    pieces = _pieces(n, threads or os.cpu_count() or 1)
    if len(pieces) == 1:
        run(0, n)
    else:
        list(arm_pool().map(lambda piece: run(*piece), pieces))
    names = ((), ()) if made is None else (made.drugs, made.course_names)
    return DailyCourses(**out._asdict(), drugs=names[0], course_names=names[1])


def _pieces(n: int, threads: int) -> Sequence[tuple[int, int]]:
    blocks = -(-n // WIDTH)
    share = max(-(-blocks // threads), _FEWEST_BLOCKS) * WIDTH
    return [(start, min(start + share, n)) for start in range(0, n, share)]


@lru_cache(maxsize=1)
def arm_pool() -> ThreadPoolExecutor:
    """Threads that simulations share; compiled courses run outside the interpreter's lock."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="marrow")
