"""Delays, cycles started and dose intensity, worked out by hand on a small schedule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkpd.comparison.delivery import delivery, not_on_time, planned_doses
from pkpd.comparison.marrow_choice import choose_marrow
from pkpd.comparison.run import compare, ready_trials
from pkpd.comparison.scenario import load_scenario
from pkpd.course.course import Course
from pkpd.course.joined import joined
from pkpd.endpoints.starts import STARTS
from pkpd.evidence.posterior.stored import load_posterior
from pkpd.report import wording
from pkpd.report.comparison.answer import answer_sentence
from pkpd.schedule import Criterion, DoseModification, Gate, Regimen, daily, plan

DAYS = 40
LINES = ("neutrophils", "platelets")
SHIPPED = Path(__file__).parents[2] / "models" / "evidence" / "posterior.nc"
GATE = Gate((Criterion("neutrophils", 1.0),), max_wait_days=14, if_not_met="stop")


def regimen():
    """Two cycles of a on days 1 to 3 of 14, then b on days 1 to 8 of 21 behind a gate.

    With no delay: a on days 1-3 and 15-17, b from day 29 to 36.
    """
    first = daily("lenalidomide", "10 mg", days="1-3", route="oral", strengths_mg=[5, 10])
    first = first.named("induction").repeat(2, cycle_days=14)
    change = DoseModification(
        "clofarabine",
        hold_below=(Criterion("neutrophils", 0.5),),
        resume_at=(Criterion("neutrophils", 0.5),),
        levels_mg=(5.0,),
        reduce_on_resume=True,
    )
    later = daily("clofarabine", "10 mg/m^2", days="1-8", route="iv", duration="1 h")
    course = replace(later.courses[0], name="consolidation", cycle_days=21, modifications=(change,))
    return first.then(course, start_day=29, gate=GATE)


def course_of(**given):
    """Six lanes: on time; late; never began b; died on day 20; died on day 33; held, reduced."""
    lanes = 6
    hazard = np.zeros((lanes, DAYS))
    hazard[3, 20:], hazard[4, 33:] = 9.0, 9.0
    counts = np.ones((lanes, DAYS))
    return Course(
        mornings={"neutrophils": counts, "platelets": counts},
        platelets_with_transfused=counts,
        transfused=np.zeros((lanes, DAYS), dtype=bool),
        first_day=np.array([[1, 29], [1, 34], [1, 0], [1, 29], [1, 31], [1, 29]]),
        course_names=("induction", "consolidation"),
        drugs=("lenalidomide", "clofarabine"),
        cumulative_hazard=hazard,
        death_score=np.full(lanes, 0.5),
        # followed as if alive, the dead ones too
        cycles_started=np.array([[2, 1], [2, 1], [2, 0], [2, 1], [2, 1], [2, 1]]),
        doses_given=np.array([[6, 8], [6, 7], [6, 0], [6, 8], [6, 8], [6, 6]]),
        full_doses=np.array([[6, 8], [6, 7], [6, 0], [6, 8], [6, 8], [6, 2 + 0.5 * 4]], float),
        **given,
    )


def test_planned_doses_are_those_of_the_calendar_up_to_the_horizon():
    schedule = regimen()
    assert planned_doses(plan(schedule, DAYS), DAYS) == {"lenalidomide": 6, "clofarabine": 8}
    # day 31 is the last: the second cycle is complete, and b has three of its eight days
    assert planned_doses(plan(schedule, 31), 31) == {"lenalidomide": 6, "clofarabine": 3}
    assert planned_doses(plan(schedule, 15), 15) == {"lenalidomide": 4, "clofarabine": 0}


def test_delivery_of_six_patients_is_as_by_hand():
    found = delivery(course_of(), plan(regimen(), DAYS))
    nan = np.nan
    wanted = {
        # induction has no gate before it; the fourth died before day 29, the third never began
        ("starts_on_time", "", "consolidation (day 29)"): [1, 0, 0, nan, 0, 1],
        ("starts_late", "", "consolidation (day 29)"): [0, 1, 0, nan, 1, 0],
        ("starts_never", "", "consolidation (day 29)"): [0, 0, 1, nan, 0, 0],
        ("days_late", "", "consolidation (day 29)"): [nan, 5, nan, nan, 2, nan],
        ("cycles_started", "", "induction"): [1, 1, 1, nan, nan, 1],
        ("cycles_started", "", "consolidation"): [1, 1, 0, nan, nan, 1],
        ("relative_dose_intensity", "", "lenalidomide"): [1, 1, 1, nan, nan, 1],
        # two full doses and four halves of the eight planned
        ("relative_dose_intensity", "", "clofarabine"): [1, 7 / 8, 0, nan, nan, 4 / 8],
    }
    assert list(found) == list(wanted)
    for key, lanes in wanted.items():
        np.testing.assert_allclose(found[key], lanes, err_msg=str(key))


def test_single_cycles_that_nothing_delays_have_none_of_these():
    once = plan(daily("lenalidomide", "10 mg", days="1-3", route="oral"), DAYS)
    assert delivery(course_of(), once) == {}
    twice = plan(daily("lenalidomide", "10 mg", days="1-3", route="oral").repeat(2, 14), DAYS)
    keys = delivery(replace(course_of(), course_names=twice.course_names), twice)
    assert [name for name, *_ in keys] == ["cycles_started", "relative_dose_intensity"]


def test_a_second_cycle_is_late_or_never_comes():
    # on time, two days late, never, dead before, dead while it waits, on time but dead later
    schedule = daily("lenalidomide", "10 mg", days="1-3", route="oral").repeat(3, 14)
    planned = plan(schedule.with_between(GATE), DAYS)
    beyond = 2**30
    second = np.array([[15], [17], [beyond], [15], [18], [15]])
    hazard = np.zeros((6, DAYS))
    hazard[3, 10:], hazard[4, 16:], hazard[5, 20:] = 9.0, 9.0, 9.0
    course = replace(
        course_of(next_cycle_day=second),
        course_names=planned.course_names,
        cumulative_hazard=hazard,
        first_day=np.ones((6, 1), dtype=int),
    )
    found = {key[0]: lanes for key, lanes in delivery(course, planned).items()}
    nan = np.nan
    assert ("starts_late", "", "cycle 2 (day 15)") in delivery(course, planned)
    np.testing.assert_array_equal(found["starts_on_time"], [1, 0, 0, nan, 0, 1])
    np.testing.assert_array_equal(found["starts_late"], [0, 1, 0, nan, 0, 0])
    np.testing.assert_array_equal(found["starts_never"], [0, 0, 1, nan, 1, 0])
    np.testing.assert_array_equal(found["days_late"], [nan, 2, nan, nan, nan, nan])
    late = not_on_time(delivery(course, planned))
    np.testing.assert_array_equal(late["cycle 2"], [0, 1, 1, nan, 1, 0])
    # the planned day lies beyond the days followed: nothing is known of it
    long = schedule.with_between(GATE).courses[0]
    later = plan(Regimen((replace(long, cycle_days=DAYS + 1),)), DAYS)
    assert not any(endpoint == "starts_late" for endpoint, *_ in delivery(course, later))


GATED = """
title = "Two cycles with a gate between"
population = "mds_post_hma"
rule = "leukemia_d42_generic"
rule_is_protocols = false
horizon_days = 60

[dose.lenalidomide]
amount = "25 mg"
days = "1-21"
route = "oral"

[course.treatment]
doses = ["lenalidomide"]
cycle_days = 28
cycles = 2
between = { neutrophils = 20, max_wait_days = 7, if_not_met = "VERDICT" }
"""


@pytest.mark.parametrize(("verdict", "cycles", "intensity"), [("stop", 0.5, 0.5), ("start", 1, 1)])
def test_rows_of_a_gate_that_no_patient_passes(tmp_path, verdict, cycles, intensity):
    # nobody has 20 x 10^9/L: the second cycle comes never, or on day 36 with all its days in time
    file = tmp_path / "gated.toml"
    file.write_text(GATED.replace("VERDICT", verdict))
    (trial,) = compare(file, patients=5, draws=3).trials
    rows = {(r.endpoint, r.rule): r for r in trial.rows}
    started = rows["cycles_started", "treatment"]
    assert (started.estimate, started.unit, started.evaluable) == (cycles, "probability", 1.0)
    doses = rows["relative_dose_intensity", "lenalidomide"]
    assert (doses.estimate, doses.unit) == (pytest.approx(intensity), "fraction")
    name = "cycle 2 (day 29)"
    for endpoint, share in (
        ("starts_on_time", 0),
        ("starts_late", cycles == 1),
        ("starts_never", cycles < 1),
    ):
        row = rows[endpoint, name]
        assert (row.estimate, row.evaluable) == (float(share), 1.0)
    assert rows["days_late", name].estimate == (
        7.0 if cycles == 1 else pytest.approx(np.nan, nan_ok=True)
    )
    told = answer_sentence(trial)
    assert "cycle 2 starts on its planned day (day 29) in 0 % of those alive then" in told
    late = (
        "later in 100 % (median 7 days), never in 0 %"
        if cycles == 1
        else "later in 0 %, never in 100 %"
    )
    assert late in told
    assert wording.endpoint_name(doses) == "lenalidomide: dose intensity"
    assert wording.estimate_text(doses) == f"{100 * intensity:.0f} %"
    assert all(wording.is_headline(row) for row in (started, doses))
    told = wording.endpoint_name(replace(doses, evaluable=0.86))
    assert told == "lenalidomide: dose intensity, of 86 % alive at the end"
    late = replace(doses, endpoint="days_late", rule="b (day 9)", unit="day", evaluable=0.5)
    assert wording.endpoint_name(late) == "b (day 9): late by, day, of 50 % who start late"


WAITING = """
title = "Two cycles that wait for counts"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 70

[dose.clofarabine]
amount = "20 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"

[course.treatment]
doses = ["clofarabine"]
cycle_days = 28
cycles = 2
between = { neutrophils = 1.0, platelets = 50, max_wait_days = 21, if_not_met = "stop" }
"""


def test_starts_are_those_of_a_plain_count_of_simulated_counts(tmp_path):
    file = tmp_path / "waiting.toml"
    file.write_text(WAITING)
    scenario = replace(load_scenario(file), patients=60, draws=3)
    chosen = choose_marrow("leukaemia", scenario, load_posterior(SHIPPED))
    (item,) = ready_trials(scenario, chosen)
    treated = item.ensemble.treated(item.trial.cohorts[0].regimen, 70)
    course = joined([treated.course(one) for one in treated.chunks()])
    found = {endpoint: lanes for (endpoint, *_), lanes in delivery(course, treated.plan).items()}
    shares = dict.fromkeys(STARTS, 0)
    days = []
    for lane, alive in enumerate(course.mornings_alive):
        if alive <= 28:
            assert np.isnan(found["starts_late"][lane])
            continue
        neutrophils, platelets = (course.mornings[line][lane] for line in LINES)
        day = 28
        while day <= 28 + 21 and not (neutrophils[day] >= 1.0 and platelets[day] >= 50.0):
            day += 1
        if day > 28 + 21 or day >= alive:
            shares["starts_never"] += 1
        elif day == 28:
            shares["starts_on_time"] += 1
        else:
            shares["starts_late"] += 1
            days.append(day - 28)
    assert min(shares.values()) > 10
    assert {name: np.nansum(found[name]) for name in STARTS} == shares
    assert sorted(found["days_late"][np.isfinite(found["days_late"])]) == sorted(days)
