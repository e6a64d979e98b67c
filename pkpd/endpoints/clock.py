"""From where a rule counts its days, and from where it looks for recovery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.course.course import Course
from pkpd.schedule import DosingPlan
from pkpd.trials import DLTRule

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clock:
    """Where a rule's days start, and from where recovery is looked for.

    ``course`` is an index into the plan's courses; ``first_dose_day`` and ``last_dose_day`` count
    from the course's first day (0): the first dosing day, and the last of the first cycle.
    """

    name: str
    course: int
    first_dose_day: int
    last_dose_day: int


def clock_of(plan: DosingPlan, name: str) -> Clock:
    """Clock of a rule: ``first_dose``, or the name of a course."""
    course = 0 if name == "first_dose" else plan.course_names.index(name)
    dosed = np.flatnonzero(plan.amount[course].sum(axis=1) > 0)
    return Clock(name, course, int(dosed[0]), int(dosed[-1]))


def clock_days(course: Course, clock: Clock) -> tuple[Floats, Floats]:
    """Start of each lane's clock and its last dose, days since the first morning, ``[L]`` each.

    NaN where the course never began while the lane was alive and followed.
    """
    first = course.first_day[:, clock.course].astype(np.float64) - 1.0
    start = first + clock.first_dose_day
    never = (first < 0.0) | (start >= np.minimum(course.death_day, course.days))
    start = np.where(never, np.nan, start)
    last = np.minimum(first + clock.last_dose_day, course.days - 1.0)
    return start, np.where(never, np.nan, last)


def treatment_runs(plan: DosingPlan, rule: DLTRule) -> bool:
    """Whether doses are planned between the first cycle of the rule's course and its day.

    A count that is low then says that treatment goes on, not that recovery is delayed.
    """
    if rule.by_day is None:
        return False
    clock = clock_of(plan, rule.clock)
    first = int(plan.planned_start[clock.course])
    for course, start in enumerate(plan.planned_start):
        for cycle in range(int(plan.cycles[course])):
            begin = int(start) + cycle * int(plan.cycle_days[course])
            for day in np.flatnonzero(plan.amount[course].sum(axis=1) > 0):
                since = begin + int(day) - first
                if clock.last_dose_day < since < clock.first_dose_day + rule.by_day:
                    return True
    return False
