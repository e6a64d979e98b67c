"""Counts that are not finite, and follow-up that ends before a rule looks: no verdict, and counted.

Counts are written down day by day: a verdict is a count of days by hand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.course.course import Course
from pkpd.endpoints.dlt import REASONS, DLTStatus, evaluate_rule, sensitivity
from pkpd.endpoints.recovery import ANY_TIME
from pkpd.endpoints.resolution import Visits
from pkpd.schedule import Criterion
from pkpd.trials import DLTRule

NO, DLT = DLTStatus.NO_DLT, DLTStatus.DLT
SHORT, NOT_FINITE, DIED = DLTStatus.TOO_SHORT, DLTStatus.NOT_FINITE, DLTStatus.DIED
NOT_BACK = DLTRule(
    "not back by day 8",
    criteria=(Criterion("neutrophils", 0.5), Criterion("platelets", 20.0)),
    by_day=8,
    untransfused_days=0,
    status="assumed",
)
LOW = replace(
    NOT_BACK, name="low for 3 days", kind="low_count_duration", duration_days=(3.0, 3.0), by_day=8
)
FROM_NADIR = replace(
    NOT_BACK, name="from nadir", kind="not_recovered_from_nadir", nadir_below=(0.2, 10.0), by_day=8
)


def counted(*patients, days=14):
    """Patients who are low (neutrophils 0.1, platelets 5) between mornings, ``(lines, days)``.

    A patient is a pair of the mornings, first and last, on which either line is low; ``None`` is
    never.
    """
    lines = {"neutrophils": (2.0, 0.1), "platelets": (100.0, 5.0)}
    counts = {}
    for place, (line, (normal, low)) in enumerate(lines.items()):
        counts[line] = np.full((len(patients), days), normal)
        for row, spans in zip(counts[line], patients, strict=True):
            if spans[place] is not None:
                first, last = spans[place]
                row[first : last + 1] = low
    return Course(
        mornings=counts,
        platelets_with_transfused=None,
        transfused=np.zeros((len(patients), days), dtype=bool),
        first_day=np.ones((len(patients), 1), dtype=np.int64),
        course_names=("treatment",),
    )


def cut(course, days):
    """The same patients, followed for fewer mornings."""
    counts = {line: counts[:, :days] for line, counts in course.mornings.items()}
    return replace(course, mornings=counts, transfused=course.transfused[:, :days])


def spoiled(value, *, line="platelets", morning=5):
    """Four patients: well, low too long, and both of them with a count that is no number."""
    long = ((2, 12), (2, 12))
    course = counted((None, None), long, (None, None), long)
    course.mornings[line][2:, morning] = value
    return course


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rule", [NOT_BACK, LOW, FROM_NADIR], ids=lambda rule: rule.kind)
@pytest.mark.parametrize("join", ["any", "all"])
def test_a_count_that_is_not_finite_gives_no_verdict(rule, join, value):
    """Whatever the other line says, and whether the others would be a DLT or none."""
    course = spoiled(value)
    found = evaluate_rule(replace(rule, join=join), course)
    assert found.status.tolist() == [NO, DLT, NOT_FINITE, NOT_FINITE]
    assert found.evaluable.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(found.outcome, [0.0, 1.0, np.nan, np.nan])
    none = {"died": 0, "leukaemia": 0, "not_started": 0, "too_short": 0}
    assert found.counts() == {"no_dlt": 1, "dlt": 1, **none, "not_finite": 2}
    assert "not finite" in REASONS[NOT_FINITE]


def test_a_count_before_the_search_or_after_death_is_not_asked_for():
    course = spoiled(np.nan, morning=1)
    assert evaluate_rule(NOT_BACK, course, search=2.0).status.tolist() == [NO, DLT, NO, DLT]
    hazard = np.zeros((4, 14))
    hazard[2:, 9:] = 1.0  # dies on protocol day 9, alive on the morning of the look, the time 8
    mortal = replace(
        spoiled(np.nan, morning=9), cumulative_hazard=hazard, death_score=np.full(4, 0.5)
    )
    assert evaluate_rule(NOT_BACK, mortal).status.tolist() == [NO, DLT, NO, DLT]
    # who dies before the look cannot be judged for that reason
    early = replace(mortal, cumulative_hazard=np.roll(hazard, -1, axis=1).cumsum(axis=1))
    assert evaluate_rule(NOT_BACK, early).status.tolist() == [NO, DLT, DIED, DIED]


def test_visits_that_all_come_before_the_clock_are_no_count_to_judge_by():
    course = counted((None, None), ((2, 12), (2, 12)))
    late = evaluate_rule(NOT_BACK, course, resolution=Visits((0, 3)), start=[0.0, 4.0])
    assert late.status.tolist() == [SHORT, NOT_FINITE]
    assert np.isnan(late.outcome).all()


def test_the_table_of_other_rules_leaves_out_who_has_a_count_that_is_not_finite():
    grid = sensitivity(
        spoiled(np.nan),
        thresholds={"neutrophils": (0.5, 1.0), "platelets": (20.0,)},
        by_days=(8.0, 13.0),
        definition=ANY_TIME,
    )
    assert grid.status.shape == (2, 1, 2, 4)
    for by_day, verdicts in enumerate(([NO, DLT], [NO, NO])):  # back on the morning 13
        for k in range(2):
            assert grid.status[k, 0, by_day].tolist() == [*verdicts, NOT_FINITE, NOT_FINITE]
    # of two who can be judged one has a DLT, not of four
    np.testing.assert_array_equal(grid.probability[:, 0], [[0.5, 0.0], [0.5, 0.0]])
    assert np.isnan(grid.outcome[..., 2:]).all()


WINDOW = {
    "never low": (None, None),
    "2 days": ((2, 3), None),
    "3 days": ((2, 4), None),
    "late": ((7, 12), None),  # on the mornings 7 and after; the window ends with the time 8
    "both": ((2, 4), (3, 5)),
    "low to the end": ((5, 12), None),
}
WHOLE = {
    "any": [NO, NO, DLT, NO, DLT, DLT],
    "all": [NO, NO, NO, NO, DLT, NO],
}


@pytest.mark.parametrize("join", ["any", "all"])
@pytest.mark.parametrize(("mornings", "known"), [(9, True), (8, False), (5, False), (4, False)])
def test_low_for_some_days_is_judged_when_the_window_is_over(join, mornings, known):
    """Low on three mornings in a row of the first eight days; counts stand for their day.

    The time 8 is the morning 8. Before it nobody is judged, who has been low for three days
    neither: all who were judged would have the event.
    """
    course = cut(counted(*WINDOW.values()), mornings)
    found = evaluate_rule(replace(LOW, join=join), course)
    assert found.status.tolist() == (WHOLE[join] if known else [SHORT] * len(WINDOW))
    assert found.counts()["too_short"] == (0 if known else len(WINDOW))


@pytest.mark.parametrize(("low", "expected"), [((7, 7), DLT), ((8, 8), DLT), ((9, 9), NO)])
def test_any_time_is_by_the_end_of_the_day(low, expected):
    """The morning after day 8 is the time 8; a transfusion of that morning is of day 9."""
    any_time = replace(LOW, kind="low_count_or_transfusion", duration_days=(0.0, 0.0),
                       transfusion_days=1, transfusion_window_days=1)  # fmt: skip
    assert evaluate_rule(any_time, counted((low, None))).status.tolist() == [expected]
    transfused = counted((None, None), (None, None))
    transfused.transfused[[0, 1], [7, 8]] = True
    assert evaluate_rule(any_time, transfused).status.tolist() == [DLT, NO]


AFTER = {
    "never low": (None, None),
    "both back": ((2, 3), (2, 3)),
    "one back": ((2, 3), None),
    "one low": ((2, 12), None),
    "back, and low": ((2, 12), (2, 3)),
    "back that day": ((2, 7), (2, 7)),
}


@pytest.mark.parametrize("rule", [NOT_BACK, FROM_NADIR], ids=lambda rule: rule.kind)
@pytest.mark.parametrize(
    ("join", "mornings", "expected"),
    [
        ("any", 9, [NO, NO, NO, DLT, DLT, NO]),
        ("all", 9, [NO] * 6),
        # followed for eight mornings of the nine, or six: who is back is not judged either, or the
        # risk would be that of those alone
        ("any", 8, [SHORT] * 6),
        ("any", 6, [SHORT] * 6),
        ("all", 6, [SHORT] * 6),
    ],
)
def test_nobody_is_judged_whose_look_comes_after_follow_up(rule, join, mornings, expected):
    course = cut(counted(*AFTER.values()), mornings)
    assert evaluate_rule(replace(rule, join=join), course).status.tolist() == expected


def test_who_has_not_fallen_to_the_nadir_may_do_so_after_follow_up():
    """Neutrophils of 0.1 are low, and not below 0.05."""
    deep = replace(FROM_NADIR, nadir_below=(0.05, 2.0))
    course = counted(*AFTER.values())
    assert evaluate_rule(deep, course).status.tolist() == [NO] * 6
    assert evaluate_rule(deep, cut(course, 6)).status.tolist() == [SHORT] * 6


@pytest.mark.parametrize("rule", [NOT_BACK, FROM_NADIR], ids=lambda rule: rule.kind)
def test_a_recovery_that_is_not_confirmed_in_follow_up_is_not_judged(rule):
    """Three mornings in a row confirm it; it has to begin by the time 8."""
    three = replace(rule, sustained_days=3.0)
    course = counted(((3, 5), None), ((3, 6), None), ((3, 8), None))  # back on mornings 6, 7, 9
    assert evaluate_rule(three, cut(course, 12)).status.tolist() == [NO, NO, DLT]
    # to morning 10 the last one has begun to be back, too late
    assert evaluate_rule(three, cut(course, 11)).status.tolist() == [NO, NO, DLT]
    # to morning 9 who is back on morning 8 is not known; nor, then, is the share of the others
    assert evaluate_rule(three, cut(course, 10)).status.tolist() == [SHORT] * 3
    assert evaluate_rule(three, cut(course, 9)).status.tolist() == [SHORT] * 3


def test_a_day_of_the_grid_beyond_follow_up_has_no_risk():
    """Of 100 patients 60 are back by the time 8 and 40 never; follow-up ends with the time 10.

    With the look at the time 12 the 60 were judged alone: a risk of 0 of 60.
    """
    course = cut(counted(*[((2, 6), None)] * 60, *[((2, 13), None)] * 40), 11)
    grid = sensitivity(
        course, thresholds={"neutrophils": (0.5,)}, by_days=(8.0, 10.0, 12.0), definition=ANY_TIME
    )
    np.testing.assert_array_equal(grid.probability, [[0.4, 0.4, np.nan]])


def test_late_starters_whose_look_lies_beyond_follow_up_lower_no_risk():
    """Two start on day 1, one back and one not: 1 of 2; two on day 4, of whom one is back."""
    course = counted(((2, 5), None), ((2, 13), None), ((4, 7), None), ((4, 13), None), days=11)
    alone = replace(NOT_BACK, criteria=NOT_BACK.criteria[:1])
    found = evaluate_rule(alone, course, start=[0.0, 0.0, 3.0, 3.0])
    assert found.status.tolist() == [NO, DLT, SHORT, SHORT]


def test_who_dies_with_the_event_before_a_look_beyond_follow_up_is_not_judged():
    """Low on three mornings; of the living with the same start nobody can be judged."""
    hazard = np.zeros((3, 9))
    hazard[1:, 7:] = 1.0  # dies on protocol day 7
    course = cut(counted(((2, 4), None), ((2, 4), None), (None, None)), 9)
    mortal = replace(course, cumulative_hazard=hazard, death_score=np.full(3, 0.5))
    assert evaluate_rule(LOW, mortal).status.tolist() == [DLT, DLT, DIED]
    assert evaluate_rule(LOW, mortal, start=1.0).status.tolist() == [SHORT, DIED, DIED]
