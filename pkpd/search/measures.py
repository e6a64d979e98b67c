"""What is kept of every lane of a schedule, and what it comes to over patients and draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.cards.menus import MEASURES, Measure, dose_measure
from pkpd.comparison.crossed import crossed
from pkpd.comparison.delivery import not_on_time
from pkpd.comparison.lanes import LaneEndpoints, can_be_judged, evaluable
from pkpd.comparison.uncertainty import paired_difference, risk
from pkpd.course.course import Course
from pkpd.endpoints.definitions import THRESHOLDS
from pkpd.schedule import DoseRule, Regimen, given_amount

Lanes = NDArray[np.float32]

_LEAST = 1e-6  # of a count, before its logarithm is taken


@dataclass(frozen=True)
class Planned:
    """What a schedule plans to give.

    Attributes
    ----------
    per_week
        Drug -> amount in a week, over the simulated days, before caps and rounding to strengths.
    units
        Drug -> unit of it.
    doses
        Drug -> its doses, and how many of each a week has.
    regimen, days
        The schedule, and the simulated days.
    """

    per_week: Mapping[str, float]
    units: Mapping[str, str]
    doses: Mapping[str, tuple[tuple[DoseRule, float], ...]]
    regimen: Regimen
    days: int

    def given_a_week(self, drug: str, course: Course) -> Floats:
        """Amount of a week in the drug's unit as each patient gets it, full doses, ``[L]``."""
        total = np.zeros(course.lanes)
        surface, weight = course.surface, course.weight
        assert surface is not None
        assert weight is not None
        for rule, number in self.doses.get(drug, ()):
            total += number * given_amount(rule, rule.amount, surface, weight)
        return total

    def followed_a_week(self, drug: str, course: Course, share: Floats) -> Floats:
        """Amount of a week that each patient got, where counts decide, ``[L]``.

        Each course of doses counts by its own dosing days, a day by the mean of the course's, and
        what reductions take away by the amounts of the courses that can reduce.

        Parameters
        ----------
        drug, course
            Of the schedule; what became of the lanes.
        share : float[L]
            Dosing days weighted by the dose level, as a share of the planned; NaN for none.
        """
        daily = self._daily(drug, course)
        given = [amount for amount, _ in daily if amount.any()]
        alike = all(np.array_equal(amount, given[0]) for amount in given)
        if alike or course.dosed is None or course.doses_given is None or course.full_doses is None:
            return share * self.given_a_week(drug, course)
        k, lanes = course.drugs.index(drug), np.arange(course.lanes)
        dosed = np.cumsum((course.dosed >> k) & 1, axis=1)
        before = np.concatenate([np.zeros((course.lanes, 1)), dosed], axis=1)
        total, reducible, reduced_days = np.zeros((3, course.lanes))
        after = np.zeros(course.lanes)  # dosing days of later courses
        for c in reversed(range(len(daily))):
            (amount, reduces), first = daily[c], course.first_day[:, c]
            since = before[:, -1] - before[lanes, np.maximum(first - 1, 0)]
            number = np.where(first > 0, since, after) - after
            after += number
            total += number * amount
            reducible += number * amount * reduces
            reduced_days += number * reduces
        lowered = course.doses_given[:, k] - course.full_doses[:, k]
        total -= lowered * reducible / np.maximum(reduced_days, 1.0)
        return np.where(np.isnan(share), np.nan, 7.0 * total / self.days)

    def _daily(self, drug: str, course: Course) -> list[tuple[Floats, bool]]:
        """Mean amount of a dosing day of each course ``[L]``, and whether counts reduce it."""
        surface, weight = course.surface, course.weight
        assert surface is not None
        assert weight is not None
        found = []
        for one in self.regimen.courses:
            rules = [rule for rule in one.doses if rule.drug == drug]
            total = np.zeros(course.lanes)
            for rule in rules:
                total += len(rule.days) * given_amount(rule, rule.amount, surface, weight)
            days = len({day for rule in rules for day in rule.days})
            reduces = any(m.drug == drug and m.reduce_on_resume for m in one.modifications)
            found.append((total / max(days, 1), reduces))
        return found


def planned(regimen: Regimen, days: int) -> Planned:
    """Amounts that a schedule plans to give in the first days, by drug, in a week.

    Parameters
    ----------
    regimen
        The schedule.
    days
        Simulated days.

    Returns
    -------
    Planned
        Without drugs whose doses have several units.

    Examples
    --------
    >>> from pkpd.schedule import daily
    >>> one = daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
    >>> planned(one, 35).per_week
    {'clofarabine': 5.0}
    """
    doses: dict[str, list[tuple[DoseRule, float]]] = {}
    units: dict[str, set[str]] = {}
    for course, start in zip(regimen.courses, regimen.start_days, strict=True):
        for rule in course.doses:
            given = sum(
                start + cycle * course.cycle_days + day - 1 <= days
                for cycle in range(course.cycles)
                for day in rule.days
            )
            doses.setdefault(rule.drug, []).append((rule, 7.0 * given / days))
            units.setdefault(rule.drug, set()).add(rule.unit)
    one_unit = {drug: next(iter(found)) for drug, found in units.items() if len(found) == 1}
    total = {drug: sum(n * rule.amount for rule, n in doses[drug]) for drug in one_unit}
    each = {drug: tuple(doses[drug]) for drug in one_unit}
    return Planned(total, one_unit, each, regimen, days)


def dose_measures(plans: Sequence[Planned]) -> tuple[Measure, ...]:
    """Dose intensities of the drugs of some schedules; of those with one unit in all of them."""
    found = []
    for drug in dict.fromkeys(drug for plan in plans for drug in plan.units):
        units = {plan.units.get(drug, "") for plan in plans if drug in plan.regimen.drugs}
        most = max(plan.per_week.get(drug, 0.0) for plan in plans)
        if len(units) == 1 and most > 0.0:
            found.append(dose_measure(drug, next(iter(units)), most))
    return tuple(found)


def days_low(course: Course) -> Floats:
    """Days of each lane with neutrophils or platelets below their lowest threshold, ``[L]``.

    Days after death are among them: who dies early must not look better for it.
    """
    low = np.zeros((course.lanes, course.days), dtype=bool)
    for line, levels in THRESHOLDS.items():
        if line in course.mornings:
            low |= course.own(line) < levels[0]
    low |= np.arange(course.days)[None, :] >= course.mornings_alive[:, None]
    return low.sum(axis=1).astype(float)


def lanes_of(
    found: LaneEndpoints, course: Course, clock: str, plan: Planned, doses: Sequence[Measure]
) -> dict[str, Lanes]:
    """One number of every lane by measure; NaN where it has none.

    Parameters
    ----------
    found, course
        Endpoints of a comparison, and what they were read off.
    clock
        Main clock of the rule.
    plan, doses
        Planned amounts, and measures of dose intensity.
    """
    values = {(name, line): value for (name, line, _), value in found.values.items()}
    made: dict[str, Floats] = {"days_low": days_low(course)}
    if clock in found.dlt:
        made["dlt"] = found.dlt[clock]
    for line in THRESHOLDS:
        # of the whole course, not from the day on which the rule's clock starts
        if ("nadir", line, "") in found.values:
            lowest = found.values["nadir", line, ""]
            made[f"nadir_{line}"] = np.log(np.maximum(lowest, _LEAST))
            made[f"grade_4_{line}"] = values["grade_4", line]
    if ("remission_any_counts", "") in values:
        made["remission"] = values["remission_any_counts", ""]
    if course.cumulative_hazard is not None:
        made["death"] = np.isfinite(course.death_day).astype(float)
    # the first start that counts can delay; `pkpd.search.simulate.answer` knows where none can
    for late in list(not_on_time(found.values).values())[:1]:
        made["late_start"] = late
    shares = {
        words: value
        for (name, _, words), value in found.values.items()
        if name == "relative_dose_intensity"
    }
    for measure in doses:
        drug = measure.name.partition("_")[2]
        share = shares.get(drug)
        made[measure.name] = (
            plan.given_a_week(drug, course)
            if share is None
            else plan.followed_a_week(drug, course, share)
        )
    return {name: np.asarray(value, dtype=np.float32) for name, value in made.items()}


@dataclass(frozen=True)
class Figure:
    """One measure of one schedule.

    Attributes
    ----------
    mean
        Over draws and patients; a geometric mean where the measure is compared by ratio.
    lower, upper
        90 % interval over draws.
    mc_error
        Standard error of the mean from finite numbers of draws and patients.
    by_draw : float[M]
        Freed of patient noise; NaN for draws without a verdict.
    judged
        Share of the lanes that have a value.
    shift_error
        The part of the standard error that the figures of all draws share: that of the patients.
    """

    mean: float
    lower: float
    upper: float
    mc_error: float
    by_draw: Floats
    judged: float
    shift_error: float = 0.0


def figure(measure: Measure, lanes: Lanes) -> Figure:
    """Sum up one measure of the lanes ``[M, N]`` of a schedule."""
    matrix = lanes.astype(float)
    by_draw = np.full(len(matrix), np.nan)
    if not can_be_judged(matrix):
        return Figure(np.nan, np.nan, np.nan, np.nan, by_draw, 0.0)
    known = ~np.isnan(matrix).all(axis=1)
    found, parts = risk(evaluable(matrix)), crossed(evaluable(matrix))
    of_draws = 0.0 if np.isnan(parts.draws) else parts.draws / known.sum()
    shift = float(np.sqrt(max(found.mc_error**2 - of_draws, 0.0)))
    by_draw[known] = found.by_draw
    middle, error = found.estimate, found.mc_error
    lower, upper = found.lower, found.upper
    if measure.ratio:
        middle, lower, upper = (float(np.exp(v)) for v in (middle, lower, upper))
        by_draw, error, shift = np.exp(by_draw), error * middle, shift * middle
    judged = float(1.0 - np.isnan(matrix).mean())
    return Figure(middle, lower, upper, error, by_draw, judged, shift)


@dataclass(frozen=True)
class Contrast:
    """One schedule against another in the same patients and draws.

    Attributes
    ----------
    difference, lower, upper
        First minus second with its 90 % interval over draws; the ratio where the measure is
        compared so.
    mc_error
        Standard error of the difference.
    p_first_better
        Share of draws in which the first is better.
    """

    difference: float
    lower: float
    upper: float
    mc_error: float
    p_first_better: float

    def matters(self, measure: Measure) -> bool:
        """Whether the difference is beyond the margin, and its interval on one side of none."""
        none = 1.0 if measure.ratio else 0.0
        one_side = self.lower > none or self.upper < none
        return bool(one_side and beyond(measure, self.difference))


def beyond(measure: Measure, difference: float) -> bool:
    """Whether a difference, or a ratio, of a measure is one that matters."""
    if measure.ratio:
        difference = float(np.log(difference))
    return bool(abs(difference) > measure.least)


def contrast(measure: Measure, first: Lanes, second: Lanes) -> Contrast | None:
    """Paired difference of two schedules' lanes ``[M, N]``; ``None`` where nobody has both."""
    a, b = first.astype(float), second.astype(float)
    both = ~np.isnan(a - b).all(axis=1)
    if not (both.any() and can_be_judged(a) and can_be_judged(b)):
        return None
    found = paired_difference(a[both], b[both])
    middle, lower, upper, error = found.estimate, found.lower, found.upper, found.mc_error
    if measure.ratio:
        middle, lower, upper = (float(np.exp(v)) for v in (middle, lower, upper))
        error *= middle
    first_is_lower = found.probability_a_safer
    better = first_is_lower if measure.better == "low" else 1.0 - first_is_lower
    return Contrast(middle, lower, upper, error, better)


def every_measure(doses: Sequence[Measure]) -> dict[str, Measure]:
    """Measures of a menu by name."""
    return {**MEASURES, **{one.name: one for one in doses}}
