"""Published landmarks, and those of the feasibility study that the model grew from.

Days are protocol days (day 1 is the first dose), one more than days since the first dose. With
2,048 patients the Monte Carlo error (2 SE) is about 0.5 d of a median and 0.02 of a rate near a
half, 0.015 of one near a tenth; limits are those plus what is said.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from leukaemia_cases import M2, SEVEN_THREE, arm, regimen

from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.parameters import default_theta, with_changes
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.marrow.variants import FULL, VARIANTS
from pkpd.schedule import Criterion, DoseModification, GrowthFactorPolicy

ANC, PLT = ("neutrophils", 0.5), ("platelets", 20.0)
STUDY = with_changes(
    {
        "rho.sd": 0.5,
        "ec50.lenalidomide": 0.14 / 2.1,
        "ec50.sd.lenalidomide": 0.33,
        "platelet_ratio.lenalidomide": 1.0,
        "hazard_neutropenia": 9.5e-3,
        "hazard_age": 0.0,
        "stem_platelet.sd.aml": 0.0,
        "max_blasts.clofarabine": 0.75,
        "max_stem.clofarabine": 1.02,
        "ec50_stem.clofarabine": 1.86,
        "hill.clofarabine": 1.0,
    }
)
WITH_CLOFARABINE = (
    ("idarubicin", 12, M2, "1-3"), ("cytarabine", 100, M2, "1-7"), ("clofarabine", 10, M2, "1-5"),
)  # fmt: skip


def run(an_arm, theta, variant=FULL, n=2048):
    return population_outcomes(an_arm, theta, n, variant=variant)


def median_day(got, key):
    """Median among patients in remission who had been below."""
    days = got.recovery_day[key][got.responded("CR", "CRh", "CRi")]
    return np.median(days[~np.isnan(days)])


def not_recovered(got, day, anc=0.5, plt=20.0):
    """Share not recovered of patients alive and free of leukaemia on the day."""
    told = (got.blasts_day(day) < 5.0) & (got.death_day > day)
    late = (got.recovery_day["neutrophils", anc] > day) | (got.recovery_day["platelets", plt] > day)
    return np.mean(late[told])


@pytest.fixture(scope="module")
def induction():
    return run(arm(*SEVEN_THREE), STUDY, VARIANTS["study"])


def test_study_figures_of_induction(induction):
    """The study: day 23.5 for neutrophils and 25 for platelets since the first dose (its better
    scheme), remission 60 %, day-14 clearance 72 %, 5.6 % not recovered by day 45."""
    assert median_day(induction, ANC) == pytest.approx(24.5, abs=1.0)
    assert median_day(induction, PLT) == pytest.approx(25.5, abs=1.5)
    assert induction.responded("CR", by_day=60).mean() == pytest.approx(0.60, abs=0.04)
    assert np.mean(induction.blasts_day(14) < 5.0) == pytest.approx(0.72, abs=0.03)
    assert not_recovered(induction, 45) == pytest.approx(0.056, abs=0.015)
    assert np.median(induction.baseline["neutrophils"]) == pytest.approx(1.05, rel=0.1)
    assert np.median(induction.baseline["platelets"]) == pytest.approx(60.0, rel=0.1)


@pytest.mark.slow
def test_study_figures_of_variants(induction):
    """No early pool: day 10; no reserve: 10 % and 51 % late; crowding or block: no more than a
    day. Its clofarabine combination: 16-18 % late."""
    study = VARIANTS["study"]
    fast = run(arm(*SEVEN_THREE), STUDY, replace(study, stem_memory=False))
    assert median_day(fast, ANC) < 11.0
    without = replace(study, reserve=False)
    late = not_recovered(run(arm(*SEVEN_THREE), STUDY, without), 45)
    assert late == pytest.approx(0.10, abs=0.02)
    both = run(arm(*WITH_CLOFARABINE), STUDY, study)
    assert not_recovered(both, 45) == pytest.approx(0.17, abs=0.03)
    alone = run(arm(*WITH_CLOFARABINE), STUDY, without)
    assert not_recovered(alone, 45) == pytest.approx(0.51, abs=0.05)
    for off in ("crowding", "block"):
        got = run(arm(*SEVEN_THREE), STUDY, replace(study, **{off: False}))
        assert abs(median_day(got, ANC) - median_day(induction, ANC)) <= 1.0


def test_study_figures_of_clofarabine():
    """30 mg/m^2: 7-9 % late with the reserve, without it 17 % by the study's coarser steps.

    Here it is 12 and 21 %: the study had no kidneys, and these patients clear 10 % less than its.
    """
    plan = arm(("clofarabine", 30, M2, "1-5"))
    study = VARIANTS["study"]
    assert not_recovered(run(plan, STUDY, study), 45) == pytest.approx(0.12, abs=0.025)
    without = run(plan, STUDY, replace(study, reserve=False))
    assert not_recovered(without, 45) == pytest.approx(0.21, abs=0.03)


def test_card_values_meet_published_induction():
    """Neutrophils 0.5 on day 28 (13-51), platelets 20 on day 25 (12-52), n = 181; remission
    60-65 %; deaths by day 30 6-11 %; neutrophils 1.27 and platelets 62 before treatment."""
    got = run(arm(*SEVEN_THREE, horizon=90), default_theta())
    assert 24.0 <= median_day(got, ANC) <= 29.0
    assert 23.0 <= median_day(got, PLT) <= 27.0
    days = got.recovery_day[ANC][got.responded("CR", "CRh", "CRi")]
    low, high = np.nanquantile(days[np.isfinite(days)], [0.005, 0.995])
    assert 10.0 <= low <= 15.0
    assert 45.0 <= high <= 70.0  # published 51: a heavier tail than in one centre
    assert 0.58 <= got.responded("CR").mean() <= 0.68
    assert 0.06 <= np.mean(got.death_day <= 30) <= 0.125
    assert 1.0 <= np.median(got.baseline["neutrophils"]) <= 1.6
    assert got.baseline["neutrophils"].max() > 15.0  # 55 was seen; the study's model had no tail
    assert 50.0 <= np.median(got.baseline["platelets"]) <= 70.0


def test_card_values_meet_growth_factor_and_consolidation():
    """Filgrastim: 15 % sooner, no effect on platelets. High-dose cytarabine: day 18-24, below 0.5
    for 8-10 days."""
    plain = run(arm(*SEVEN_THREE), default_theta())
    given = run(arm(*SEVEN_THREE, growth_factor=GrowthFactorPolicy(0.5, 8)), default_theta())
    ratio = median_day(given, ANC) / median_day(plain, ANC)
    assert 0.8 <= ratio <= 0.97
    # the same patients with and without: whole days, so the mean of their differences
    both = np.isfinite(given.recovery_day[PLT]) & np.isfinite(plain.recovery_day[PLT])
    change = given.recovery_day[PLT][both] - plain.recovery_day[PLT][both]
    assert both.mean() > 0.5
    assert abs(change.mean()) < 0.5
    high = run(arm(("cytarabine", 6000, M2, "1,3,5"), disease="aml_remission"), default_theta())
    assert 16.0 <= median_day(high, ANC) <= 24.0
    below = high.days_below[ANC]
    assert 5.0 <= np.median(below[below > 0]) <= 10.0


@pytest.mark.slow
def test_card_values_meet_clofarabine():
    """Alone at 30 mg/m^2 in older patients: remission 46-48 %, in 34 d (25-78); with
    cyclophosphamide: mean 34 d (17-78); MTDs of 2, 3 and 4 mg/m^2 without leukaemia."""
    theta = default_theta()
    older = run(arm(("clofarabine", 30, M2, "1-5"), disease="aml_unfit", horizon=90), theta)
    assert 0.40 <= older.responded("CR", "CRh", "CRi").mean() <= 0.56
    assert 30.0 <= np.median(older.response_day[older.responded("CR")]) <= 38.0
    both = arm(
        ("clofarabine", 10, M2, "1-4"), ("cyclophosphamide", 300, M2, "1-4"),
        disease="aml_relapsed", horizon=90,
    )  # fmt: skip
    days = run(both, theta).recovery_day[ANC]
    assert 27.0 <= days[np.isfinite(days)].mean() <= 36.0
    tablets = arm(("clofarabine", 3, "mg", "1-21", "oral"), disease="lymphoma", horizon=35)
    long = run(tablets, theta)  # published 53 % and 27 %
    assert np.mean(long.worst_grade["neutrophils"] >= 3) == pytest.approx(0.53, abs=0.12)
    assert np.mean(long.worst_grade["platelets"] >= 3) == pytest.approx(0.27, abs=0.12)
    long_low = {}
    for dose, disease in ((2, "solid_pretreated"), (3, "cll"), (4, "lymphoma"),
                          (15, "solid_pretreated")):  # fmt: skip
        got = run(arm(("clofarabine", dose, M2, "1-5"), disease=disease, horizon=35), theta)
        low = (got.longest_below[ANC] > 5) | (got.longest_below["platelets", 25.0] > 5)
        long_low[dose] = low.mean()
    assert 0.05 <= long_low[2] <= 0.4
    assert 0.15 <= long_low[3] <= 0.45
    assert 0.15 <= long_low[4] <= 0.45
    assert long_low[15] > 0.5


@pytest.mark.parametrize(
    ("dose", "disease", "floor", "neutropenia", "thrombocytopenia"),
    [
        (30, "myeloma", (1.0, 60.0), 0.60, 0.39),
        (25, "lymphoma", (1.0, 60.0), 0.45, 0.24),
        (10, "mds_lower_risk", (0.5, 50.0), 0.30, 0.25),
    ],
)
def test_card_values_meet_lenalidomide(dose, disease, floor, neutropenia, thrombocytopenia):
    """Grade 3-4 over six cycles with holds and reductions; within 0.13 of the published rates,
    which are adverse-event reports of one to three trials."""
    levels = {30: (20, 15, 10, 5), 25: (20, 15, 10, 5), 10: (5,)}[dose]
    hold = DoseModification(
        "lenalidomide",
        (Criterion("neutrophils", 0.5), Criterion("platelets", 25)),
        (Criterion("neutrophils", 1.0), Criterion("platelets", 50)),
        tuple(float(v) for v in levels),
        True,
    )
    plan = regimen(
        ("lenalidomide", dose, "mg", "1-21", "oral"), cycle_days=28, cycles=6, modifications=(hold,)
    )
    an_arm = Arm("lenalidomide", ArmSchedule(plan, 168), disease, least_neutrophils=floor[0],
                 least_platelets=floor[1])  # fmt: skip
    got = run(an_arm, default_theta(), n=1024)
    assert np.mean(got.worst_grade["neutrophils"] >= 3) == pytest.approx(neutropenia, abs=0.13)
    assert np.mean(got.worst_grade["platelets"] >= 3) == pytest.approx(thrombocytopenia, abs=0.13)


def test_late_injury_is_seen_after_mitoxantrone_not_before():
    """Secondary cytopenia three weeks after remission: early recovery hardly moves, later counts
    fall, more than after daunorubicin."""
    theta = default_theta()
    fall = {}
    for drug in ("mitoxantrone", "daunorubicin"):
        dose = {"mitoxantrone": 8.0, "daunorubicin": 36.0}[drug]
        plan = arm((drug, dose, M2, "1-5"), ("cytarabine", 2000, M2, "1-5"), horizon=150)
        with_injury = run(plan, theta, n=1024)
        without = run(plan, theta, VARIANTS["no_late_injury"], n=1024)
        if drug == "mitoxantrone":
            assert median_day(with_injury, ANC) - median_day(without, ANC) <= 2.0
        ratio = with_injury.course.neutrophils / without.course.neutrophils
        fall[drug] = np.median(ratio[:, 89])
    assert fall["mitoxantrone"] < 0.8
    assert fall["mitoxantrone"] < fall["daunorubicin"] < 1.0
