"""From the course of a cohort's lanes, of any marrow, to the endpoints of each lane."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.comparison.delivery import delivery
from pkpd.course.course import Course
from pkpd.endpoints.clock import (
    Clock,
    ClockDays,
    clock_days,
    clock_of,
    due_days,
    has_further_cycle,
    rule_days,
)
from pkpd.endpoints.definitions import THRESHOLDS, recovery_definition
from pkpd.endpoints.dlt import DLTStatus, evaluate_rule, sensitivity
from pkpd.endpoints.grades import grade
from pkpd.endpoints.recovery import (
    RecoveryDefinition,
    RecoverySeen,
    days_below,
    nadir,
    recoveries_after,
    recovery_after,
    recovery_days,
    recovery_of_cycle,
)
from pkpd.endpoints.resolution import Resolution, Visits
from pkpd.endpoints.results import Recovery, RecoveryStatus
from pkpd.endpoints.split import split, split_days
from pkpd.schedule import DosingPlan
from pkpd.trials import DLTRule, Grades

Key = tuple[str, str, str]

RESOLUTION: Resolution = "morning"
"""With which counts cohorts are compared."""

BY_DAYS = (42.0, 45.0, 49.0, 56.0)
"""Days of the sensitivity table; the day of a trial's own rule is added (`grid_days`)."""

SUSTAINED_DAYS = 7.0
"""How long a count must stay at its threshold to count as sustained."""

FEWEST_EVALUABLE = 0.01
"""Share of lanes that a rule must be able to judge; with fewer no risk is given."""


def evaluable(matrix: NDArray[Any]) -> NDArray[Any]:
    """Draws in which at least one patient has a verdict, as the estimates ask for.

    A gate may keep every patient of a draw from the course whose days a rule counts.
    """
    return matrix[~np.isnan(matrix).all(axis=1)]


def judged(matrix: NDArray[Any]) -> float:
    """Share of the lanes of a matrix [draws, patients] that have a verdict."""
    return float(1.0 - np.isnan(matrix).mean()) if matrix.size else 0.0


def can_be_judged(matrix: NDArray[Any]) -> bool:
    """Whether enough lanes have a verdict for a risk to mean anything."""
    return judged(matrix) >= FEWEST_EVALUABLE


def grid_days(rules: Iterable[DLTRule], asked: Iterable[float] = ()) -> tuple[float, ...]:
    """Days of the sensitivity grid of a trial: the usual ones, those of its rules, and others."""
    own = {float(rule.by_day or 0) for rule in rules if rule.kind == "not_recovered"}
    return tuple(sorted({*BY_DAYS, *own, *map(float, asked)}))


def grid_cell(rule: DLTRule, by_days: tuple[float, ...] = BY_DAYS) -> tuple[int, int, int] | None:
    """Place of a rule in the sensitivity grid, or ``None`` if the grid does not hold it."""
    wanted = {criterion.line: criterion.at_least for criterion in rule.criteria}
    if rule.kind != "not_recovered" or set(wanted) != set(THRESHOLDS):
        return None
    axes = [(THRESHOLDS[line], wanted[line]) for line in THRESHOLDS]
    axes.append((by_days, float(rule.by_day or 0)))
    if any(value not in axis for axis, value in axes):
        return None
    first, second, day = (axis.index(value) for axis, value in axes)
    return first, second, day


@dataclass(frozen=True)
class LaneEndpoints:
    """Endpoints of the lanes of a course.

    Attributes
    ----------
    values
        ``(endpoint, line, rule)`` → float[L]; days since the main clock, infinite when not
        reached within the horizon, NaN when not evaluable.
    recovered_on
        ``(line, threshold)`` → days since the first dose of the trial, infinite when censored.
    dlt
        Clock name → 1, 0, NaN.
    reasons
        Clock name → `pkpd.endpoints.dlt.DLTStatus` of each lane.
    sensitivity
        ``[2, 4, K, L]`` 1, 0, NaN, by threshold of neutrophils, of platelets, and day; empty of a
        brief look, and where a line is missing.
    split
        ``[L, D]`` state of each lane on every morning, an index into ``states``.
    states
        `pkpd.endpoints.split.STATES`, or those of a marrow without blasts.
    """

    values: dict[Key, Floats]
    recovered_on: dict[tuple[str, float], Floats]
    dlt: dict[str, Floats]
    reasons: dict[str, NDArray[np.int8]]
    sensitivity: NDArray[np.float32]
    split: NDArray[np.int8]
    states: tuple[str, ...]


def grade_words(grades: Grades, line: str, at_least: int) -> str:
    """Limit below which a grade begins, such as ``< 0.5``."""
    scale = grades.scale(line)
    limit = scale.below[at_least - 1]
    return f"< {100 * limit:g} % of start" if scale.relative else f"< {limit:g}"


def reported(lines: Container[str]) -> tuple[str, ...]:
    """Lines of a marrow whose recovery is reported: a fit may be of one of them alone."""
    return tuple(line for line in THRESHOLDS if line in lines)


def split_thresholds(rule: DLTRule | None, lines: Container[str]) -> dict[str, float]:
    """Name the counts (10^9/L) that mean recovery in the split: the rule's, else the lowest."""
    if rule is not None and rule.kind.startswith("not_recovered"):
        return {criterion.line: criterion.at_least for criterion in rule.criteria}
    return {line: THRESHOLDS[line][0] for line in reported(lines)}


@dataclass(frozen=True)
class CohortLook:
    """Reads the endpoints of one cohort off the course of its lanes.

    Attributes
    ----------
    plan
        Dosing plan of the cohort.
    rules
        The count rule, once for each clock; the first is the main one.
    grades
        Whose grades 3 and 4 are reported.
    visit_days
        Protocol days on which counts are taken.
    brief
        Whether what visits see, recovery in remission and the grid of other rules are left out.
    by_days
        Days of that grid.
    """

    plan: DosingPlan
    rules: tuple[DLTRule, ...]
    grades: Grades
    visit_days: tuple[int, ...]
    brief: bool = False
    by_days: tuple[float, ...] = BY_DAYS

    @cached_property
    def _clock(self) -> Clock:
        """Clock of the main rule, with the day of its look."""
        rule = self.rules[0]
        return clock_of(self.plan, rule.clock, rule.by_day)

    @cached_property
    def _clocks(self) -> tuple[Clock, ...]:
        return tuple(clock_of(self.plan, rule.clock, rule.by_day) for rule in self.rules)

    @cached_property
    def _further(self) -> bool:
        return has_further_cycle(self.plan, self._clock)

    def __call__(self, course: Course) -> LaneEndpoints:
        """Compute all endpoints of a course."""
        rule, clock = self.rules[0], self._clock
        days = clock_days(course, clock)
        start = days.start
        on_visits: dict[tuple[str, float], RecoverySeen] = {}
        defined = recovery_definition(rule)
        values: dict[Key, Floats] = {}
        recovered_on: dict[tuple[str, float], Floats] = {}
        found: dict[str, RecoverySeen] = {}
        lines = reported(course.mornings)
        for line in lines:
            values |= self._counts(course, line, clock, start)
            found[line], seen, lasting = self._recovery(course, line, days, defined)
            for name, recovery in (("recovery_day", seen), ("sustained_recovery_day", lasting)):
                back = recovery_days(recovery)
                for k, threshold in enumerate(THRESHOLDS[line]):
                    values[name, line, f">= {threshold:g}"] = back[k]
                    if name == "recovery_day":
                        recovered_on[line, threshold] = back[k] + start
            for name, share in _otherwise(course, seen, days, self._further).items():
                for k, threshold in enumerate(THRESHOLDS[line]):
                    values[name, line, f">= {threshold:g}"] = share[k]
            if self.brief:
                continue
            on_visits |= self._on_visits(course, line, days, defined)
            lowest = THRESHOLDS[line][0]
            recovery = recovery_of_cycle(on_visits[line, lowest], days.falls_until - start)
            back = recovery_days(recovery)[0]
            values["recovery_day_on_visits", line, f">= {lowest:g}"] = back
        at = split_thresholds(rule, lines)
        own = {line: count for line, count in at.items() if count not in THRESHOLDS.get(line, ())}
        values |= self._back(course, days, defined, own)
        alive = np.arange(course.days)[None, :] < course.mornings_alive[:, None]
        if "platelets" in lines:
            transfusions = (course.transfused & alive).sum(axis=1)
            values["platelet_transfusions", "platelets", ""] = transfusions.astype(float)
        whole = not self.brief and len(lines) == len(THRESHOLDS)
        grid = self._grid(course, days, found) if whole else None
        dlt, reasons = {}, {}
        for number, one in enumerate(self.rules):
            if not one.can_be_simulated:
                continue
            cell = None if grid is None or number else grid_cell(one, self.by_days)
            of_grid = None if grid is None or cell is None else grid[cell]
            status = self._status(course, number) if of_grid is None else of_grid
            reasons[one.clock], dlt[one.clock] = status, _outcome(status)
        if rule.can_be_simulated and not self.brief:
            values |= self._rule_otherwise(course, rule, days, on_visits)
        values |= delivery(course, self.plan)
        state = split(course, at, untransfused_days=defined.untransfused_days)
        for day in split_days(course.days):
            for s, name in enumerate(state.states):
                here = (state.state[:, day] == s).astype(float)
                values["split", "", f"day {day}: {name}"] = here
        others = np.empty(0) if grid is None else _outcome(grid)
        return LaneEndpoints(
            values, recovered_on, dlt, reasons, others.astype(np.float32), state.state, state.states
        )

    def curves(self, course: Course) -> LaneEndpoints:
        """Recovery to the counts of the main rule, and what lanes are on mornings, alone."""
        defined = recovery_definition(self.rules[0])
        at = split_thresholds(self.rules[0], reported(course.mornings))
        back = self._back(course, clock_days(course, self._clock), defined, at)
        found = split(course, at, untransfused_days=defined.untransfused_days)
        return LaneEndpoints(back, {}, {}, {}, np.empty(0, np.float32), found.state, found.states)

    def verdict(self, course: Course) -> Floats | None:
        """Verdict of the main rule alone: 1, 0, NaN; as ``dlt`` of all endpoints has it."""
        return _outcome(self._status(course, 0)) if self.rules[0].can_be_simulated else None

    def _status(self, course: Course, number: int) -> NDArray[np.int8]:
        begin, last, stop, _ = rule_days(course, self._clocks[number])
        return evaluate_rule(
            self.rules[number], course, resolution=RESOLUTION, start=begin, search=last, until=stop,
            due=due_days(course, self._clocks[number]),
        ).status  # fmt: skip

    def _grid(
        self, course: Course, days: ClockDays, found: Mapping[str, RecoverySeen]
    ) -> NDArray[np.int8]:
        """Verdicts "not recovered by day" over thresholds and days, ``[2, 4, K, L]``."""
        rule, clock = self.rules[0], self._clock
        by_days = self.by_days
        status = np.empty((*map(len, THRESHOLDS.values()), len(by_days), course.lanes), np.int8)
        # a look before the cycle's planned last dose looks from the last before it
        clocks = [clock_of(self.plan, rule.clock, d) for d in by_days]
        lasts = np.array([one.last_before_look for one in clocks])
        for last in np.unique(lasts):
            here = np.flatnonzero(lasts == last)
            same = last == clock.last_dose_day
            status[..., here, :] = sensitivity(
                course, by_days=[by_days[k] for k in here],
                join="all" if rule.join == "all" else "any", resolution=RESOLUTION,
                definition=recovery_definition(rule), no_leukaemia=rule.no_leukaemia,
                start=days.start, search=rule_days(course, clocks[here[0]]).search,
                until=days.until, found=found if same else None, due=due_days(course, clock),
            ).status  # fmt: skip
        return status

    def _counts(self, course: Course, line: str, clock: Clock, start: Floats) -> dict[Key, Floats]:
        """Nadirs, grades and counts of the laboratory, and days with a low own count."""
        values: dict[Key, Floats] = {}
        lowest = THRESHOLDS[line][0]
        value, day = nadir(course, line, resolution=RESOLUTION)
        # since the first dose of the trial, whichever course the rule counts from
        first = np.where(course.first_day[:, 0] > 0, course.first_day[:, 0] - 1.0, np.nan)
        values["nadir", line, ""] = value
        values["nadir_day", line, ""] = day - first - max(clock.first_doses[0], 0)
        below, _ = days_below(course, line, lowest, resolution=RESOLUTION)
        values["days_below", line, f"< {lowest:g}"] = below
        before = course.laboratory(line)[:, 0]
        worst = grade(self.grades, line, value, baseline=before)
        for name, from_grade in (("grade_3_4", 3), ("grade_4", 4)):
            values[name, line, grade_words(self.grades, line, from_grade)] = np.where(
                worst < 0, np.nan, worst >= from_grade
            )
        if clock.name == "first_dose":
            return values
        words = f"from {clock.name} day 1"
        value, day = nadir(course, line, resolution=RESOLUTION, start=start)
        values["nadir", line, words], values["nadir_day", line, words] = value, day
        values["count_at_clock", line, clock.name] = count_on(course, line, start)
        return values

    def _recovery(
        self, course: Course, line: str, days: ClockDays, defined: RecoveryDefinition
    ) -> tuple[RecoverySeen, Recovery, Recovery]:
        """Recovery as the rule means it, that of the cycle, and one of it that lasts."""
        lasting = RecoveryDefinition(SUSTAINED_DAYS, defined.untransfused_days, defined.consecutive)
        seen, lasts = recoveries_after(
            course, line, THRESHOLDS[line], (defined, lasting), resolution=RESOLUTION,
            start=days.start, search=days.search, until=days.until,
        )  # fmt: skip
        falls_until = days.falls_until - days.start
        return seen, recovery_of_cycle(seen, falls_until), recovery_of_cycle(lasts, falls_until)

    def _back(
        self,
        course: Course,
        days: ClockDays,
        defined: RecoveryDefinition,
        thresholds: Mapping[str, float],
    ) -> dict[Key, Floats]:
        """Recovery to one threshold of each line."""
        values: dict[Key, Floats] = {}
        for line, threshold in thresholds.items():
            seen = recovery_after(
                course, line, threshold, resolution=RESOLUTION, definition=defined,
                start=days.start, search=days.search, until=days.until,
            )  # fmt: skip
            back = recovery_days(recovery_of_cycle(seen, days.falls_until - days.start))[0]
            values["recovery_day", line, f">= {threshold:g}"] = back
        return values

    def _visits(self, course: Course) -> Visits:
        last = course.days - 1
        return Visits(tuple(d - 1.0 for d in self.visit_days if d - 1 <= last))

    def _on_visits(
        self, course: Course, line: str, days: ClockDays, defined: RecoveryDefinition
    ) -> dict[tuple[str, float], RecoverySeen]:
        """Recovery as visits see it, at the lowest threshold and at those of the main rule."""
        asked = [c.at_least for c in self.rules[0].criteria if c.line == line]
        levels = tuple(dict.fromkeys((THRESHOLDS[line][0], *asked)))
        seen = recovery_after(
            course, line, levels, resolution=self._visits(course), definition=defined,
            start=days.start, search=days.search, until=days.until,
        )  # fmt: skip
        return {(line, level): seen.at(k) for k, level in enumerate(levels)}

    def _rule_otherwise(
        self,
        course: Course,
        rule: DLTRule,
        days: ClockDays,
        seen: Mapping[tuple[str, float], RecoverySeen],
    ) -> dict[Key, Floats]:
        """Verdict of the rule as visits see it, and where a marrow without drug breaks it."""
        values: dict[Key, Floats] = {}
        if course.set_point:
            low = [course.set_point[c.line] < c.at_least for c in rule.criteria]
            join = np.all if rule.join == "all" else np.any
            values["dlt_at_any_dose", "", rule.name] = join(low, axis=0).astype(float)
        same = self._clock.last_before_look == self._clock.last_dose_day
        on_visits = evaluate_rule(
            rule, course, resolution=self._visits(course), start=days.start,
            search=rule_days(course, self._clock).search, until=days.until,
            found=seen if same else None,
        )  # fmt: skip
        values["dlt_on_visits", "", rule.name] = on_visits.outcome
        return values


def _outcome(status: NDArray[np.int8]) -> Floats:
    return np.where(status <= DLTStatus.DLT, status == DLTStatus.DLT, np.nan)


def _otherwise(
    course: Course, recovery: Recovery, days: ClockDays, further: bool
) -> dict[str, Floats]:
    """Who was never low, back before the planned last dose, not by the next cycle, ``[H, L]``.

    The last only where a further cycle is planned; the dead have no next cycle.
    """
    ever = ~np.isnan(days.start)
    shares = {
        "never_low": recovery.status == RecoveryStatus.NEVER_BELOW,
        "back_before_last_dose": recovery.status == RecoveryStatus.BACK_BEFORE,
    }
    if further:
        not_back = np.isinf(recovery_days(recovery))
        begins = days.until <= np.minimum(course.days - 1.0, course.death_day - 1.0)
        shares["not_before_next_cycle"] = not_back & begins
    return {name: np.where(ever, share, np.nan) for name, share in shares.items()}


def count_on(course: Course, line: str, day: Floats) -> Floats:
    """Own count (10^9/L) on each lane's day since the first morning, ``[L]``; NaN without one."""
    counts = course.own(line)
    column = np.clip(np.nan_to_num(day), 0, course.days - 1).astype(np.int64)
    told = ~np.isnan(day) & (day < course.days)
    return np.where(told, counts[np.arange(course.lanes), column], np.nan)


def shares_by_morning(state: NDArray[np.int8], states: int) -> Floats:
    """Share of the lanes in each state on each morning, ``[S, D]``."""
    return np.array([(state == s).mean(axis=0) for s in range(states)])
