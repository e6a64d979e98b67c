"""Which second cycles and courses counts can delay, and how late each lane's begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.schedule import DosingPlan

STARTS = ("starts_on_time", "starts_late", "starts_never")
"""Shares of the patients who are alive on the planned day of a cycle or course; they add to 1."""


@dataclass(frozen=True)
class Start:
    """Start of a second cycle, or of a course.

    Attributes
    ----------
    name
        ``"cycle 2"``, the name of a course, or both where there are several.
    planned_day
        Protocol day on which it starts if nothing delays it.
    late : float[L]
        Days after it on which it starts: 0 on time, infinite if not by the last day or not while
        alive; NaN for who is not alive on the planned day.
    """

    name: str
    planned_day: int
    late: Floats

    @property
    def label(self) -> str:
        """Name with the planned day."""
        return f"{self.name} (day {self.planned_day})"


def starts_of(course: Course, plan: DosingPlan) -> tuple[Start, ...]:
    """Read off a course when that began which a gate of the schedule can delay.

    Parameters
    ----------
    course
        What became of L lanes.
    plan
        The schedule.

    Returns
    -------
    tuple of Start
        In the order of the courses; none whose planned day lies beyond the days followed.
    """
    return tuple(
        Start(name, planned + 1, _late(course, planned, days[:, c]))
        for name, planned, c, second in planned_starts(plan, course.days)
        if (days := course.next_cycle_day if second else course.first_day) is not None
    )


def planned_starts(plan: DosingPlan, days: int) -> list[tuple[str, int, int, bool]]:
    """Name, morning and course of each start that a gate can delay, and if of a second cycle."""
    between = np.any(plan.gate_threshold[:, 1] > 0.0, axis=1)
    found = []
    for c, name in enumerate(plan.course_names):
        planned, late = int(plan.planned_start[c]), can_be_late(plan, c)
        if late:
            found.append((name, planned, c, False))
        if plan.cycles[c] > 1 and (between[c] or late):
            cycle = "cycle 2" if len(plan.course_names) == 1 else f"{name} cycle 2"
            found.append((cycle, planned + int(plan.cycle_days[c]), c, True))
    return [one for one in found if one[1] < days]


def can_be_late(plan: DosingPlan, course: int) -> bool:
    """Whether a course starts after a gate: its own, or one of an earlier course or its cycles."""
    gates = np.any(plan.gate_threshold > 0.0, axis=2)
    return bool(gates[: course + 1, 0].any() or gates[:course, 1].any())


def _late(course: Course, planned: int, protocol_day: NDArray[np.int64]) -> Floats:
    day = protocol_day.astype(np.float64) - 1.0
    started = (day >= 0.0) & (day < course.mornings_alive)
    late = np.where(started, np.maximum(day - planned, 0.0), np.inf)
    return np.where(planned < course.mornings_alive, late, np.nan)
