"""Response to treatment: remission by the criteria of a card, and haematological improvement.

Responses are read on every morning while a lane is alive; one that must last has to last in life.
Days are protocol days: a response of day d is there on the morning of that day, time d - 1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.endpoints.definitions import definition
from pkpd.errors import DataError, PkpdError
from pkpd.kept_code import kept

if TYPE_CHECKING:
    from pkpd.trials import Improvement, ResponseCriteria


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


@kept
def _reached(
    criteria: np.ndarray, r: int, needed: int, one_is_enough: bool, anc: float, plt: float
) -> bool:
    """Whether counts meet the criteria of response ``r``."""
    reached = 0
    for k in range(needed):
        reached += (plt if criteria[r, k, 0] != 0.0 else anc) >= criteria[r, k, 1]
    return needed == 0 or (reached > 0 if one_is_enough else reached == needed)


@kept
def _best(
    rules: np.ndarray, criteria: np.ndarray, first: np.ndarray, last: int, alive: np.ndarray,
    blasts: np.ndarray, blood: np.ndarray, cells: np.ndarray, neutrophils: np.ndarray,
    platelets: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    n = blasts.shape[0]
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
            # a response that begins on the last day allowed must still last, in life
            for j in range(first[i], min(last + run_needed - 1, alive[i])):
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
    course: Course, criteria: ResponseCriteria, by_day: float = np.inf
) -> tuple[NDArray[np.int8], Floats, tuple[str, ...]]:
    """Best response of each patient by a day, while alive.

    Parameters
    ----------
    course
        Of a marrow with blasts.
    criteria
        Response criteria; the first category that is ever met is the best.
    by_day
        Protocol day by which the response must begin.

    Returns
    -------
    code : int8[L]
        Index into ``codes``; 0 is no response.
    day : float[L]
        Day it began, ``inf`` for none.
    codes
        ``("none", ...)`` in the order of the criteria.

    Raises
    ------
    DataError
        If the marrow has no blasts.
    """
    blasts, blood, cells = course.marrow_blasts, course.blood_blasts, course.marrow_cells
    if blasts is None or blood is None or cells is None:
        raise DataError(where="response", what="this marrow has no blasts")
    rules, counts = _response_table(criteria)
    begin = int(np.ceil(definition("first_response_day"))) - 1
    first = np.full(course.lanes, max(begin, 0), dtype=np.int64)
    last = int(min(by_day, course.days))
    alive = np.floor(np.minimum(course.death_day, course.days)).astype(np.int64)
    code, day = _best(
        rules, counts, first, last, alive, blasts, blood, cells, course.neutrophils,
        course.platelets,
    )  # fmt: skip
    return code, day, ("none", *(r.code for r in criteria.responses))


def improvement_day(
    course: Course, criteria: ResponseCriteria, code: str, for_days: int | None = None
) -> Floats:
    """Day on which a haematological improvement such as ``HI-N`` or ``HI-P`` begins.

    Parameters
    ----------
    course
        What became of the lanes.
    criteria
        Criteria with improvements (IWG 2006).
    code
        Its code.
    for_days
        How long it must last; as the criteria say if not given.

    Returns
    -------
    float[L]
        Protocol day; infinite without an improvement that lasts, NaN for a count that is not low
        enough at the start to improve.

    Raises
    ------
    PkpdError
        If the criteria have no such improvement.
    """
    rule = _improvement(criteria, code)
    steps = np.array(
        [
            (step.baseline_above, step.rise, 1.0 + step.rise_fraction, step.end_above)
            for step in sorted(rule.steps, key=lambda s: s.baseline_above)
        ]
    ).reshape(-1, 4)
    days = round(7.0 * rule.for_weeks) if for_days is None else for_days
    counts = np.ascontiguousarray(course.own(rule.line))
    return _improved(counts, rule.baseline_below, steps, course.death_day, max(days, 1))


@kept
def _improved(
    counts: np.ndarray, low: float, steps: np.ndarray, death: np.ndarray, needed: int
) -> np.ndarray:
    """First day of so many in a row that are improved; steps by the baseline they begin above."""
    out = np.full(counts.shape[0], np.nan)
    for i in range(counts.shape[0]):
        base, step = counts[i, 0], -1
        if not base < low:
            continue
        out[i] = np.inf
        for s in range(steps.shape[0]):
            if base > steps[s, 0]:
                step = s
        if step < 0 or steps[step, 0] < 0.0:
            continue
        rise, factor, end, run = steps[step, 1], steps[step, 2], steps[step, 3], 0
        for j in range(counts.shape[1]):
            here = counts[i, j]
            met = here - base >= rise and here >= factor * base and here > end
            run = run + 1 if met and j + 1 <= death[i] else 0
            if run == needed:
                out[i] = j + 2.0 - needed
                break
    return out


def _improvement(criteria: ResponseCriteria, code: str) -> Improvement:
    for rule in criteria.improvements:
        if rule.code == code:
            return rule
    raise PkpdError(
        where=f"criteria {criteria.name}",
        what=f"no improvement {code!r}",
        allowed=", ".join(rule.code for rule in criteria.improvements) or "none",
    )
