"""The compiled course against a tight reference, and its decisions against pkpd.schedule.follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leukaemia_cases import M2, SEVEN_THREE, arm, regimen, run
from reference import reference_course

from pkpd.cards.drug_cards import load_drug_card
from pkpd.leukaemia.parameters import default_theta, leukaemia_cards
from pkpd.leukaemia.patients import Candidates, who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.simulate import prepare_arm, simulate
from pkpd.marrow.variants import FULL, VARIANTS
from pkpd.schedule import (
    Course,
    Criterion,
    DoseModification,
    DoseRule,
    Gate,
    GrowthFactorPolicy,
    Regimen,
    follow,
)

LEN_MEC = (
    ("lenalidomide", 10, "mg", "1-14", "oral"),
    ("mitoxantrone", 8, M2, "4-8"),
    ("etoposide", 80, M2, "4-8"),
    ("cytarabine", 1000, M2, "4-8"),
    ("pegfilgrastim", 6, "mg", "10", "sc"),
)
CLOFARABINE = (("clofarabine", 30, M2, "1-5"), ("filgrastim", 0.3, "mg", "10-20", "sc"))
ORAL = (("clofarabine", 4, M2, "1-5", "oral"),)


@pytest.mark.parametrize(
    ("doses", "disease", "name"),
    [
        (SEVEN_THREE, "aml", "full"),
        pytest.param(LEN_MEC, "aml_relapsed", "full", marks=pytest.mark.slow),
        pytest.param(CLOFARABINE, "mds_high_risk", "full", marks=pytest.mark.slow),
        pytest.param(SEVEN_THREE, "aml", "study", marks=pytest.mark.slow),
        pytest.param(CLOFARABINE, "aml_unfit", "feedback_by_count", marks=pytest.mark.slow),
        pytest.param(ORAL, "lymphoma", "full", marks=pytest.mark.slow),
        (CLOFARABINE, "aml", "ten_stages_driven"),
        pytest.param(SEVEN_THREE, "aml", "ten_stages", marks=pytest.mark.slow),
    ],
)
def test_counts_agree_with_the_reference(doses, disease, name):
    """Steps of 4 h: |d ln| within 0.01 everywhere (ten stages: 0.02), falling with their square."""
    variant, theta = VARIANTS[name], leukaemia_cards(name).theta
    plan = arm(*doses, disease=disease)
    source = who(plan, 40, 1)
    prepared = prepare_arm(plan, source.sample)
    injury = prepared.regimen.injures(theta) and variant.late_injury
    got = {steps: simulate(plan, theta, source, variant, steps_per_day=steps) for steps in (6, 24)}
    error = {6: [], 24: []}
    for lane in (0, 7, 39):
        expected = reference_course(prepared, theta, got[6][1], variant, lane, injury)
        for steps, (course, _) in got.items():
            for line in ("neutrophils", "platelets"):
                error[steps].append(np.abs(np.log(getattr(course, line)[lane] / expected[line])))
            np.testing.assert_allclose(
                course.marrow_blasts[lane], expected["marrow_blasts"], rtol=0.1, atol=1e-3
            )
            np.testing.assert_allclose(
                course.cumulative_hazard[lane], expected["cumulative_hazard"], rtol=0.02, atol=1e-6
            )
    coarse, fine = np.array(error[6]), np.array(error[24])
    # behind ten stages a front falls more steeply; the largest error is at counts near 0.02
    assert coarse.max() < (0.01 if variant.transit_stages == 3 else 0.02)
    assert np.quantile(coarse, 0.9) < 0.003
    assert fine.max() < 0.0025  # most under lenalidomide, whose kill follows the hours of a day


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rho=st.floats(0.02, 2.0),
    kill=st.floats(0.1, 40.0),
    gamma=st.floats(0.0, 1.0),
    mtt=st.floats(1.0, 20.0),
    blasts=st.floats(1e-6, 0.999),
)
def test_counts_stay_positive_and_finite(seed, rho, kill, gamma, mtt, blasts):
    values = {**default_theta(), "rho": rho, "ln_kill": kill, "gamma": gamma, "mtt_neutrophil": mtt}
    values["blasts_start.aml"] = blasts
    plan = arm(*SEVEN_THREE, ("clofarabine", 40, M2, "1-5"))
    courses, _ = run(plan, values, 32, seed=seed, steps_per_day=4)
    for name in ("neutrophils", "platelets", "wbc", "marrow_blasts", "blood_blasts"):
        counts = getattr(courses, name)
        assert np.isfinite(counts).all()
        assert (counts >= 0.0).all()
    assert (courses.platelets > 0.0).all()
    assert (courses.marrow_blasts <= 100.0).all()
    assert (courses.platelets_with_transfused >= courses.platelets).all()
    assert (np.diff(courses.cumulative_hazard, axis=1) > 0.0).all()


def test_a_lane_does_not_depend_on_the_others_or_on_the_threads(theta):
    plan = arm(*SEVEN_THREE, ("clofarabine", 20, M2, "1-5"))
    source = who(plan, 300, 1)
    prepared, made = prepare_arm(plan, source.sample), Candidates((plan,), (source,))
    p, kill = made.patients(theta, FULL).parameters, made.normal["kill_blasts"]

    def of(some, threads):
        own = {name: values[some] for name, values in p.items()}
        return prepared.course(theta, own, some, kill[some], FULL, threads)

    every, some = np.arange(300), np.array([5, 77, 150, 299])
    together, split, alone = of(every, 1), of(every, 2), of(some, 1)
    for name in ("neutrophils", "platelets_with_transfused", "cumulative_hazard"):
        np.testing.assert_array_equal(getattr(together, name), getattr(split, name))
        np.testing.assert_array_equal(getattr(together, name)[some], getattr(alone, name))


def holding_regimen():
    """Lenalidomide with gates, holds and reductions, and a drug without them."""
    hold = DoseModification(
        "lenalidomide",
        (Criterion("neutrophils", 0.7), Criterion("platelets", 40)),
        (Criterion("neutrophils", 1.0), Criterion("platelets", 50)),
        (15.0, 10.0),
        True,
        visit_every_days=7,
    )
    between = Gate((Criterion("neutrophils", 1.0), Criterion("platelets", 50)), max_wait_days=14)
    first = Course(
        "first",
        (DoseRule("clofarabine", 5.0, M2, days=tuple(range(1, 6))),),
        21,
        gate=None,
    )
    second = Course(
        "second",
        (
            DoseRule("lenalidomide", 25.0, "mg", days=tuple(range(1, 22)), route="oral"),
            DoseRule("dexamethasone", 40.0, "mg", days=(1, 8, 15, 22), route="oral"),
        ),
        28,
        cycles=4,
        gate=Gate((Criterion("neutrophils", 0.8),), check_every_days=2, max_wait_days=9),
        between=between,
        modifications=(hold,),
    )
    return Regimen((first, second))


def test_decisions_are_those_of_the_protocol(theta):
    """Dosing days and starts of courses, against ``follow`` on the counts that came out."""
    schedule = ArmSchedule(holding_regimen(), 150)
    courses, _ = run(Arm("x", schedule, "mds_high_risk"), theta, 64)
    held = 0
    for lane in range(0, 64, 2):
        counts = np.stack([courses.neutrophils[lane], courses.platelets_with_transfused[lane]])
        followed = follow(schedule.regimen, counts.T)
        for k, drug in enumerate(courses.drugs):
            doses = [dose for dose in followed.doses if dose.drug == drug]
            assert len(doses) == courses.doses_given[lane, k]
            full = max((dose.amount for dose in doses), default=1.0)
            full = 25.0 if drug == "lenalidomide" else full
            total = sum(dose.amount for dose in doses) / full
            assert total == pytest.approx(courses.full_doses[lane, k])
            held += drug == "lenalidomide" and total < 84
        assert [len(days) for days in followed.starts] == courses.cycles_started[lane].tolist()
        first = [days[0] if days else 0 for days in followed.starts]
        assert first == courses.first_day[lane].tolist()
    assert held > 5  # the rules do bite


def test_a_course_for_persisting_leukaemia_is_left_out_in_remission(theta):
    first, second = (
        Course(name, regimen(*SEVEN_THREE).courses[0].doses, 28) for name in ("first", "second")
    )
    schedule = ArmSchedule(Regimen((first, second)), 60, only_if_blasts_from=(0.0, 5.0))
    courses, _ = run(Arm("x", schedule, "aml"), theta, 128)
    given_again = courses.first_day[:, 1] > 0
    np.testing.assert_array_equal(given_again, courses.marrow_blasts[:, 28] >= 5.0)
    assert 5 < given_again.sum() < 100


def test_blasts_are_judged_on_the_day_a_course_is_due_not_while_a_gate_waits(theta):
    first, second = (
        Course(name, regimen(*SEVEN_THREE).courses[0].doses, 14) for name in ("first", "second")
    )
    gate = Gate((Criterion("neutrophils", 1.0),), max_wait_days=28)
    waits = Regimen((first, replace(second, gate=gate)))
    schedule = ArmSchedule(waits, 80, only_if_blasts_from=(0.0, 5.0))
    courses, _ = run(Arm("x", schedule, "aml"), theta, 256)
    alive = courses.death_day > 50
    due = courses.marrow_blasts[:, 14] >= 5.0
    begun = courses.first_day[:, 1]
    np.testing.assert_array_equal((begun > 0)[alive], due[alive])
    waited = np.flatnonzero(alive & (begun > 15))
    fell = courses.marrow_blasts[waited, begun[waited] - 1] < 5.0
    assert fell.any()  # while they waited


def test_growth_factor_by_need_shortens_neutropenia_and_spares_platelets(theta):
    plain = arm(*SEVEN_THREE)
    given_factor = arm(*SEVEN_THREE, growth_factor=GrowthFactorPolicy(0.5, 9))
    without, _ = run(plain, theta, 200)
    with_factor, _ = run(given_factor, theta, 200)
    shorter = (without.neutrophils < 0.5).sum(axis=1) - (with_factor.neutrophils < 0.5).sum(axis=1)
    assert np.median(shorter) >= 1
    np.testing.assert_array_equal(without.platelets, with_factor.platelets)


def test_a_dose_by_mouth_counts_by_its_bioavailability(theta):
    """The triphosphate hardly sees the absorption, so that F times the dose by vein is as toxic."""
    share = load_drug_card("clofarabine").by_mouth.bioavailability.value
    oral, _ = run(arm(("clofarabine", 4, M2, "1-5", "oral"), disease="lymphoma"), theta, 32)
    vein, _ = run(arm(("clofarabine", 4 * share, M2, "1-5"), disease="lymphoma"), theta, 32)
    whole, _ = run(arm(("clofarabine", 4, M2, "1-5"), disease="lymphoma"), theta, 32)
    np.testing.assert_allclose(oral.neutrophils, vein.neutrophils, rtol=0.02)
    assert (whole.neutrophils.min(axis=1) < 0.9 * oral.neutrophils.min(axis=1)).all()


def test_the_full_variant_is_the_default():
    assert VARIANTS["full"] == FULL
