"""Endpoints from daily counts: recovery, nadirs, grades, responses, toxicity, early death.

Definitions are cards: ``models/rules`` for responses, grades and dose-limiting toxicities, and
``models/leukaemia/endpoints.toml`` for what those leave open.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pkpd.errors import PkpdError, sentence
from pkpd.leukaemia.outcomes import ArmOutcomes, DailyCourses
from pkpd.leukaemia.parameters import leukaemia_cards

if TYPE_CHECKING:
    from pkpd.trials import DLTRule, Grades, Improvement, ResponseCriteria

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
    return _first_reached(cumulative_hazard, -np.log(score))


@njit(nogil=True, error_model="numpy", cache=True)
def _first_reached(cumulative_hazard: np.ndarray, limit: np.ndarray) -> np.ndarray:
    n, days = cumulative_hazard.shape
    day = np.full(n, np.inf)
    for i in range(n):
        if days == 0 or cumulative_hazard[i, days - 1] < limit[i]:
            continue  # a cumulative hazard only rises
        for j in range(days):
            if cumulative_hazard[i, j] >= limit[i]:
                day[i] = max(j, 1)
                break
    return day


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


@lru_cache(maxsize=16)
def _response_table(criteria: ResponseCriteria) -> tuple[Floats, Floats]:
    """Responses as numbers ``[R, 9]``, and their counts ``[R, criteria, 2]`` (line, at least)."""
    rules = criteria.responses
    numbers = np.zeros((len(rules), 9))
    widest = max((len(rule.criteria) for rule in rules), default=0)
    counts = np.zeros((len(rules), max(widest, 1), 2))
    for r, rule in enumerate(rules):
        limit = np.inf if rule.marrow_blasts_below is None else rule.marrow_blasts_below
        circulating = definition("blood_blasts_detected") if rule.no_circulating_blasts else np.inf
        cells = definition("marrow_cells_needed") if rule.marrow_not_aplastic else -np.inf
        numbers[r] = (
            rule.marrow_blasts_from, limit, rule.marrow_limit_included, rule.marrow_blasts_fall,
            circulating, cells, len(rule.criteria), rule.join == "any",
            max(round(7.0 * rule.for_weeks), 1),
        )  # fmt: skip
        for k, criterion in enumerate(rule.criteria):
            counts[r, k] = (criterion.line != "neutrophils", criterion.at_least)
    return numbers, counts


@njit(nogil=True, error_model="numpy", cache=True)
def _reached(
    criteria: np.ndarray, r: int, needed: int, one_is_enough: bool, anc: float, plt: float
) -> bool:
    """Whether counts meet the criteria of response ``r``."""
    reached = 0
    for k in range(needed):
        reached += (plt if criteria[r, k, 0] != 0.0 else anc) >= criteria[r, k, 1]
    return needed == 0 or (reached > 0 if one_is_enough else reached == needed)


@njit(nogil=True, error_model="numpy", cache=True)
def _best(
    rules: np.ndarray, criteria: np.ndarray, first: np.ndarray, last: np.ndarray,
    blasts: np.ndarray, blood: np.ndarray, cells: np.ndarray, neutrophils: np.ndarray,
    platelets: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    n, days = blasts.shape
    code, day = np.zeros(n, np.int8), np.full(n, np.inf)
    for i in range(n):
        for r in range(rules.shape[0]):
            least, most, included = rules[r, 0], rules[r, 1], rules[r, 2] != 0.0
            if rules[r, 3] > 0.0:
                fallen = (1.0 - rules[r, 3]) * blasts[i, 0]
                if fallen < most:
                    most, included = fallen, True
            blood_below, cells_from = rules[r, 4], rules[r, 5]
            needed, one_is_enough = int(rules[r, 6]), rules[r, 7] != 0.0
            run_needed = int(rules[r, 8])
            run = 0
            # a response that begins on the last day allowed must still last
            for j in range(first[i], min(last[i] + run_needed - 1, days)):
                here = blasts[i, j]
                met = here < most or (included and here == most)
                met = met and here >= least and blood[i, j] < blood_below
                met = met and cells[i, j] >= cells_from
                met = met and _reached(
                    criteria, r, needed, one_is_enough, neutrophils[i, j], platelets[i, j]
                )
                run = run + 1 if met else 0
                if run == run_needed:
                    code[i] = r + 1
                    day[i] = j + 2.0 - run_needed
                    break
            if code[i] > 0:
                break
    return code, day


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
    rules, counts = _response_table(criteria)
    begin = int(np.ceil(definition("first_response_day"))) - 1
    first = np.full(death_day.size, max(begin, 0), dtype=np.int64)
    last = np.floor(np.minimum(death_day, min(by_day, courses.days))).astype(np.int64)
    code, day = _best(
        rules, counts, first, last, courses.marrow_blasts, courses.blood_blasts,
        courses.marrow_cells, courses.neutrophils, courses.platelets,
    )  # fmt: skip
    return code, day, ("none", *(r.code for r in criteria.responses))


def improvement(
    courses: DailyCourses,
    death_day: Floats,
    criteria: ResponseCriteria,
    code: str,
    for_days: int | None = None,
) -> NDArray[np.bool_]:
    """Whether each patient has a haematological improvement such as ``HI-N`` or ``HI-P``.

    Parameters and errors as `improvement_day`.
    """
    return np.isfinite(improvement_day(courses, death_day, criteria, code, for_days))


def improvement_day(
    courses: DailyCourses,
    death_day: Floats,
    criteria: ResponseCriteria,
    code: str,
    for_days: int | None = None,
) -> Floats:
    """Day on which a haematological improvement such as ``HI-N`` or ``HI-P`` begins.

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

    Returns
    -------
    float[N]
        Protocol day; infinite without an improvement that lasts, NaN for a count that is not low
        enough at the start to improve.

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
    day = np.where(lasting.any(axis=1), lasting.argmax(axis=1) + 1.0, np.inf)
    return np.where(base[:, 0] < rule.baseline_below, day, np.nan)


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
