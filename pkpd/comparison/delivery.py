"""How much of a schedule is given where counts decide: delays, cycles started, dose intensity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.course.course import Course
from pkpd.schedule import DosingPlan

Floats = NDArray[np.float64]
Key = tuple[str, str, str]

ENDPOINTS = ("course_delay", "cycles_started", "relative_dose_intensity")
"""Endpoints that are shares or medians of some of the patients: who started, or who lived."""


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

        - ``("course_delay", "", course)``: days from the planned to the actual start of each course
          that a gate can delay; NaN where it did not start while the lane was alive
        - ``("cycles_started", "", course)``: cycles started, as a share of those planned to start
          by the horizon; of courses with several, or that a gate can delay
        - ``("relative_dose_intensity", "", drug)``: dosing days weighted by the dose level, as a
          share of those planned by the horizon
    """
    values: dict[Key, Floats] = {}
    if plan.is_static and int(plan.cycles.max()) == 1:
        return values
    late = _can_be_late(plan)
    for c in late:
        first = course.first_day[:, c].astype(np.float64) - 1.0
        started = (first >= 0.0) & (first < course.mornings_alive)
        delay = first - float(plan.planned_start[c])
        values["course_delay", "", plan.course_names[c]] = np.where(started, delay, np.nan)
    alive = course.mornings_alive >= course.days
    if course.cycles_started is not None:
        for c, name in enumerate(plan.course_names):
            planned = len(_cycle_starts(plan, c, course.days))
            if planned and (c in late or plan.cycles[c] > 1):
                share = course.cycles_started[:, c] / planned
                values["cycles_started", "", name] = np.where(alive, share, np.nan)
    if course.full_doses is not None:
        for drug, planned in planned_doses(plan, course.days).items():
            if planned:
                share = course.full_doses[:, course.drugs.index(drug)] / planned
                values["relative_dose_intensity", "", drug] = np.where(alive, share, np.nan)
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


def _can_be_late(plan: DosingPlan) -> list[int]:
    """Courses that start after a gate: their own, or one of an earlier course or its cycles."""
    gates = np.any(plan.gate_threshold > 0.0, axis=2)
    courses = range(len(plan.course_names))
    return [c for c in courses if gates[: c + 1, 0].any() or gates[:c, 1].any()]


def _cycle_starts(plan: DosingPlan, course: int, days: int) -> range:
    """Mornings on which the cycles of a course start when nothing is delayed."""
    first, length = int(plan.planned_start[course]), int(plan.cycle_days[course])
    return range(first, min(first + length * int(plan.cycles[course]), days), length)
