"""Doses that are held, late or far apart: what was not given acts on nothing and is not counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from leukaemia_cases import M2, arm

import pkpd
from pkpd.comparison.curves import doses_by_day
from pkpd.errors import PkpdError
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.drug_effects import blocks_of, prepare_regimen
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.schedule import ArmSchedule
from pkpd.schedule import Criterion, DoseModification, plan

CYTARABINE = ("cytarabine", 200, M2, "1-5")
LENALIDOMIDE = ("lenalidomide", 10, "mg", "1-14", "oral")


def held(an_arm, drug):
    """The arm, with a drug held from the first morning on."""
    low = (Criterion("neutrophils", 20.0),)
    change = DoseModification(drug, hold_below=low, resume_at=low)
    (course,) = an_arm.schedule.regimen.courses
    regimen = replace(an_arm.schedule.regimen, courses=(replace(course, modifications=(change,)),))
    return replace(an_arm, schedule=replace(an_arm.schedule, regimen=regimen))


def counts(an_arm, theta):
    return population_outcomes(an_arm, theta, 32, threads=1).course


def test_a_drug_that_is_held_sensitises_nothing():
    plain = default_theta() | {"with_chemotherapy.lenalidomide": 1.0}
    more = plain | {"with_chemotherapy.lenalidomide": 1.5}
    both = arm(CYTARABINE, LENALIDOMIDE, horizon=30)
    for drug, place in (("lenalidomide", 1), ("cytarabine", 0)):
        never, same = (counts(held(both, drug), theta) for theta in (more, plain))
        lanes = never.doses_given[:, place] == 0
        assert lanes.mean() > 0.8  # leukaemic neutrophils may be above the limit of holding
        np.testing.assert_array_equal(never.neutrophils[lanes], same.neutrophils[lanes])
    given, same = (counts(both, theta) for theta in (more, plain))
    assert np.median(given.neutrophils[:, 14] / same.neutrophils[:, 14]) < 0.95


def test_doses_by_day_are_those_that_were_given():
    both = arm(CYTARABINE, LENALIDOMIDE, horizon=30)
    made = plan(both.schedule.regimen, 30)
    course = counts(both, default_theta())
    given = doses_by_day(made, course)
    alive = (course.death_day[:, None] > np.arange(30)).sum(axis=0)
    for drug, days in (("cytarabine", 5), ("lenalidomide", 14)):
        np.testing.assert_array_equal(given[drug][days:], 0)
        assert np.all(given[drug][:days] <= course.lanes)
        assert np.all(given[drug][:days] >= alive[:days] - course.lanes // 8)
        total = course.doses_given[:, made.drugs.index(drug)].sum()
        assert given[drug].sum() <= total
    late = counts(held(both, "lenalidomide"), default_theta())
    place = made.drugs.index("lenalidomide")
    of_late = doses_by_day(made, late)["lenalidomide"].sum()
    assert of_late <= late.doses_given[:, place].sum()
    assert of_late < 0.2 * given["lenalidomide"].sum()
    np.testing.assert_array_equal(doses_by_day(made, late)["cytarabine"][5:], 0)


def test_chemotherapy_given_later_takes_nothing_from_what_was_given_before():
    """Cytarabine's kill saturates with the dose of a course, not with what is planned for later."""
    theta = default_theta()
    first = prepare_regimen(arm(CYTARABINE, horizon=80).schedule).at(theta).rates[0]
    both = prepare_regimen(arm(("cytarabine", 200, M2, "1-5, 43-47"), horizon=80).schedule)
    assert [total for *_, total, _ in both.chemotherapy] == [1000.0, 1000.0]
    rates = both.at(theta).rates[0]
    np.testing.assert_array_equal(rates[:5], first[:5])
    np.testing.assert_array_equal(rates[42:47], first[:5])
    before = counts(arm(CYTARABINE, horizon=80), theta)
    after = counts(arm(("cytarabine", 200, M2, "1-5, 60"), horizon=80), theta)
    np.testing.assert_array_equal(after.neutrophils[:, :60], before.neutrophils[:, :60])


@pytest.mark.parametrize(
    ("days", "blocks"),
    [((1, 2, 3), 1), ((1, 8, 15), 1), ((1, 14), 1), ((1, 15), 2), ((1, 2, 40, 41, 60), 3), ((), 0)],
)
def test_doses_two_weeks_apart_are_courses_of_their_own(days, blocks):
    dose = np.zeros(70)
    dose[[day - 1 for day in days]] = 2.0
    found = blocks_of(dose)
    assert [times for _, times in found] == [1] * blocks
    np.testing.assert_array_equal(sum((block for block, _ in found), np.zeros(70)), dose)


@pytest.mark.parametrize(
    ("days", "cycle_days", "expected"),
    [
        ((1, 2), 28, [((1, 2), 1)]),
        ((1,), 7, [((1,), 4)]),
        ((1, 20), 28, [((1, 20), 1)]),  # day 20 and day 1 of the next cycle
        ((1, 16, 31), 40, [((1, 31), 1), ((16,), 1)]),
    ],
)
def test_cycles_that_follow_closely_are_one_course(days, cycle_days, expected):
    dose = np.zeros(cycle_days)
    dose[[day - 1 for day in days]] = 2.0
    found = blocks_of(dose, cycle_days, cycles=4)
    days_of = [tuple(int(day) + 1 for day in np.flatnonzero(block)) for block, _ in found]
    assert [(one, times) for one, (_, times) in zip(days_of, found, strict=True)] == expected


def reduced(drug, amount, lower, **more):
    """Two cycles of five days, with a lower level after a hold."""
    low = (Criterion("platelets", 50.0),)
    change = DoseModification(drug, low, levels_mg=(lower,), reduce_on_resume=True)
    given = pkpd.daily(drug, f"{amount} mg/m^2", days="1-5/35", route="iv", **more).repeat(2)
    return given.with_modifications(change)


@pytest.mark.parametrize(
    ("drug", "amount", "lower", "more"),
    [
        ("cytarabine", 3000, 1500.0, {}),  # saturates
        ("daunorubicin", 60, 30.0, {}),
        ("docetaxel", 100, 70.0, {"cap_mg": 140.0}),  # 77.8 mg/m^2 are given of the first
    ],
)
def test_a_reduced_level_acts_as_the_dose_that_it_is(drug, amount, lower, more):
    theta = default_theta()
    rules = prepare_regimen(ArmSchedule(reduced(drug, amount, lower, **more), 70)).at(theta)
    lower_given = pkpd.daily(drug, f"{lower} mg/m^2", days="1-5/35", route="iv", **more).repeat(2)
    prescribed = prepare_regimen(ArmSchedule(lower_given, 70)).at(theta)
    acts = rules.share[:, :, :, 1, None] * rules.rates
    np.testing.assert_allclose(acts[:, :5], prescribed.rates[:, :5], rtol=1e-12)
    np.testing.assert_array_equal(rules.share[:, :5, :, 0], 1.0)
    assert rules.level[0, 0, 1] == lower / amount  # doses are counted as before


def test_a_reduced_level_of_a_drug_that_saturates_spares_less_than_it_is_less():
    """Patients of a drug that is held once: the second cycle at half the dose, or a fiftieth."""
    low = {}
    for lower in (2990.0, 1500.0, 60.0):
        one = reduced("cytarabine", 3000, lower)
        course = counts(replace(arm(), schedule=ArmSchedule(one, 70)), default_theta())
        low[lower] = np.nanmedian(np.nanmin(course.neutrophils[:, 42:], axis=1))
    assert low[2990.0] <= low[1500.0] < 1.5 * low[2990.0] < low[60.0]


def test_two_names_of_a_drug_are_one_drug():
    """Its kill saturates over what is given under either name."""

    def given(drug, days):
        return pkpd.daily(drug, "1000 mg/m^2", days=f"{days}/28", route="iv")

    both = given("Ara-C", "1-3").together(given("cytarabine", "4-6"))
    found, same = (
        prepare_regimen(ArmSchedule(one, horizon_days=40)).at(default_theta()).rates
        for one in (both, given("cytarabine", "1-6"))
    )
    np.testing.assert_allclose(found, same, rtol=1e-14)
    twice = given("Ara-C", "1-3").together(given("cytarabine", "2-4"))
    with pytest.raises(PkpdError, match="Ara-C is given twice on day 2"):
        prepare_regimen(ArmSchedule(twice, horizon_days=40))


def test_a_dose_a_day_is_written_in_one_way_or_another():
    theta = default_theta()
    once = pkpd.daily("cytarabine", "100 mg/m^2", days="1-7", route="iv")
    by_day = pkpd.daily("cytarabine", "100 mg/m^2", days="1", route="iv").repeat(7)
    rates = [
        prepare_regimen(ArmSchedule(one, horizon_days=40)).at(theta).rates[0, 0]
        for one in (once, by_day)
    ]
    np.testing.assert_allclose(rates[1], rates[0], rtol=1e-14)
