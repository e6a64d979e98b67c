"""How much of a schedule is given where counts decide: late cycles, dose intensity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.endpoints.starts import STARTS, Start, can_be_late, starts_of
from pkpd.schedule import DosingPlan

Key = tuple[str, str, str]


def delivery(course: Course, plan: DosingPlan) -> dict[Key, Floats]:
    """Read what was given of a schedule off a course.

    Nothing is cut at death in a course, so what is counted up to the horizon is that of patients
    who are alive on its last morning; the others are left out (NaN).

    Parameters
    ----------
    course
        What became of L lanes.
    plan
        The schedule.

    Returns
    -------
    dict of float[L]
        Empty for a schedule of single cycles without gates, holds and reductions. Else

        - ``("starts_on_time", "", start)``: 1 where the second cycle of a course, or a course, that
          a gate can delay starts on its planned day, named with it: ``"cycle 2 (day 29)"``, after
          the course's name where there are several; NaN where the lane is not alive then. Likewise
          ``starts_late``: later, and ``starts_never``: not by the last day, or not while alive
        - ``("days_late", "", start)``: days from the planned to the actual start of those who
          start late; NaN for the others
        - ``("cycles_started", "", course)``: cycles started, as a share of those planned to start
          by the horizon; of courses with several, or that a gate can delay
        - ``("relative_dose_intensity", "", drug)``: dosing days weighted by the dose level, as a
          share of those planned by the horizon
    """
    values: dict[Key, Floats] = {}
    if plan.is_static and int(plan.cycles.max()) == 1:
        return values
    for start in starts_of(course, plan):
        values |= _shares(start)
    alive = course.mornings_alive >= course.days
    if course.cycles_started is not None:
        for c, name in enumerate(plan.course_names):
            planned = len(_cycle_starts(plan, c, course.days))
            if planned and (can_be_late(plan, c) or plan.cycles[c] > 1):
                share = course.cycles_started[:, c] / planned
                values["cycles_started", "", name] = np.where(alive, share, np.nan)
    if course.full_doses is not None:
        for drug, planned in planned_doses(plan, course.days).items():
            if planned:
                share = course.full_doses[:, course.drugs.index(drug)] / planned
                values["relative_dose_intensity", "", drug] = np.where(alive, share, np.nan)
    return values


def start_name(rule: str) -> str:
    """Name of a start without its planned day.

    Examples
    --------
    >>> start_name("cycle 2 (day 29)")
    'cycle 2'
    """
    return rule.rpartition(" (day ")[0]


def not_on_time(values: Mapping[Key, Floats]) -> dict[str, Floats]:
    """Who does not start on the planned day, by the start's name: 1, 0, NaN if not alive then."""
    return {start_name(key[2]): 1.0 - values[key] for key in values if key[0] == "starts_on_time"}


def _shares(start: Start) -> dict[Key, Floats]:
    late, alive = start.late, ~np.isnan(start.late)
    shares = (late == 0.0, (late > 0.0) & np.isfinite(late), np.isinf(late))
    values: dict[Key, Floats] = {
        (endpoint, "", start.label): np.where(alive, share, np.nan)
        for endpoint, share in zip(STARTS, shares, strict=True)
    }
    values["days_late", "", start.label] = np.where(shares[1], late, np.nan)
    return values


def planned_doses(plan: DosingPlan, days: int) -> dict[str, int]:
    """Dosing days of each drug on the first days of a schedule that nothing delays."""
    found = dict.fromkeys(plan.drugs, 0)
    of_slot = np.array([slot.drug_index for slot in plan.slots])
    for c in range(len(plan.course_names)):
        for k, drug in enumerate(plan.drugs):
            dosed = np.flatnonzero((plan.amount[c][:, of_slot == k] > 0.0).any(axis=1))
            for start in _cycle_starts(plan, c, days):
                found[drug] += int((start + dosed < days).sum())
    return found


def _cycle_starts(plan: DosingPlan, course: int, days: int) -> range:
    """Mornings on which the cycles of a course start when nothing is delayed."""
    first, length = int(plan.planned_start[course]), int(plan.cycle_days[course])
    return range(first, min(first + length * int(plan.cycles[course]), days), length)
