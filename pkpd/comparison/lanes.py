"""From the counts of a chunk of lanes to the endpoints of each lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.course.simulate import NodeSolution
from pkpd.endpoints.dlt import evaluate_rule, sensitivity
from pkpd.endpoints.line_verdict import recovery_after
from pkpd.endpoints.recovery import Recovery, RecoveryStatus, line_outcomes, visit_recovery
from pkpd.schedule import DosingPlan
from pkpd.trials import DLTRule

Floats = NDArray[np.float64]

THRESHOLDS = {"neutrophils": (0.5, 1.0), "platelets": (20.0, 25.0, 50.0, 100.0)}
"""Counts (10^9/L) whose recovery is reported."""

BY_DAYS = (42.0, 45.0, 49.0, 56.0)
"""Days of the sensitivity table."""

SUSTAINED_DAYS = 7.0
"""How long a count must stay at its threshold to count as sustained."""

UNTRANSFUSED_DAYS = 7.0
"""Days without platelet transfusion before platelets count as recovered."""


def evaluable(matrix: NDArray[Any]) -> NDArray[Any]:
    """Draws in which at least one patient has a verdict, as the estimates ask for.

    A gate may keep every patient of a draw from the course whose days a rule counts.
    """
    return matrix[~np.isnan(matrix).all(axis=1)]


@dataclass(frozen=True)
class Clock:
    """Where a rule's days start, and from where recovery is looked for.

    ``course`` is an index into the plan's courses; ``last_dose_day`` counts from the course's
    first day (0) and is the last dosing day of its first cycle.
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


def clock_hours(solution: NodeSolution, clock: Clock) -> tuple[Floats, Floats]:
    """Hours of each lane's clock start and last dose; NaN where the course never began."""
    first = solution.first_day[:, clock.course].astype(float)
    first[first < 0] = np.nan
    return 24.0 * (first + clock.first_dose_day), 24.0 * (first + clock.last_dose_day)


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


def grid_cell(rule: DLTRule) -> tuple[int, int, int] | None:
    """Place of a rule in the sensitivity grid, or ``None`` if the grid does not hold it."""
    wanted = {criterion.line: criterion.at_least for criterion in rule.criteria}
    if rule.kind != "not_recovered" or set(wanted) != set(THRESHOLDS):
        return None
    axes = [(THRESHOLDS[line], wanted[line]) for line in THRESHOLDS]
    axes.append((BY_DAYS, float(rule.by_day or 0)))
    if any(value not in axis for axis, value in axes):
        return None
    first, second, day = (axis.index(value) for axis, value in axes)
    return first, second, day


@dataclass(frozen=True)
class LaneEndpoints:
    """Endpoints of the lanes of a chunk.

    Attributes
    ----------
    values
        ``(endpoint, line, rule)`` → float[L]; days since the main clock, infinite when not
        reached within the horizon, NaN when not evaluable.
    recovered_on
        ``(line, threshold)`` → days since the first dose of the trial, infinite when censored.
    dlt
        Clock name → 1, 0, NaN.
    sensitivity
        ``[2, 4, 4, L]`` 1, 0, NaN, by threshold of neutrophils, of platelets, and day.
    """

    values: dict[tuple[str, str, str], Floats]
    recovered_on: dict[tuple[str, float], Floats]
    dlt: dict[str, Floats]
    sensitivity: NDArray[np.float32]


def lane_endpoints(
    solution: NodeSolution,
    plan: DosingPlan,
    rules: tuple[DLTRule, ...],
    visit_days: tuple[int, ...],
    grade_limits: dict[str, tuple[float, float]],
) -> LaneEndpoints:
    """Compute all endpoints of a chunk.

    Parameters
    ----------
    solution
        Counts of the chunk.
    plan
        Dosing plan of the cohort.
    rules
        The count rule, once for each clock; the first is the main one.
    visit_days
        Protocol days on which counts are taken.
    grade_limits
        Line → counts below which grade 3 and grade 4 begin, 10^9/L.
    """
    values: dict[tuple[str, str, str], Floats] = {}
    recovered_on: dict[tuple[str, float], Floats] = {}
    found: dict[str, tuple[Recovery, Floats, Floats]] = {}
    main = clock_of(plan, rules[0].clock)
    start, search = clock_hours(solution, main)
    since_first_dose = np.asarray(visit_days, dtype=float) - 1.0
    end = solution.time_h[-1]
    late = ~(start < end)
    start, search = np.where(late, np.nan, start), np.where(late, np.nan, np.minimum(search, end))
    for line, limits in grade_limits.items():
        curve = (solution.time_h, solution.log_count[line], solution.slope[line])
        transfused = solution.transfused if line == "platelets" else None
        lowest = THRESHOLDS[line][0]
        windows: list[tuple[str, Floats | float]] = [("", 0.0)]
        if main.name != "first_dose":
            windows.append((f"from {main.name} day 1", start))
        for words, from_h in windows:
            seen = line_outcomes(*curve, lowest, from_h=from_h)
            values["nadir", line, words] = seen.nadir
            values["nadir_day", line, words] = seen.nadir_day
            if words:
                continue
            values["days_below", line, f"< {lowest:g}"] = seen.days_below[0]
            for name, limit in zip(("grade_3_4", "grade_4"), limits, strict=True):
                values[name, line, f"< {limit:g}"] = (seen.nadir < limit).astype(float)
        for endpoint, sustained in (
            ("recovery_day", 0.0),
            ("sustained_recovery_day", SUSTAINED_DAYS),
        ):
            looked = recovery_after(
                solution,
                line,
                THRESHOLDS[line],
                start,
                search,
                sustained_days=sustained,
                untransfused_days=UNTRANSFUSED_DAYS,
            )
            recovery = looked[0]
            days = np.where(recovery.status == RecoveryStatus.CENSORED, np.inf, recovery.day)
            days = np.where(recovery.status == RecoveryStatus.NOT_EVALUABLE, np.nan, days)
            for k, threshold in enumerate(THRESHOLDS[line]):
                values[endpoint, line, f">= {threshold:g}"] = days[k]
                if sustained == 0.0:
                    recovered_on[line, threshold] = days[k] + start / 24.0
            if sustained == 0.0:
                found[line] = looked
        visits = visit_recovery(
            *curve,
            lowest,
            visit_days=since_first_dose,
            from_h=search,
            transfused_day=transfused,
            untransfused_days=UNTRANSFUSED_DAYS,
        )
        moved = np.where(
            visits.status == RecoveryStatus.NEVER_BELOW, 0.0, visits.day + (search - start) / 24.0
        )
        moved = np.where(visits.status == RecoveryStatus.CENSORED, np.inf, moved)
        moved = np.where(visits.status == RecoveryStatus.NOT_EVALUABLE, np.nan, moved)
        values["recovery_day_on_visits", line, f">= {lowest:g}"] = moved
        if main.name != "first_dose":
            day = np.nan_to_num(start / 24.0).astype(int)
            nodes = (solution.time_h.size - 1) // solution.transfused.shape[1]
            at = np.exp(solution.log_count[line][np.arange(day.size), day * nodes])
            values["count_at_clock", line, main.name] = np.where(late, np.nan, at)
    values["platelet_transfusions", "platelets", ""] = solution.transfused.sum(axis=1).astype(float)
    usual = rules[0].sustained_days == 0.0 and rules[0].untransfused_days == UNTRANSFUSED_DAYS
    grid = sensitivity(
        solution,
        thresholds=THRESHOLDS,
        by_days=BY_DAYS,
        join="all" if rules[0].join == "all" else "any",
        clock_h=start,
        search_h=search,
        sustained_days=rules[0].sustained_days,
        untransfused_days=float(rules[0].untransfused_days),
        found=found if usual else None,
    )
    verdicts = np.where(grid.evaluable, grid.event, np.nan).astype(np.float32)
    dlt: dict[str, Floats] = {}
    for number, rule in enumerate(rules):
        if not rule.can_be_simulated:
            continue
        cell = grid_cell(rule) if number == 0 else None
        if cell is not None:
            dlt[rule.clock] = verdicts[cell].astype(float)
            continue
        first, last = clock_hours(solution, clock_of(plan, rule.clock))
        dlt[rule.clock] = evaluate_rule(rule, solution, clock_h=first, search_h=last).outcome
    if rules[0].can_be_simulated:
        low = [solution.set_point[c.line] < c.at_least for c in rules[0].criteria]
        join = np.all if rules[0].join == "all" else np.any
        values["dlt_at_any_dose", "", rules[0].name] = join(low, axis=0).astype(float)
        on_visits = evaluate_rule(
            rules[0],
            solution,
            clock_h=start,
            search_h=search,
            on="visits",
            visit_days=list(since_first_dose),
        )
        values["dlt_on_visits", "", rules[0].name] = on_visits.outcome
    return LaneEndpoints(
        values=values,
        recovered_on=recovered_on,
        dlt=dlt,
        sensitivity=verdicts,
    )
