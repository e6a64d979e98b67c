"""Endpoints from daily counts: recovery, nadirs, grades, responses, toxicity, early death.

Definitions are cards: ``models/rules`` for responses, grades and dose-limiting toxicities, and
``models/leukaemia/endpoints.toml`` for what those leave open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pkpd.errors import PkpdError, sentence
from pkpd.leukaemia.outcomes import ArmOutcomes, DailyCourses
from pkpd.leukaemia.parameters import leukaemia_cards

if TYPE_CHECKING:
    from pkpd.trials import DLTRule, Grades, Improvement, Response, ResponseCriteria

Floats = NDArray[np.float64]

_LEUKAEMIC = 5.0  # percent of marrow blasts from which a marrow has leukaemia


def definition(name: str) -> float:
    """Read one number of the card ``models/leukaemia/endpoints.toml``."""
    return leukaemia_cards().parameters[name].value


def death_days(cumulative_hazard: Floats, score: Floats) -> Floats:
    """Protocol day of death, ``inf`` if alive at the horizon.

    Parameters
    ----------
    cumulative_hazard
        ``[N, D]`` on the mornings.
    score
        ``[N]`` uniform numbers: death comes when ``exp(-H)`` falls below.
    """
    dead = cumulative_hazard >= -np.log(score)[:, None]
    return np.where(dead.any(axis=1), np.maximum(dead.argmax(axis=1), 1), np.inf)


@njit(nogil=True, error_model="numpy", cache=True)
def spells(counts: np.ndarray, thresholds: np.ndarray, last: np.ndarray, run: int) -> np.ndarray:
    """Low counts and recoveries from them.

    Parameters
    ----------
    counts
        ``[N, D]`` on the mornings.
    thresholds
        ``[H]``.
    last
        ``[N]`` number of mornings that count (until death).
    run
        Days in a row at or above the threshold that make a recovery.

    Returns
    -------
    float[4, H, N]
        Day of recovery (``nan`` never below, ``inf`` not recovered), first day below (``inf``
        never), days below, longest run of them.
    """
    n, levels = counts.shape[0], thresholds.size
    found = np.empty((4, levels, n))
    for i in range(n):
        for k in range(levels):
            limit = thresholds[k]
            recovered, first = np.inf, np.inf
            below, longest, low, high = 0, 0, 0, 0
            for j in range(last[i]):
                if counts[i, j] < limit:
                    below += 1
                    low += 1
                    high = 0
                    longest = max(longest, low)
                    if first == np.inf:
                        first = j + 1.0
                else:
                    low = 0
                    high += 1
                    if high == run and below > 0 and recovered == np.inf:
                        recovered = j + 2.0 - run
            found[0, k, i] = recovered if below > 0 else np.nan
            found[1, k, i] = first
            found[2, k, i] = below
            found[3, k, i] = longest
    return found


@njit(nogil=True, error_model="numpy", cache=True)
def lowest(counts: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest count of each patient's first ``last`` mornings, and its protocol day."""
    n = counts.shape[0]
    value, day = np.empty(n), np.empty(n)
    for i in range(n):
        value[i], day[i] = counts[i, 0], 1.0
        for j in range(1, last[i]):
            if counts[i, j] < value[i]:
                value[i], day[i] = counts[i, j], j + 1.0
    return value, day


def grades_of(counts: Floats, baseline: Floats, grades: Grades, line: str) -> NDArray[np.int8]:
    """Grade 0 to 4 of counts, ``[N]``."""
    scale = grades.scale(line)
    value = counts / baseline if scale.relative else counts
    grade = sum((value < limit).astype(np.int8) for limit in scale.below)
    assert isinstance(grade, np.ndarray)
    return np.where(counts < scale.always_grade_4_below, np.int8(4), grade)


def _runs(met: NDArray[np.bool_], days: int) -> NDArray[np.bool_]:
    """Days from which a condition holds for so many days in a row, ``[N, D]``."""
    if days <= 1:
        return met
    total = np.cumsum(met, axis=1, dtype=np.int64)
    before = np.concatenate([np.zeros((met.shape[0], 1), np.int64), total], axis=1)
    kept = np.zeros_like(met)
    if met.shape[1] >= days:
        kept[:, : met.shape[1] - days + 1] = before[:, days:] - before[:, :-days] == days
    return kept


def _meets(courses: DailyCourses, response: Response) -> NDArray[np.bool_]:
    """Days on which one response category is met, ``[N, D]``."""
    blasts = courses.marrow_blasts
    met = blasts >= response.marrow_blasts_from
    if response.marrow_blasts_below is not None:
        limit = response.marrow_blasts_below
        met &= (blasts <= limit) if response.marrow_limit_included else (blasts < limit)
    if response.marrow_blasts_fall > 0.0:
        met &= blasts <= (1.0 - response.marrow_blasts_fall) * blasts[:, :1]
    if response.no_circulating_blasts:
        met &= courses.blood_blasts < definition("blood_blasts_detected")
    if response.marrow_not_aplastic:
        met &= courses.marrow_cells >= definition("marrow_cells_needed")
    if response.criteria:
        reached = [
            (courses.neutrophils if c.line == "neutrophils" else courses.platelets) >= c.at_least
            for c in response.criteria
        ]
        met &= np.any(reached, axis=0) if response.join == "any" else np.all(reached, axis=0)
    return _runs(np.asarray(met), round(7.0 * response.for_weeks))


def best_response(
    courses: DailyCourses, death_day: Floats, criteria: ResponseCriteria, by_day: float = np.inf
) -> tuple[NDArray[np.int8], Floats, tuple[str, ...]]:
    """Best response of each patient by a day, while alive.

    Parameters
    ----------
    courses
        Daily counts.
    death_day
        ``[N]``.
    criteria
        Response criteria; the first category that is ever met is the best.
    by_day
        Protocol day by which the response must begin.

    Returns
    -------
    code : int8[N]
        Index into ``codes``; 0 is no response.
    day : float[N]
        Day it began, ``inf`` for none.
    codes
        ``("none", ...)`` in the order of the criteria.
    """
    days = np.arange(1, courses.days + 1)
    allowed = (days >= definition("first_response_day")) & (days <= by_day)
    allowed = allowed[None, :] & (days[None, :] <= death_day[:, None])
    code = np.zeros(death_day.size, dtype=np.int8)
    day = np.full(death_day.size, np.inf)
    for index, response in enumerate(criteria.responses, start=1):
        met = _meets(courses, response) & allowed
        new = (code == 0) & met.any(axis=1)
        code[new] = index
        day[new] = met[new].argmax(axis=1) + 1.0
    return code, day, ("none", *(r.code for r in criteria.responses))


def improvement(
    courses: DailyCourses,
    death_day: Floats,
    criteria: ResponseCriteria,
    code: str,
    for_days: int | None = None,
) -> NDArray[np.bool_]:
    """Whether each patient has a haematological improvement such as ``HI-N`` or ``HI-P``.

    Parameters
    ----------
    courses, death_day
        Of the arm.
    criteria
        Criteria with improvements (IWG 2006).
    code
        Its code.
    for_days
        How long it must last; as the criteria say if not given.

    Raises
    ------
    PkpdError
        If the criteria have no such improvement.
    """
    rule = _improvement(criteria, code)
    counts = courses.neutrophils if rule.line == "neutrophils" else courses.platelets
    base = counts[:, :1]
    met = np.zeros(counts.shape, dtype=bool)
    applies = np.full(base.shape, -1.0)
    for step in sorted(rule.steps, key=lambda s: s.baseline_above):
        here = base > step.baseline_above
        enough = (
            (counts - base >= step.rise)
            & (counts >= (1.0 + step.rise_fraction) * base)
            & (counts > step.end_above)
        )
        met = np.where(here, enough, met)
        applies = np.where(here, step.baseline_above, applies)
    met &= (base < rule.baseline_below) & (applies >= 0.0)
    days = np.arange(1, courses.days + 1)
    met &= days[None, :] <= death_day[:, None]
    lasting = _runs(met, round(7.0 * rule.for_weeks) if for_days is None else for_days)
    return np.any(lasting, axis=1)


def _improvement(criteria: ResponseCriteria, code: str) -> Improvement:
    for rule in criteria.improvements:
        if rule.code == code:
            return rule
    msg = sentence(
        where=f"criteria {criteria.name}",
        what=f"no improvement {code!r}",
        allowed=", ".join(rule.code for rule in criteria.improvements) or "none",
    )
    raise PkpdError(msg)


def dlt_verdict(outcomes: ArmOutcomes, rule: DLTRule) -> Floats:
    """Verdict of a dose-limiting toxicity rule on the patients of an arm.

    Parameters
    ----------
    outcomes
        Of the arm.
    rule
        Rule with count thresholds; days are counted from its clock.

    Returns
    -------
    float[N]
        1 toxicity, 0 none; ``nan`` where the patient died before the day of the look without
        having shown it, the clock's course never began, or the horizon is too short.

    Raises
    ------
    PkpdError
        If the rule has no count threshold, or its clock is not a course of the arm.
    """
    if not rule.can_be_simulated or rule.by_day is None:
        msg = sentence(where=f"rule {rule.name}", what="it has no count threshold")
        raise PkpdError(msg)
    courses = outcomes.courses
    if rule.clock == "first_dose":
        day_1 = np.ones(outcomes.n)
    elif rule.clock in courses.course_names:
        day_1 = courses.first_day[:, courses.course_names.index(rule.clock)].astype(np.float64)
    else:
        msg = sentence(
            where=f"rule {rule.name}",
            what=f"its clock {rule.clock!r} is no course of arm {outcomes.name}",
            allowed=", ".join(("first_dose", *courses.course_names)),
        )
        raise PkpdError(msg)
    started = day_1 > 0.0
    look = day_1 + rule.by_day - 1.0
    days = np.arange(1, courses.days + 1)[None, :]
    alive = days <= outcomes.death_day[:, None]
    window = (days >= day_1[:, None]) & (days <= look[:, None])
    failed = []
    for k, criterion in enumerate(rule.criteria):
        own = courses.neutrophils if criterion.line == "neutrophils" else courses.platelets
        low = own < criterion.at_least
        if rule.kind.startswith("low_count"):
            needed = max(1, int(np.ceil(rule.duration_days[k])))
            failed.append(_runs(low & window & alive, needed).any(axis=1))
            continue
        limit = rule.nadir_below[k] if rule.nadir_below else criterion.at_least
        ever = np.logical_or.accumulate((own < limit) & window, axis=1)
        good = ~low
        if criterion.line == "platelets" and rule.untransfused_days > 0:
            good &= ~_within(courses.transfused, rule.untransfused_days)
        good = _runs(good, max(1, int(np.ceil(rule.sustained_days)), rule.consecutive_visits))
        recovered = (good & ever & window).any(axis=1)
        failed.append(ever.any(axis=1) & ~recovered)
    event = np.any(failed, axis=0) if rule.join == "any" else np.all(failed, axis=0)
    if rule.kind == "low_count_or_transfusion":
        event |= _often(courses.transfused & window & alive, rule)
    if rule.no_leukaemia:
        column = np.clip(look, 1, courses.days).astype(np.int64) - 1
        event &= courses.marrow_blasts[np.arange(outcomes.n), column] < _LEUKAEMIC
    at_once = rule.kind.startswith("low_count")
    told = started & (look <= courses.days)
    told &= (outcomes.death_day >= look) | (event if at_once else False)
    return np.where(told, event.astype(np.float64), np.nan)


def _within(transfused: NDArray[np.bool_], days: int) -> NDArray[np.bool_]:
    """Whether there was a transfusion on the day or in so many days before it."""
    total = np.cumsum(transfused, axis=1, dtype=np.int64)
    earlier = np.zeros_like(total)
    earlier[:, days + 1 :] = total[:, : -days - 1]
    return total > earlier


def _often(transfused: NDArray[np.bool_], rule: DLTRule) -> NDArray[np.bool_]:
    total = np.cumsum(transfused, axis=1, dtype=np.int64)
    earlier = np.zeros_like(total)
    earlier[:, rule.transfusion_window_days :] = total[:, : -rule.transfusion_window_days]
    return np.any(total - earlier >= rule.transfusion_days, axis=1)
