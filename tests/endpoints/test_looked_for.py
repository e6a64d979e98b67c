"""Recovery found in one walk over the counts is that of windows looked at one after the other.

The windows are those of `line_outcomes`: from the last dose on, from there to the next cycle, and
from the clock's start to the last dose. `test_one_judge` holds both to loops written apart.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_one_judge import CASES, course_of, random_cases

from pkpd.endpoints.dlt import evaluate_rule
from pkpd.endpoints.recovery import (
    RecoveryDefinition,
    line_outcomes,
    recoveries_after,
    recovery_after,
)
from pkpd.endpoints.resolution import Visits
from pkpd.endpoints.results import RecoveryStatus
from pkpd.errors import DataError

THRESHOLDS = {"neutrophils": (0.5, 1.0), "platelets": (20.0, 25.0, 50.0, 100.0)}
DEFINITIONS = (RecoveryDefinition(0.0, 5.0, 1), RecoveryDefinition(4.0, 5.0, 2))
STATUS = RecoveryStatus


def in_windows(course, line, definition, start, search, until, **words):
    """Status, day, pending day, day of need, last day, low before: window by window."""
    words |= {"definition": definition}
    levels = THRESHOLDS[line]
    after = line_outcomes(course, line, levels, start=search, **words)
    within = line_outcomes(course, line, levels, start=search, end=until, **words)
    before = line_outcomes(course, line, levels, start=start, end=search, **words)
    low = np.isfinite(before.first_need_day)
    first, then, ends = within.sustained, after.sustained, np.isfinite(until)
    held = ends & (first.status == STATUS.CENSORED) & np.isfinite(first.pending_day)
    late = ends & (first.status == STATUS.CENSORED) & ~held
    status = np.where(then.status == STATUS.RECOVERED, STATUS.NEXT_CYCLE, then.status)
    status = np.where(held, STATUS.RECOVERED, np.where(late, status, first.status))
    never = status == STATUS.NEVER_BELOW
    day = np.where(held, first.pending_day, np.where(late, then.day, first.day))
    pending = np.where(late, then.pending_day, np.where(held, np.inf, first.pending_day))
    shift = search - start
    return (
        np.where(never & low, STATUS.BACK_BEFORE, status),
        np.where(never, 0.0, day + shift),
        pending + shift,
        within.first_need_day + shift,
        after.horizon_day + shift + ("resolution" in words),  # a visit tells of its day
        low,
    )


def clocks(course, rng):
    """Starts, last doses and next cycles of the lanes; some clocks never start."""
    start = rng.integers(0, 30, course.lanes).astype(float)
    start[rng.random(course.lanes) < 0.1] = np.nan
    search = start + rng.integers(0, 20, course.lanes)
    until = search + rng.integers(1, 40, course.lanes)
    until[rng.random(course.lanes) < 0.4] = np.inf
    until[~(until <= np.minimum(course.days, course.death_day) - 1.0)] = np.inf
    return start, search, until


@pytest.mark.parametrize("line", list(THRESHOLDS))
@pytest.mark.parametrize("visits", [None, Visits((0, 3, 7, 10, 21, 28, 35, 49, 60, 88))])
def test_one_walk_is_window_after_window(line, visits):
    course, rng = course_of([*CASES.values(), *random_cases(300, 11)]), np.random.default_rng(2)
    words = {} if visits is None else {"resolution": visits}
    told = set()
    for _ in range(4):
        start, search, until = clocks(course, rng)
        every = recoveries_after(
            course, line, THRESHOLDS[line], DEFINITIONS, start=start, search=search, until=until,
            **words,
        )  # fmt: skip
        for definition, seen in zip(DEFINITIONS, every, strict=True):
            expected = in_windows(course, line, definition, start, search, until, **words)
            got = (seen.recovery.status, seen.recovery.day, seen.recovery.pending_day, *seen[1:])
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            told |= set(seen.recovery.status.ravel())
            alone = recovery_after(
                course, line, THRESHOLDS[line], definition=definition, start=start, search=search,
                until=until, **words,
            )  # fmt: skip
            np.testing.assert_array_equal(alone.recovery.day, seen.recovery.day)
            np.testing.assert_array_equal(alone.recovery.status, seen.recovery.status)
    assert told == set(STATUS)


def test_a_count_that_is_no_number_is_not_evaluable():
    course = course_of([CASES["smooth"], CASES["smooth"]])
    course.mornings["neutrophils"][1, 50] = np.nan
    seen = recovery_after(course, "neutrophils", (0.5, 1.0), search=5.0, until=40.0)
    assert (seen.recovery.status[:, 0] != STATUS.NOT_EVALUABLE).all()
    assert (seen.recovery.status[:, 1] == STATUS.NOT_EVALUABLE).all()
    assert np.isnan(seen.recovery.day[:, 1]).all()


def test_definitions_that_differ_in_transfusions_are_refused():
    course = course_of([CASES["smooth"]])
    both = (RecoveryDefinition(), RecoveryDefinition(untransfused_days=7.0))
    with pytest.raises(DataError, match="untransfused_days"):
        recoveries_after(course, "platelets", 20.0, both)


def test_a_rule_takes_what_was_found_already():
    from pkpd.cards import load_rule
    from pkpd.endpoints.definitions import recovery_definition

    course, rule = course_of([*CASES.values(), *random_cases(50, 12)]), load_rule("len_mec_2018")
    found = {}
    for criterion in rule.criteria:
        levels = (criterion.at_least, 2.0 * criterion.at_least)
        seen = recovery_after(
            course, criterion.line, levels, definition=recovery_definition(rule), search=10.0
        )
        found |= {(criterion.line, level): seen.at(k) for k, level in enumerate(levels)}
    words = {"start": 0.0, "search": 10.0}
    known, alone = (
        evaluate_rule(rule, course, found=found, **words),
        evaluate_rule(rule, course, **words),
    )
    np.testing.assert_array_equal(known.status, alone.status)
    np.testing.assert_array_equal(known.line_recovery_day, alone.line_recovery_day)
