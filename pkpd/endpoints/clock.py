"""From where a rule counts its days, and from where and until when it looks for recovery."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.cards.drug_cards import is_supportive
from pkpd.course.course import Course
from pkpd.errors import PkpdError
from pkpd.schedule import DosingPlan
from pkpd.trials import DLTRule


@dataclass(frozen=True)
class Clock:
    """Where a rule's days start, and from where recovery is looked for.

    ``course`` is an index into the plan's courses; ``first_dose_day`` and ``last_dose_day`` count
    from the course's first day (0): the first dosing day, and the last that is planned of the first
    cycle; ``first_doses`` has the first dosing day of each course, -1 of one
    that gives no treatment. ``last_fall_day`` is the last day on which a count that falls has done
    so in this cycle, where no other follows;
    ``last_before_look`` is the last dosing day of the cycle before a rule looks. ``treatment`` has
    the drugs whose doses count. ``planned_day`` is the day since the first morning on which the
    clock starts if nothing delays it.
    """

    name: str
    course: int
    first_dose_day: int
    last_dose_day: int
    first_doses: tuple[int, ...] = ()
    last_fall_day: float = np.inf
    last_before_look: int = 0
    treatment: tuple[str, ...] = ()
    planned_day: int = 0


class ClockDays(NamedTuple):
    """Days of each lane's clock since the first morning, ``[L]`` each.

    Attributes
    ----------
    start
        First dose of the course.
    search
        Planned last dose of its first cycle, held or not: recovery is looked for from here.
    until
        First dose of the next cycle, of this course or a later one, where the search ends; infinite
        without one within the horizon. Doses that are held are none.
    falls_until
        Last day on which a fall is of this cycle: ``until``, or where no cycle follows the last of
        the cycle's end and the rule's day (without a rule's day, two weeks after the last dose).
    """

    start: Floats
    search: Floats
    until: Floats
    falls_until: Floats


DAYS_TO_FALL = 14
"""Within which a fall after the last dose is of its cycle, where no rule has a day: chosen."""


def clock_of(plan: DosingPlan, name: str, by_day: float | None = None) -> Clock:
    """Clock of a rule: ``first_dose``, or the name of a course.

    Doses of supportive drugs (growth factors, placebo: their cards say so) are not counted.

    Parameters
    ----------
    plan
        Doses of one schedule.
    name
        ``first_dose``, or a course.
    by_day
        Day of the rule's look, since its clock: a fall until then is of the cycle.

    Raises
    ------
    PkpdError
        If the course has no dose that counts.
    """
    course = 0 if name == "first_dose" else plan.course_names.index(name)
    given = _treated(plan)
    dosed = np.flatnonzero(given[course])
    if not dosed.size:
        drugs = sorted({slot.drug for slot in plan.slots})
        raise PkpdError(
            where=f"course {plan.course_names[course]}",
            what=f"no dose that a clock counts: {', '.join(drugs) or 'no drug'} only",
            remedy="give a dose of a drug that is treatment, or leave supportive = true out "
            "of the card of yours",
        )
    first = tuple(int(np.argmax(of)) if of.any() else -1 for of in given)
    begins, last = int(dosed[0]), int(dosed[-1])
    enough = last + DAYS_TO_FALL if by_day is None else begins + by_day
    falls = max(begins + int(plan.cycle_days[course]), enough)
    seen = dosed if by_day is None else dosed[dosed < begins + by_day]
    drugs = dict.fromkeys(s.drug for s in plan.slots if not is_supportive(s.drug, s.card))
    planned = int(plan.planned_start[course]) + begins
    return Clock(name, course, begins, last, first, falls, int(seen[-1]), tuple(drugs), planned)


def has_further_cycle(plan: DosingPlan, clock: Clock) -> bool:
    """Whether a dose of a later cycle is planned within the horizon: the search ends with it."""
    begins = int(plan.planned_start[clock.course]) + clock.first_dose_day
    doses = [
        int(plan.planned_start[later]) + clock.first_doses[later]
        for later in range(clock.course + 1, len(clock.first_doses))
        if clock.first_doses[later] >= 0
    ]
    if int(plan.cycles[clock.course]) > 1:
        doses.append(begins + int(plan.cycle_days[clock.course]))
    return min(doses, default=plan.horizon_days) < plan.horizon_days


def has_treatment(plan: DosingPlan) -> bool:
    """Whether the first course has a dose that a clock counts."""
    return bool(_treated(plan)[0].any())


def _treated(plan: DosingPlan) -> NDArray[np.bool_]:
    """Days of the cycles with a dose that a clock counts, ``[C, D]``."""
    counts = [not is_supportive(slot.drug, slot.card) for slot in plan.slots]
    return np.any(plan.amount[:, :, counts] > 0, axis=2)


def clock_days(course: Course, clock: Clock) -> ClockDays:
    """Where each lane's clock starts, and between which days its recovery is looked for.

    NaN where the course never began while the lane was alive and followed.
    """
    first = course.first_day[:, clock.course].astype(np.float64) - 1.0
    start = first + clock.first_dose_day
    never = (first < 0.0) | (start >= np.minimum(course.death_day, course.days))
    start = np.where(never, np.nan, start)
    last = np.minimum(first + clock.last_dose_day, course.days - 1.0)
    until = _next_dose(course, clock)
    falls = np.where(np.isfinite(until), until, first + clock.last_fall_day)
    return ClockDays(start, *(np.where(never, np.nan, day) for day in (last, until, falls)))


def due_days(course: Course, clock: Clock) -> Floats:
    """Day on which each lane's clock starts were it alive, ``[L]``; planned where it never does."""
    first = course.first_day[:, clock.course].astype(np.float64) - 1.0
    return np.where(first < 0.0, clock.planned_day, first + clock.first_dose_day)


def rule_days(course: Course, clock: Clock) -> ClockDays:
    """Where a rule's verdict looks for recovery: from the last dose before the day of its look.

    The same as `clock_days` but where the cycle has doses after that day, which a verdict of that
    day cannot wait for.
    """
    return clock_days(course, replace(clock, last_dose_day=clock.last_before_look))


def _next_dose(course: Course, clock: Clock) -> Floats:
    """First dose of the cycle after the clock's, days since the first morning, ``[L]``."""
    if course.next_cycle_day is None:
        return np.full(course.lanes, np.inf)
    day = course.next_cycle_day[:, clock.course].astype(np.float64) - 1.0
    of = np.full(course.lanes, clock.first_dose_day)
    for other in range(clock.course + 1, len(clock.first_doses)):
        here = course.first_day[:, other] - 1.0 == day
        if clock.first_doses[other] >= 0:
            of[here] = clock.first_doses[other]
            continue
        # supportive drugs alone end no cycle: a later course may
        after = course.first_day[here, other + 1 :]
        day[here] = np.min(np.where(after > 0, after - 1.0, np.inf), axis=1, initial=np.inf)
    return _first_given(course, clock, day, np.where(day < course.days, day + of, np.inf))


def _first_given(course: Course, clock: Clock, begin: Floats, planned: Floats) -> Floats:
    """First dose on or after a day of each lane, where the one that is planned is not given."""
    counted = sum(1 << k for k, name in enumerate(course.drugs) if name in clock.treatment)
    if course.dosed is None or not counted:
        return planned
    lanes = np.flatnonzero(planned < course.days)
    given = course.dosed[lanes, planned[lanes].astype(np.int64)] & counted
    lanes = lanes[given == 0]
    given = (course.dosed[lanes] & counted > 0) & (np.arange(course.days) >= begin[lanes, None])
    planned[lanes] = np.where(given.any(axis=1), given.argmax(axis=1), np.inf)
    return planned


def treatment_runs(plan: DosingPlan, rule: DLTRule) -> str:
    """Say which cycle is given between the first of the rule's course and its day, and since when.

    A count that is low on that day says that treatment goes on, not that recovery is delayed.

    Returns
    -------
    str
        ``"cycle 2 runs since day 36"``, the cycle's first dose, in days of the rule, or ``"cycle 1
        goes on"``, where its doses do within two weeks; empty where no dose is planned between the
        first cycle and the day.
    """
    if rule.by_day is None:
        return ""
    clock = clock_of(plan, rule.clock, rule.by_day)
    first, given = int(plan.planned_start[clock.course]), _treated(plan)
    found: list[tuple[int, str]] = []
    for course, start in enumerate(plan.planned_start):
        for cycle in range(int(plan.cycles[course])):
            begin = int(start) + cycle * int(plan.cycle_days[course])
            for day in np.flatnonzero(given[course]):
                since = begin + int(day) - first
                if clock.last_dose_day < since < clock.first_dose_day + rule.by_day:
                    found.append((since, _cycle_name(plan, course, cycle)))
    if not found:
        own = np.flatnonzero(given[clock.course])
        after = own[own > clock.last_before_look]
        if after.size and after[0] - clock.last_before_look < DAYS_TO_FALL:
            return f"{_cycle_name(plan, clock.course, 0)} goes on"
        return ""
    since, name = min(found)
    return f"{name} runs since day {since - clock.first_dose_day + 1}"


def treatment_by_clock(plan: DosingPlan, rules: Iterable[DLTRule]) -> dict[str, str]:
    """Say what :func:`treatment_runs` does of a rule by each of its clocks; none of the others."""
    found = {rule.clock: treatment_runs(plan, rule) for rule in rules}
    return {clock: words for clock, words in found.items() if words}


def _cycle_name(plan: DosingPlan, course: int, cycle: int) -> str:
    parts = [plan.course_names[course]] if len(plan.course_names) > 1 else []
    parts += [f"cycle {cycle + 1}"] if plan.cycles[course] > 1 or not parts else []
    return " ".join(parts)
