"""Endpoints of a cohort read off mornings that are written down, against counts of days by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import pkpd
from pkpd.cards import load_grades
from pkpd.comparison.lanes import CohortLook
from pkpd.course.course import Course
from pkpd.endpoints.dlt import DLTStatus
from pkpd.schedule import Criterion, plan
from pkpd.trials import DLTRule

DAYS = 50
NORMAL, LOW = {"neutrophils": 2.0, "platelets": 200.0}, {"neutrophils": 0.1, "platelets": 5.0}
RULE = DLTRule(
    "not back by day 12",
    criteria=(Criterion("neutrophils", 0.5), Criterion("platelets", 20.0)),
    by_day=12,
    untransfused_days=0,
    status="assumed",
)
ONE = pkpd.daily("lenalidomide", "10 mg", days="1-5", route="oral")
TWO = ONE.repeat(2, cycle_days=28)
NEXT = 29
"""Protocol day on which the second cycle begins: the time 28."""


def look(regimen, rule=RULE, visits=(1, 8, 15, 22)):
    return CohortLook(plan(regimen, DAYS), (rule,), load_grades("ctcae_v5"), visits)


def course(*low, line="neutrophils", next_day=None, first_day=None, **more):
    """Patients who are low in a line from one morning to another, both included (times from 0)."""
    n = len(low)
    counts = {name: np.full((n, DAYS), normal) for name, normal in NORMAL.items()}
    for row, span in zip(counts[line], low, strict=True):
        if span is not None:
            row[span[0] : span[1] + 1] = LOW[line]
    began = np.ones(n) if first_day is None else np.array(first_day)
    following = np.full(n, NEXT) if next_day is None else np.array(next_day)
    none = np.zeros((n, 1), dtype=np.int64)
    return Course(
        mornings=counts,
        platelets_with_transfused=None,
        transfused=np.zeros((n, DAYS), dtype=bool),
        first_day=began.astype(np.int64)[:, None],
        next_cycle_day=following.astype(np.int64)[:, None],
        course_names=("treatment",),
        drugs=("lenalidomide",),
        doses_given=none,
        full_doses=none.astype(float),
        cycles_started=none,
        **more,
    )


@pytest.mark.parametrize("line", ["neutrophils", "platelets"])
def test_visits_see_what_lies_on_their_days(line):
    """Visits on the mornings 0, 7, 14 and 21; the rule looks at the time 12."""
    patients = {
        "never low": (None, 0, 0),
        "low on one visit, back between visits": ((6, 9), 0, 1),  # the next visit is too late
        "low between two visits": ((8, 13), 1, 0),
        "low until after the look": ((6, 13), 1, 1),
        "low until the look": ((6, 11), 0, 1),
        "low to the end": ((6, 49), 1, 1),
        "low before the last dose alone": ((0, 3), 0, 0),
    }
    low, mornings, on_visits = zip(*patients.values(), strict=True)
    found = look(ONE)(course(*low, line=line, next_day=[999] * len(low)))
    assert found.dlt["first_dose"].tolist() == list(mornings)
    assert found.values["dlt_on_visits", "", RULE.name].tolist() == list(on_visits)
    # with visits on every day both are the same
    daily = look(ONE, visits=tuple(range(1, DAYS + 1)))(course(*low, line=line))
    assert daily.values["dlt_on_visits", "", RULE.name].tolist() == list(mornings)


def test_a_low_count_stands_from_visit_to_visit():
    """Low for five days within the first twelve: of the visit of morning 7 until the time 12."""
    low = replace(RULE, name="low", kind="low_count_duration", duration_days=(5.0, 5.0))
    found = look(ONE, low)(course((6, 9), (7, 7), (6, 10), (8, 13), (1, 6)))
    assert found.dlt["first_dose"].tolist() == [0, 0, 1, 0, 1]
    assert found.values["dlt_on_visits", "", "low"].tolist() == [1, 1, 1, 0, 0]


def test_visits_that_end_before_the_look_tell_of_nobody():
    """Who is back already has no verdict either: the risk would be that of those alone."""
    low = (None, (6, 6), (6, 9), (6, 49))
    early = look(ONE, visits=(1, 7, 8))(course(*low))  # the mornings 0, 6 and 7
    found = early.values["dlt_on_visits", "", RULE.name]
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, np.nan])
    alone = replace(RULE, criteria=RULE.criteria[:1])
    of_one = look(ONE, alone, visits=(1, 7, 8))(course(*low))
    found = of_one.values["dlt_on_visits", "", RULE.name]
    # the second is seen low on morning 6 and back on morning 7
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, np.nan])


def test_the_day_of_the_nadir_is_since_the_first_dose():
    """Doses from day 4 on, the time 3; the lowest count is on the time 12."""
    late = pkpd.daily("lenalidomide", "10 mg", days="4-8", route="oral")
    patients = course((12, 12), (12, 14), None, first_day=[1, 1, 0])
    found = look(late)(patients).values
    np.testing.assert_array_equal(found["nadir_day", "neutrophils", ""], [9.0, 9.0, np.nan])
    assert found["nadir", "neutrophils", ""].tolist() == [0.1, 0.1, 2.0]
    on_time = look(ONE)(patients).values["nadir_day", "neutrophils", ""]
    np.testing.assert_array_equal(on_time, [12.0, 12.0, np.nan])


def test_neutrophils_below_1_before_treatment_have_no_grade_of_the_iwcll():
    """The first is low (0.1) from the first morning on; the second from the time 6."""
    made = CohortLook(plan(ONE, DAYS), (RULE,), load_grades("iwcll_2008"), (1, 8))
    found = made(course((0, 9), (6, 9), None)).values
    np.testing.assert_array_equal(found["grade_4", "neutrophils", "< 0.5"], [np.nan, 1.0, 0.0])
    ctcae = look(ONE)(course((0, 9), (6, 9), None)).values
    np.testing.assert_array_equal(ctcae["grade_4", "neutrophils", "< 0.5"], [1.0, 1.0, 0.0])


@pytest.mark.parametrize("by_day", [12, 42])  # not in the grid of other rules, and in it
def test_a_course_that_never_began_is_told_of_who_was_alive_when_it_was_due(by_day):
    """The second course is due on day 29; patients die on day 40, on day 29, on day 28, never."""
    died = np.array([40, 29, 28, DAYS, 40])
    hazard = (np.arange(DAYS) >= died[:, None]).astype(float)
    made = course(*[None] * 5, cumulative_hazard=hazard, death_score=np.full(5, 0.5))
    # all begin the first; the last would begin the second on day 45, had it not died
    first_day = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [1, 45]])
    nothing = np.zeros((5, 2), dtype=np.int64)
    later = replace(
        made, first_day=first_day, next_cycle_day=np.full((5, 2), 999),
        course_names=("first", "second"), cycles_started=nothing,
    )  # fmt: skip
    two = plan(ONE.then(ONE, start_day=29), DAYS)
    name = two.course_names[1]
    rule = replace(RULE, clock=name, by_day=by_day)
    one = CohortLook(two, (rule,), load_grades("ctcae_v5"), (1,))
    never, dead = DLTStatus.NOT_STARTED, DLTStatus.DIED
    assert one(later).reasons[name].tolist() == [never, never, dead, never, dead]


@pytest.mark.parametrize(("join", "expected"), [("any", [0, 1, 1, 1]), ("all", [0, 0, 0, 1])])
def test_a_marrow_that_returns_below_a_threshold_breaks_the_rule_at_any_dose(join, expected):
    set_point = {
        "neutrophils": np.array([0.5, 0.49, 2.0, 0.4]),  # at the threshold is not below
        "platelets": np.array([20.0, 200.0, 19.9, 10.0]),
    }
    key = "dlt_at_any_dose", "", RULE.name
    made = look(ONE, replace(RULE, join=join))
    assert made(course(*[None] * 4, set_point=set_point)).values[key].tolist() == expected
    assert key not in made(course(None)).values, "a marrow that has no set point"


def test_who_is_not_back_before_the_next_cycle():
    """Doses on the mornings 0 to 4, the next cycle begins on the morning 28."""
    never, before, not_before = "never_low", "back_before_last_dose", "not_before_next_cycle"
    patients = [
        # low, day of the next cycle, which of the three
        (None, NEXT, never),
        ((0, 3), NEXT, before),
        ((6, 9), NEXT, ""),
        ((6, 27), NEXT, ""),  # back on the morning of the next cycle
        ((6, 28), NEXT, not_before),
        ((20, 35), NEXT, not_before),
        ((6, 49), NEXT, not_before),
        ((6, 49), 999, ""),  # no next cycle began: never back, and not before it
        ((6, 30), 999, ""),
        ((6, 30), 36, ""),  # the next cycle waited for the counts
        ((30, 40), NEXT, never),  # a fall of the next cycle
        ((0, 3), NEXT, None),  # the course never began
    ]
    low, next_day, expected = zip(*patients, strict=True)
    first_day = [0 if one is None else 1 for one in expected]
    found = look(TWO)(course(*low, next_day=next_day, first_day=first_day)).values
    for name in (never, before, not_before):
        share = [np.nan if one is None else float(one == name) for one in expected]
        np.testing.assert_array_equal(found[name, "neutrophils", ">= 0.5"], share, err_msg=name)
    # who dies before the next cycle has none; the dose of the day of death is given
    died = [20, 28, 29, 35, 20, 3, 20]
    hazard = (np.arange(DAYS) >= np.array(died)[:, None]).astype(float)
    fallen = [(6, 35)] * 4 + [None] * 2 + [(0, 3)]
    mortal = course(*fallen, cumulative_hazard=hazard, death_score=np.full(7, 0.5))
    dead = look(TWO)(mortal).values[not_before, "neutrophils", ">= 0.5"]
    assert dead.tolist() == [0, 0, 1, 1, 0, 0, 0]
    shares = [found[name, "platelets", ">= 20"] for name in (never, before, not_before)]
    np.testing.assert_array_equal(shares[0][:-1], 1.0)
    np.testing.assert_array_equal(shares[1:], np.where(np.isnan(shares[0]), np.nan, [[0.0], [0.0]]))
    # with those who have a day, and those who are not back where no cycle follows, all who began
    day = found["recovery_day", "neutrophils", ">= 0.5"]
    three = sum(found[name, "neutrophils", ">= 0.5"] for name in (never, before, not_before))
    others = ((day > 0.0) & np.isfinite(day)) | (np.isinf(day) & (np.array(next_day) > DAYS))
    np.testing.assert_array_equal(three + others, np.where(np.array(first_day) > 0, 1.0, np.nan))
    # without a second cycle in the plan nobody is asked
    alone = look(ONE)(course(*low, next_day=[999] * len(low))).values
    assert not any(key[0] == not_before for key in alone)
    assert alone[never, "neutrophils", ">= 0.5"][0] == 1.0
