"""The marrow model as a simulator: days left out, threads and steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.evidence.likelihood.simulator import MarrowSimulator, days_seen, regimen_of
from pkpd.evidence.table.arms import arms_of
from pkpd.evidence.table.endpoints import Observable
from pkpd.evidence.table.populations import load_populations
from pkpd.evidence.table.schedule import parse_schedule
from pkpd.evidence.table.table import load_evidence
from pkpd.leukaemia.parameters import default_theta

DEATH = Observable("death", day=30.0)
DELAY = Observable("delayed", thresholds=(1.0, 100.0), day=45.0)
RESPONSE = Observable("response", code="CR")
RECOVERY = Observable("recovery_day", "neutrophils", (0.5,), among="responders")


@pytest.fixture(scope="module")
def arms():
    """One arm with drugs and one dose level, one with several, one without drugs."""
    every = arms_of(row for row in load_evidence() if row.endpoint.alternatives and not row.unused)
    one = next(a for a in every.values() if a.cycles == 1 and "daunorubicin" in a.schedule.names)
    several = next(a for a in every.values() if len(a.schedule.at_levels()) == 2)
    none = next(a for a in every.values() if not a.schedule.drugs)
    return {arm.key: arm for arm in (one, several, none)}


def asking(arms, *what):
    return {key: replace(arm, observables=frozenset(what)) for key, arm in arms.items()}


def test_days_that_observables_depend_on():
    baseline = Observable("baseline", "platelets")
    assert days_seen((baseline,), 84) == 1
    assert days_seen((baseline, DEATH), 84) == 31
    assert days_seen((DEATH, DELAY), 84) == 46
    assert days_seen((DEATH, DELAY), 40) == 40
    assert days_seen((Observable("death"),), 84) == 84
    assert days_seen((DEATH, RECOVERY), 84) == 84
    assert days_seen((), 84) == 84


def test_leaving_days_out_changes_nothing(arms):
    whole = MarrowSimulator(asking(arms), 32)({})
    short = MarrowSimulator(asking(arms, DEATH, DELAY), 32, threads=1)({})
    delays = 0.0
    for key in arms:
        if arms[key].schedule.drugs:
            for what in (DEATH, DELAY):
                np.testing.assert_array_equal(short[key].observe(what), whole[key].observe(what))
            delays += np.nansum(short[key].observe(DELAY))
            assert short[key].observe(DEATH).min() > 0.0
            # asked for without notice: simulated after all
            for what in (RESPONSE, RECOVERY):
                np.testing.assert_allclose(
                    short[key].observe(what), whole[key].observe(what), rtol=1e-12
                )
    assert delays > 0.0


def test_second_course_is_for_those_with_blasts(arms):
    one = next(a for a in arms.values() if a.population.disease.startswith("aml"))
    course = parse_schedule("cytarabine:100 mg/m2:CI:1-7;daunorubicin:60 mg/m2:IV:1-3")
    first = replace(one, schedule=course, reinduction=None)
    again = replace(first, reinduction=course, reinduction_day=29)
    # both simulate the same patients for as many days
    both = {"one": first, "two": again}
    seen = {key: MarrowSimulator({"same": arm}, 256)({})["same"] for key, arm in both.items()}
    once, twice = (seen[key].observe(RESPONSE) for key in both)
    # a few remissions come late, from more than 5 % blasts on day 29
    assert twice[once == 1.0].mean() > 0.95
    assert 0.02 < twice.mean() - once.mean() < 0.4
    early = Observable("death", day=20.0)
    np.testing.assert_array_equal(seen["one"].observe(early), seen["two"].observe(early))
    # a look before the second course begins needs no more days
    short = MarrowSimulator(asking({"same": again}, early), 256)({})["same"]
    np.testing.assert_allclose(short.observe(early), seen["two"].observe(early), rtol=1e-12)


def test_dexamethasone_changes_the_effect_of_lenalidomide(arms):
    one = next(iter(arms.values()))
    alone = parse_schedule("lenalidomide:25 mg:PO:1-21")
    both = parse_schedule("lenalidomide:25 mg:PO:1-21;dexamethasone:40 mg:PO:1,8,15,22")
    low = Observable("grade", "neutrophils", (1.0,))
    shares = {}
    for name, schedule in (("alone", alone), ("both", both)):
        arm = replace(one, schedule=schedule, population=load_populations()["myeloma"])
        simulator = MarrowSimulator(asking({"same": arm}, low), 512)
        for factor in (0.5, 1.0):
            seen = simulator({"with_dexamethasone.lenalidomide": factor})["same"].observe(low)
            shares[name, factor] = seen.mean()
    assert shares["alone", 0.5] == shares["alone", 1.0]
    assert shares["both", 0.5] < shares["both", 1.0] - 0.1
    assert shares["both", 1.0] == pytest.approx(shares["alone", 1.0], abs=0.02)


def test_fates_add_up_over_those_with_and_without_a_response(arms):
    """Deaths by a day are those of patients who responded and of those who did not."""
    key = next(iter(arms))
    seen = MarrowSimulator({key: arms[key]}, 2000)({})[key]
    response = seen.observe(RESPONSE) == 1.0
    for day in (30.0, 60.0, 500.0):
        chance = seen.observe(replace(DEATH, day=day))
        died = seen.observe(Observable("died", day=day))
        assert set(died) == {0.0, 1.0}
        error = np.sqrt(np.sum(chance * (1.0 - chance))) / chance.size
        assert died.mean() == pytest.approx(chance.mean(), abs=4.0 * error)
    # the share that 32 terms of the table ask for: not the mean chance of those without a response
    early = seen.observe(Observable("died", day=30.0))
    chance = seen.observe(DEATH)
    assert early[response].mean() < 0.1 * early.mean()
    expected = chance.mean() / (1.0 - response.mean())
    assert early[~response].mean() == pytest.approx(expected, rel=0.1)
    assert chance[~response].mean() < 0.8 * expected


def test_delays_of_those_cleared_leave_leukaemia_out(arms):
    key = next(iter(arms))
    seen = MarrowSimulator({key: arms[key]}, 500)({})[key]
    every = seen.observe(DELAY)
    cleared = seen.observe(replace(DELAY, among="cleared"))
    ill = np.isnan(cleared) & ~np.isnan(every)
    assert 0.0 < ill.mean() < 1.0
    assert set(every[ill]) == {0.0}
    np.testing.assert_array_equal(every[~ill], cleared[~ill])
    assert np.nanmean(cleared) > np.nanmean(every)


def test_days_of_response_are_the_first(arms):
    """A response with low counts comes before the complete remission that some of them become."""
    key = next(iter(arms))
    seen = MarrowSimulator({key: arms[key]}, 500)({})[key]
    full = seen.observe(Observable("response_day", code="CR", among="responders"))
    any_counts = seen.observe(Observable("response_day", code="CR_CRi", among="responders"))
    responded = seen.observe(Observable("response", code="CR_CRi")) == 1.0
    np.testing.assert_array_equal(np.isfinite(any_counts), responded)
    both = np.isfinite(full)
    assert (any_counts[both] <= full[both]).all()
    assert (any_counts[both] < full[both]).any()


def test_arms_of_the_table_say_what_is_asked(arms):
    every = arms_of(load_evidence())
    for row in load_evidence():
        if row.simulated is not None:
            asked = every[row.arm].observables
            assert asked >= {a.observable for a in row.endpoint.alternatives}


def test_steps_of_six_hours_agree_with_short_ones(arms):
    coarse = MarrowSimulator(arms, 64)({})
    fine = MarrowSimulator(arms, 64, steps_per_day=24)({})
    for key, arm in arms.items():
        if arm.schedule.drugs:
            # the error of the steps, not of the number of patients
            found, exact = (np.mean(seen[key].observe(DEATH)) for seen in (coarse, fine))
            assert found == pytest.approx(exact, rel=0.02)


def test_courses_tell_what_acts_though_nobody_prints_it(arms):
    """Platelets' transit moves no death; the EC50 of a drug that nobody gets moves nothing."""
    base = default_theta()
    run = MarrowSimulator(asking(arms, DEATH), 4)
    before = run(base)

    def changed(name):
        after = run({**base, name: 1.02 * base[name]})
        return {key: (after[key].trace() != before[key].trace()).any() for key in arms}

    treated = {key for key, arm in arms.items() if arm.schedule.drugs}
    transit, other = changed("mtt_platelet"), changed("ec50.lenalidomide")
    assert {key for key in treated if transit[key]} == treated
    given = {key for key in treated if "lenalidomide" in arms[key].schedule.names}
    assert {key for key in arms if other[key]} == given
    assert given != treated


def test_patients_without_drugs_are_followed_as_others_are(table_file):
    """They were simulated for one day: nobody died by day 30."""
    line = "A,aml_unfit,none,50,day30_mortality,,,,,10,50,READ"
    (row,) = load_evidence(table_file(line))
    plan = arms_of([row])
    what = row.endpoint.alternatives[0].observable
    died = MarrowSimulator(plan, 64, threads=1)(default_theta())[row.arm].observe(what)
    assert died.mean() > 0.05


@pytest.mark.parametrize(
    ("disease", "held"),
    [("aml_unfit", False), ("aml_remission", True), ("mds_high_risk", True), ("myeloma", True)],
)
def test_no_dose_is_held_in_active_leukaemia(disease, held):
    schedule = parse_schedule("lenalidomide:10mg:PO:1-21")
    (course,) = regimen_of(schedule, 4, 28, disease).courses
    assert bool(course.modifications) is held
    assert course.between is None
    (course,) = regimen_of(parse_schedule("cytarabine:20mg:SC:1-10"), 4, 28, disease).courses
    assert course.modifications == ()
    assert course.between is not None
