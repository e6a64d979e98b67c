"""From the patients of a cohort in a marrow with leukaemia to the endpoints of each patient.

The names of endpoints are those of `pkpd.comparison.lanes`. Recovery, response and delay are read
as the evidence reads them (`pkpd.evidence.likelihood.simulator`): the posterior was learned by
that reading.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkpd.comparison import rows
from pkpd.comparison.curves import CohortCurves
from pkpd.comparison.lanes import BY_DAYS, THRESHOLDS, clock_of
from pkpd.evidence.likelihood.simulator import observe
from pkpd.evidence.table.endpoints import Observable
from pkpd.leukaemia.endpoints import definition, spells
from pkpd.leukaemia.outcomes import ArmOutcomes, DailyCourses
from pkpd.schedule import Criterion, DosingPlan
from pkpd.trials import DLTRule

Floats = NDArray[np.float64]
Key = tuple[str, str, str]

DEATH_DAYS = (30, 60)
RESPONSES: Mapping[str, tuple[str, str]] = {
    "complete_remission": ("CR", "CR"),
    "remission_any_counts": ("CR_CRi", "CR, CRh, CRi or marrow CR"),
    "response": ("ORR", "CR, CRi, PR"),
}
"""Endpoint -> code of the evidence and words."""

PREDICTED = {
    **rows.PREDICTED,
    "cr_rate": ("complete_remission", ""),
    "cr_cri_rate": ("remission_any_counts", ""),
    "orr": ("response", ""),
}
"""Published endpoint -> endpoint and line of the prediction it stands beside."""


@dataclass
class CohortLook:
    """Reads the endpoints of one cohort off the outcomes of a draw.

    Attributes
    ----------
    plan
        Dosing plan of the cohort.
    rules
        The count rule, once for each clock; the first is the main one.
    grade_limits
        Line -> counts below which grade 3 and grade 4 begin, 10^9/L.
    """

    plan: DosingPlan
    rules: tuple[DLTRule, ...]
    grade_limits: Mapping[str, tuple[float, float]]

    def __call__(self, outcomes: ArmOutcomes) -> dict[Hashable, Floats]:
        """Read one draw.

        Returns
        -------
        dict
            ``("values", endpoint, line, rule)``, ``("recovered", line, threshold)`` and
            ``("dlt", clock)`` -> ``[N]``; ``("sensitivity",)`` -> ``[2, 4, 4, N]``.
        """
        found: dict[Hashable, Floats] = {
            ("values", *key): values for key, values in self._values(outcomes).items()
        }
        zero = clock_start(outcomes, self._course)
        for line, thresholds in THRESHOLDS.items():
            days = recovery_days(outcomes, line, thresholds, zero)
            for threshold, day in zip(thresholds, days, strict=True):
                found["values", "recovery_day", line, f">= {threshold:g}"] = day - zero
                found["recovered", line, threshold] = day - 1.0
        for rule in self.rules:
            if rule.can_be_simulated:
                found["dlt", rule.clock] = outcomes.dlt(rule)
        found["sensitivity",] = delay_grid(outcomes, self.rules[0])
        return found

    @cached_property
    def _course(self) -> str:
        clock = clock_of(self.plan, self.rules[0].clock)
        return "" if clock.name == "first_dose" else clock.name

    def _values(self, outcomes: ArmOutcomes) -> dict[Key, Floats]:
        values: dict[Key, Floats] = {}
        for name, (code, words) in RESPONSES.items():
            values[name, "", words] = observe(outcomes, Observable("response", code=code))
        remission = observe(outcomes, Observable("response_day", code="CR"))
        values["remission_day", "", "CR"] = np.where(np.isinf(remission), np.nan, remission - 1.0)
        for day in DEATH_DAYS:
            if day < outcomes.horizon_days:
                values["early_death", "", f"by day {day}"] = observe(
                    outcomes, Observable("death", day=day)
                )
        for line, limits in self.grade_limits.items():
            lowest = THRESHOLDS[line][0]
            values["count_at_start", line, ""] = outcomes.baseline[line]
            values["nadir", line, ""] = outcomes.nadir[line]
            values["nadir_day", line, ""] = outcomes.nadir_day[line] - 1.0
            values["days_below", line, f"< {lowest:g}"] = outcomes.days_below[line, lowest]
            for name, limit in zip(("grade_3_4", "grade_4"), limits, strict=True):
                values[name, line, f"< {limit:g}"] = (outcomes.nadir[line] < limit).astype(float)
            values["grade_3_4_at_start", line, f"< {limits[0]:g}"] = (
                outcomes.baseline[line] < limits[0]
            ).astype(float)
            for threshold in THRESHOLDS[line]:
                seen = Observable("recovery_day", line, (threshold,))
                values["recovery_day_in_remission", line, f">= {threshold:g}"] = (
                    observe(outcomes, seen) - 1.0
                )
            if self._course:
                values["count_at_clock", line, self._course] = count_on(
                    outcomes, line, clock_start(outcomes, self._course)
                )
        values["platelet_transfusions", "platelets", ""] = outcomes.transfusions
        return values


def clock_start(outcomes: ArmOutcomes, course: str) -> Floats:
    """Protocol day on which a course began, ``[N]``; 1 without a name, NaN where it never did."""
    if not course:
        return np.ones(outcomes.n)
    courses = outcomes.courses
    first = courses.first_day[:, courses.course_names.index(course)].astype(np.float64)
    late = (first <= 0.0) | (first > np.minimum(outcomes.death_day, courses.days))
    return np.where(late, np.nan, first)


def count_on(outcomes: ArmOutcomes, line: str, day: Floats) -> Floats:
    """Own count (10^9/L) on the morning of each patient's day, ``[N]``; NaN where there is none."""
    courses = outcomes.courses
    counts = courses.neutrophils if line == "neutrophils" else courses.platelets
    column = np.clip(np.nan_to_num(day, nan=1.0) - 1.0, 0, courses.days - 1).astype(np.int64)
    told = ~np.isnan(day) & (day <= courses.days)
    return np.where(told, counts[np.arange(outcomes.n), column], np.nan)


def recovery_days(
    outcomes: ArmOutcomes, line: str, thresholds: Sequence[float], start: Floats
) -> Floats:
    """Protocol day of recovery from low counts on or after a day, of all patients.

    Parameters
    ----------
    outcomes
        Of an arm.
    line, thresholds
        10^9/L; platelets without transfused ones.
    start
        ``[N]`` first protocol day that counts; NaN: none does.

    Returns
    -------
    float[H, N]
        The day itself, `start` for a patient who is never low, infinite if the count is low and
        does not come back before death or the horizon, NaN where `start` is.
    """
    courses = outcomes.courses
    counts = courses.neutrophils if line == "neutrophils" else courses.platelets
    last = np.minimum(outcomes.death_day, courses.days)
    first = np.nan_to_num(start, nan=1.0).astype(np.int64) - 1
    if first.any():
        columns = np.minimum(first[:, None] + np.arange(courses.days)[None, :], courses.days - 1)
        counts = np.take_along_axis(counts, columns, axis=1)
    remaining = np.maximum(last - first, 0).astype(np.int64)
    levels, run = np.asarray(thresholds, dtype=np.float64), int(definition("recovery_days"))
    found = spells(np.ascontiguousarray(counts), levels, remaining, run)[0] + first
    never_low = np.isnan(found)
    return np.where(np.isnan(start), np.nan, np.where(never_low, start, found))


def delay_grid(outcomes: ArmOutcomes, rule: DLTRule) -> Floats:
    """Verdicts "not recovered by the day" over thresholds and days, ``[2, 4, 4, N]``.

    Each line is judged by itself and the lines are joined: both verdicts say NaN for the same
    patients, and a marrow with leukaemia clears both.
    """
    usual = replace(rule, kind="not_recovered", duration_days=(), nadir_below=())
    single = {
        line: np.array(
            [
                [
                    outcomes.dlt(replace(usual, criteria=(Criterion(line, t),), by_day=int(day)))
                    for day in BY_DAYS
                ]
                for t in thresholds
            ]
        )
        for line, thresholds in THRESHOLDS.items()
    }
    join = np.minimum if rule.join == "all" else np.maximum
    return join(single["neutrophils"][:, None], single["platelets"][None, :])


@dataclass
class LeukaemiaCurves:
    """Gathers the curves of a cohort draw by draw."""

    cohort: str
    plan: DosingPlan
    horizon_days: int
    every: int
    curves: CohortCurves = field(init=False)

    def __post_init__(self) -> None:
        self.curves = CohortCurves(self.cohort, self.plan, self.horizon_days)

    def add(self, outcomes: ArmOutcomes, draw: int) -> None:
        """Take what the curves need of a draw.

        Counts are those of every patient, as if none died; doses are those of patients alive.
        """
        courses = outcomes.courses
        chosen = np.arange(draw % self.every, outcomes.n, self.every)
        for line, counts in (
            ("neutrophils", courses.neutrophils),
            ("platelets", courses.platelets_with_transfused),
        ):
            self.curves.counts.setdefault(line, []).append(counts[chosen])
        for drug, given in planned_doses(self.plan, courses, outcomes.death_day).items():
            self.curves.dosed[drug] = self.curves.dosed.get(drug, np.zeros(courses.days)) + given
        self.curves.lanes += outcomes.n


def planned_doses(plan: DosingPlan, courses: DailyCourses, death_day: Floats) -> dict[str, Floats]:
    """Patients alive who have a dose planned on each day, by drug, ``[D]``.

    Courses begin when they began in each patient, and end with the cycles that were begun; doses
    held within a cycle are counted, and a wait between cycles is not.
    """
    given = {drug: np.zeros(courses.days) for drug in plan.drugs}
    alive = np.minimum(death_day, courses.days)
    for c in range(len(plan.course_names)):
        first, begun = courses.first_day[:, c], courses.cycles_started[:, c]
        for drug_index, drug in enumerate(plan.drugs):
            slots = [s for s, slot in enumerate(plan.slots) if slot.drug_index == drug_index]
            offsets = np.flatnonzero(plan.amount[c][:, slots].sum(axis=1) > 0.0)
            for cycle in range(int(begun.max(initial=0))):
                going = (first > 0) & (begun > cycle)
                for offset in offsets:
                    day = first[going] + cycle * int(plan.cycle_days[c]) + int(offset)
                    day = day[day <= alive[going]]
                    given[drug] += np.bincount(day - 1, minlength=courses.days)[: courses.days]
    return given
