"""Dose-limiting toxicity rules on curves whose crossings are known."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from curves import course_of

from pkpd.cards import load_rule
from pkpd.course.course import Course
from pkpd.endpoints.curve import curve_outcomes
from pkpd.endpoints.dlt import DLTStatus, evaluate_rule, sensitivity
from pkpd.endpoints.recovery import RecoveryDefinition
from pkpd.endpoints.resolution import Visits
from pkpd.errors import DataError
from pkpd.schedule import Criterion
from pkpd.trials import DLTRule

HORIZON_DAYS = 90


def dip(low_day, back_day, threshold, fall=2.0):
    """Parabolas in log count that are below the threshold from one day to another, [L, T]."""
    low_day, back_day = (np.asarray(x, dtype=float)[:, None] * 24.0 for x in (low_day, back_day))
    time = np.linspace(0.0, HORIZON_DAYS * 24.0, 541)
    half = 0.5 * (back_day - low_day)
    curvature = fall / half**2
    centre = 0.5 * (back_day + low_day)
    y = np.log(threshold) - fall + curvature * (time - centre) ** 2
    return time, y, 2.0 * curvature * (time - centre)


def simulated(neutrophils, platelets, transfused=None):
    """Counts with dips (first day, last day) below 0.5 and below 20."""
    time, yn, sn = dip(*np.array(neutrophils, dtype=float).T, 0.5)
    _, yp, sp = dip(*np.array(platelets, dtype=float).T, 20.0)
    return course_of(
        time,
        {"neutrophils": yn, "platelets": yp},
        {"neutrophils": sn, "platelets": sp},
        transfused,
    )


def judged(rule, course, **words):
    """Verdict on the exact curve."""
    return evaluate_rule(rule, course, resolution="continuous", **words)


RULE = DLTRule(
    "delayed_recovery",
    criteria=(Criterion("neutrophils", 0.5), Criterion("platelets", 20.0)),
    by_day=45,
    untransfused_days=0,
    status="assumed",
)
COUNTS = simulated(
    [(10, 40), (10, 50), (10, 40), (10, 50)], [(12, 38), (12, 38), (12, 60), (12, 60)]
)


@pytest.mark.parametrize(
    ("join", "events", "days"),
    [
        ("any", [False, True, True, True], [40, 50, 60, 60]),
        ("all", [False, False, False, True], [38, 38, 40, 50]),
    ],
)
def test_any_and_all(join, events, days):
    found = judged(replace(RULE, join=join), COUNTS)
    assert found.event.tolist() == events
    assert found.recovery_day == pytest.approx(days, abs=1e-9)
    assert found.line_failed.tolist() == [[False, True, False, True], [False, False, True, True]]
    assert found.counts() == {
        "no_dlt": 4 - sum(events),
        "dlt": sum(events),
        "died": 0,
        "leukaemia": 0,
        "not_started": 0,
        "too_short": 0,
        "not_finite": 0,
    }


def test_clock_of_each_lane_and_courses_that_never_began():
    clock = np.array([0.0, 6.0, np.nan, 95.0])
    found = judged(RULE, COUNTS, start=clock)
    assert found.status.tolist() == [
        DLTStatus.NO_DLT,
        DLTStatus.NO_DLT,
        DLTStatus.NOT_STARTED,
        DLTStatus.NOT_STARTED,
    ]
    assert found.recovery_day[1] == pytest.approx(44.0, abs=1e-9)
    assert found.evaluable.tolist() == [True, True, False, False]
    assert np.isnan(found.outcome[2:]).all()


def test_a_fall_after_the_look_is_no_dlt():
    later = simulated([(50, 70)], [(10, 20)])
    found = judged(RULE, later)
    assert not found.event[0]
    assert found.status[0] == DLTStatus.NO_DLT


def test_follow_up_too_short_is_said_and_not_guessed():
    def cut(course, days):
        curve = course.curve
        keep = curve.time_h <= 24.0 * days
        return course_of(
            curve.time_h[keep],
            {k: v[:, keep] for k, v in curve.log_count.items()},
            {k: v[:, keep] for k, v in curve.slope.items()},
        )

    rule = replace(RULE, sustained_days=3.0)
    # ends on day 42: lane 0 has begun to recover on day 40 but not for three days
    found = judged(rule, cut(COUNTS, 42))
    assert found.status.tolist() == [DLTStatus.TOO_SHORT] * 4
    # ends on day 46: three of the four are known to be below on day 45, and one to be back; of who
    # comes back on day 44 nothing would be known, so that the share of the others is no risk
    found = judged(rule, cut(COUNTS, 46))
    assert found.status.tolist() == [DLTStatus.TOO_SHORT] * 4
    found = judged(rule, cut(COUNTS, 48))
    assert found.status.tolist() == [DLTStatus.NO_DLT] + [DLTStatus.DLT] * 3


def test_transfusion_delays_platelets_only():
    def recovery(day, **change):
        transfused = np.zeros((4, HORIZON_DAYS), dtype=bool)
        transfused[:, day] = True
        found = judged(
            replace(RULE, untransfused_days=7, **change), replace(COUNTS, transfused=transfused)
        )
        assert found.line_recovery_day[0, 0] == pytest.approx(40.0, abs=1e-9)
        return found.line_recovery_day[1, 0], bool(found.event[0])

    assert recovery(36) == (43.0, False)
    # after the crossing on day 38 a transfusion counts only while the recovery is being confirmed
    assert recovery(39) == (pytest.approx(38.0, abs=1e-9), False)
    assert recovery(39, sustained_days=3.0) == (46.0, True)


def test_who_has_leukaemia_at_the_look_cannot_be_judged():
    """Whatever the counts are: lane 0 has recovered, lane 2 has not."""
    blasts = np.full((4, HORIZON_DAYS), 2.0)
    blasts[[0, 2], 30:] = 5.0  # from 5 % on
    blasts[3, :45] = 60.0  # gone on the morning of the look
    ill = replace(COUNTS, marrow_blasts=blasts)
    found = judged(RULE, ill)
    assert found.status.tolist() == [
        DLTStatus.LEUKAEMIA,
        DLTStatus.DLT,
        DLTStatus.LEUKAEMIA,
        DLTStatus.DLT,
    ]
    assert found.evaluable.tolist() == [False, True, False, True]
    assert judged(replace(RULE, no_leukaemia=False), ill).event.tolist() == [
        False,
        True,
        True,
        True,
    ]
    # a marrow without blasts has no such patients
    assert judged(RULE, COUNTS).evaluable.all()


def test_who_dies_before_the_look_cannot_be_judged():
    """Alive on the morning after protocol day 45, the time 45, is alive at the look."""
    hazard = np.zeros((4, HORIZON_DAYS))
    for lane, day in enumerate((44, 45, 46, 11)):
        hazard[lane, day:] = 1.0  # dies on protocol day `day`
    mortal = replace(COUNTS, cumulative_hazard=hazard, death_score=np.full(4, 0.5))
    assert mortal.death_day.tolist() == [44.0, 45.0, 46.0, 11.0]
    found = evaluate_rule(RULE, mortal)
    assert found.status.tolist() == [
        DLTStatus.DIED,
        DLTStatus.DIED,
        DLTStatus.DLT,
        DLTStatus.DIED,
    ]
    # what was seen before death stands, for a rule of low counts
    low = replace(RULE, kind="low_count_duration", duration_days=(5.0, 5.0))
    seen = evaluate_rule(low, mortal)
    assert seen.status.tolist() == [DLTStatus.DLT] * 3 + [DLTStatus.DIED]


def test_who_has_the_event_is_not_judged_where_the_look_lies_beyond_the_days():
    """A clock begins late: of the others nothing is known, and those with events are no sample."""
    hazard = np.zeros((4, HORIZON_DAYS))
    hazard[:3, 70:] = 1.0
    blasts = np.full((4, HORIZON_DAYS), 2.0)
    blasts[1] = 60.0
    mortal = replace(
        COUNTS, cumulative_hazard=hazard, death_score=np.full(4, 0.5), marrow_blasts=blasts
    )
    rule = replace(RULE, kind="low_count_duration", duration_days=(0.0, 0.0))
    found = evaluate_rule(rule, mortal, start=46.0)
    assert found.line_failed.any(axis=0).tolist() == [False, True, True, True]
    assert found.status.tolist() == [DLTStatus.DIED] * 3 + [DLTStatus.TOO_SHORT]
    # the last morning is the time 87; the marrow is known up to death, and is not asked for later
    found = evaluate_rule(rule, mortal, start=42.0)
    assert found.status.tolist() == [
        DLTStatus.DIED,
        DLTStatus.DIED,
        DLTStatus.DLT,
        DLTStatus.DLT,
    ]


@pytest.mark.parametrize(
    ("days", "by_day", "expected"),
    [
        ((30.0, 30.0), 60, [True, True, True, True]),
        ((35.0, 40.0), 60, [False, True, True, True]),
        ((35.0, 49.0), 60, [False, True, False, True]),
        # the spells are cut at the end of the window
        ((28.5, 100.0), 28, [False, False, False, False]),
        ((17.5, 100.0), 28, [True, True, True, True]),
        ((0.0, 100.0), 9, [False, False, False, False]),
    ],
)
def test_duration_of_low_counts(days, by_day, expected):
    rule = replace(RULE, kind="low_count_duration", duration_days=days, by_day=by_day)
    assert judged(rule, COUNTS).event.tolist() == expected


def test_oral_clofarabine_rule_five_days():
    counts = simulated([(10, 14.9), (10, 15.1)], [(10, 12), (10, 12)])
    rule = replace(RULE, kind="low_count_duration", duration_days=(5.0, 5.0), by_day=28)
    assert judged(rule, counts).event.tolist() == [False, True]


def test_low_count_or_transfusion():
    transfused = np.zeros((4, HORIZON_DAYS), dtype=bool)
    transfused[1, [5, 11]] = True  # two days of seven
    transfused[2, [5, 12]] = True  # two days of eight
    transfused[3, [34, 36]] = True  # after the window
    rule = replace(
        RULE,
        kind="low_count_or_transfusion",
        duration_days=(100.0, 100.0),
        by_day=35,
        transfusion_days=2,
        transfusion_window_days=7,
    )
    found = judged(rule, replace(COUNTS, transfused=transfused))
    assert found.event.tolist() == [False, True, False, False]
    assert not judged(rule, COUNTS).event.any()


def test_not_recovered_from_nadir():
    """Grade 4 neutropenia has to improve to 1.5, platelets below 25 to 75, by day 35."""
    rule = replace(
        RULE,
        kind="not_recovered_from_nadir",
        criteria=(Criterion("neutrophils", 1.5), Criterion("platelets", 75.0)),
        nadir_below=(0.5, 25.0),
        by_day=35,
    )
    time, yn, sn = dip([8, 8, 8, 8], [36, 34, 36, 60], 1.5, fall=2.0)
    _, yp, sp = dip([60, 60, 60, 20], [80, 80, 80, 60], 75.0)
    yn[2] += 1.0  # nadir 1.5 e^-1 = 0.55: never grade 4
    counts = course_of(
        time, {"neutrophils": yn, "platelets": yp}, {"neutrophils": sn, "platelets": sp}
    )
    found = judged(rule, counts)
    assert found.event.tolist() == [True, False, False, True]
    assert found.line_recovery_day[0, :2] == pytest.approx([36, 34], abs=1e-9)
    assert found.line_failed[1].tolist() == [False, False, False, True]
    seen = evaluate_rule(rule, counts, resolution=Visits(range(88)))
    assert seen.event.tolist() == [True, False, False, True]


FALLS_AGAIN = {
    # neutrophils by the time from which they hold
    "once, back": ([(9, 0.4), (14, 1.6)], False),
    "again, and low at the look": ([(9, 0.4), (14, 1.6), (20, 0.4), (40, 1.6)], True),
    "again, and back on the day": ([(9, 0.4), (14, 1.6), (20, 0.4), (35, 1.5)], False),
    "again, and back to grade 2": ([(9, 0.4), (14, 1.6), (20, 0.4), (30, 1.2), (40, 1.6)], True),
    "then of grade 2 alone": ([(9, 0.4), (14, 1.6), (20, 1.2), (40, 1.6)], False),
    "never back": ([(9, 0.4), (14, 1.2), (40, 1.6)], True),
    "again, after the look": ([(9, 0.4), (14, 1.6), (36, 0.4)], False),
}


@pytest.mark.parametrize("resolution", ["morning", Visits(range(60))])
def test_who_falls_to_grade_4_again_has_to_improve_again(resolution):
    """The card's words: grade 4 is a DLT if it "did not improve to <= grade 1 by day 35"."""
    counts = np.full((len(FALLS_AGAIN), 60), 4.0)
    for row, (steps, _) in zip(counts, FALLS_AGAIN.values(), strict=True):
        for since, count in steps:
            row[since:] = count
    course = Course(
        mornings={"neutrophils": counts, "platelets": np.full(counts.shape, 200.0)},
        platelets_with_transfused=None,
        transfused=np.zeros(counts.shape, dtype=bool),
        first_day=np.ones((len(counts), 1), dtype=np.int64),
    )
    # the last dose is on day 21
    rule = load_rule("pomalidomide_solid")
    found = evaluate_rule(rule, course, resolution=resolution, search=20.0)
    assert found.event.tolist() == [toxic for _, toxic in FALLS_AGAIN.values()]
    assert found.evaluable.all()


def test_visits_see_recovery_later_and_need_confirmation():
    weekly = range(0, 85, 7)
    found = evaluate_rule(RULE, COUNTS, resolution=Visits(weekly))
    assert found.line_recovery_day.tolist() == [[42, 56, 42, 56], [42, 42, 63, 63]]
    assert found.event.tolist() == [False, True, True, True]
    sparse = evaluate_rule(RULE, COUNTS, resolution=Visits(range(0, 85, 14)))
    assert sparse.line_recovery_day[0].tolist() == [42, 56, 42, 56]
    short = evaluate_rule(
        replace(RULE, consecutive_visits=2), COUNTS, resolution=Visits(range(0, 43, 7))
    )
    assert short.status.tolist() == [DLTStatus.TOO_SHORT] * 4
    low = replace(RULE, kind="low_count_duration", duration_days=(28.0, 100.0), by_day=60)
    observed = evaluate_rule(low, COUNTS, resolution=Visits(weekly))
    # low from the visit of day 14 to that of day 42 or 56
    assert observed.event.tolist() == [True] * 4
    stricter = replace(low, duration_days=(29.0, 100.0))
    assert evaluate_rule(stricter, COUNTS, resolution=Visits(weekly)).event.tolist() == [
        False,
        True,
        False,
        True,
    ]


def test_a_visit_on_the_day_of_the_rule_is_the_look():
    found = evaluate_rule(RULE, COUNTS, resolution=Visits(range(2, 45, 7)))  # to day 45
    assert found.status.tolist() == [DLTStatus.NO_DLT, *[DLTStatus.DLT] * 3]
    later = evaluate_rule(
        RULE, simulated([(50, 70)], [(10, 20)]), resolution=Visits(range(2, 45, 7))
    )
    assert later.status.tolist() == [DLTStatus.NO_DLT]
    before = evaluate_rule(RULE, COUNTS, resolution=Visits(range(1, 44, 7)))  # to day 44
    assert before.status.tolist() == [DLTStatus.TOO_SHORT] * 4


@pytest.mark.parametrize("join", ["any", "all"])
def test_sensitivity_is_the_rule_at_every_point(join):
    rng = np.random.default_rng(8)
    lanes = 60
    first = rng.uniform(5, 15, (2, lanes))
    last = rng.uniform(25, 75, (2, lanes))
    transfused = rng.random((lanes, HORIZON_DAYS)) < 0.02
    counts = simulated(
        np.column_stack([first[0], last[0]]), np.column_stack([first[1], last[1]]), transfused
    )
    clock = rng.uniform(0, 4, lanes)
    clock[3] = np.nan
    grid = sensitivity(
        counts,
        join=join,
        start=clock,
        definition=RecoveryDefinition(2.0, 7.0),
        resolution="continuous",
    )
    assert grid.probability.shape == (2, 4, 4)
    for (i, a), (j, p), (k, day) in product(
        enumerate(grid.thresholds[0]), enumerate(grid.thresholds[1]), enumerate((42, 45, 49, 56))
    ):
        rule = replace(
            RULE,
            criteria=(Criterion("neutrophils", a), Criterion("platelets", p)),
            by_day=day,
            join=join,
            sustained_days=2.0,
            untransfused_days=7,
        )
        found = judged(rule, counts, start=clock)
        assert np.array_equal(grid.status[i, j, k], found.status)
        assert grid.probability[i, j, k] == found.event.sum() / found.evaluable.sum()
    # dips are single, so stricter thresholds and earlier looks never lower the risk
    for axis, sign in ((0, 1), (1, 1), (2, -1)):
        assert np.all(sign * np.diff(grid.probability, axis=axis) >= 0)


def test_continuous_verdict_is_the_recovery_time_compared():
    rng = np.random.default_rng(9)
    lanes = 200
    counts = simulated(
        np.column_stack([rng.uniform(5, 15, lanes), rng.uniform(20, 70, lanes)]),
        np.column_stack([rng.uniform(5, 15, lanes), rng.uniform(20, 70, lanes)]),
    )
    found = judged(RULE, counts)
    days = [
        curve_outcomes(
            counts.curve.time_h,
            counts.curve.log_count[c.line],
            counts.curve.slope[c.line],
            c.at_least,
        )
        for c in RULE.criteria
    ]
    late = [d.first.day[0] > 45 for d in days]
    assert np.array_equal(found.event, late[0] | late[1])


@pytest.mark.parametrize(
    ("rule", "call", "word"),
    [
        (DLTRule("text_only", kind="not_count_based"), {}, "no count threshold"),
        (RULE, {"resolution": "weekly"}, "'morning', or Visits"),
        (replace(RULE, clock="second"), {}, "there is no course 'second'"),
    ],
)
def test_rules_that_cannot_be_judged(rule, call, word):
    with pytest.raises(DataError, match=word):
        evaluate_rule(rule, COUNTS, **call)


def test_line_that_was_not_simulated():
    only = replace(COUNTS, mornings={"neutrophils": COUNTS.neutrophils})
    with pytest.raises(DataError, match="platelets"):
        judged(RULE, only)
