"""Cards, random patients, and the outcomes a calibration asks for."""

from __future__ import annotations

import numpy as np
import pytest
from leukaemia_cases import M2, SEVEN_THREE, arm, regimen

from pkpd.errors import PkpdError
from pkpd.leukaemia import arm_outcomes
from pkpd.leukaemia.arm_outcomes import PreparedArms, population_outcomes
from pkpd.leukaemia.drug_effects import drug_named, intensity, prepare_regimen
from pkpd.leukaemia.parameters import default_theta, leukaemia_cards, value_of, with_changes
from pkpd.leukaemia.patients import SCORES, Who, arm_patients, random_scores, who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.marrow.actions import CHANNELS
from pkpd.marrow.variants import FULL, Variant
from pkpd.schedule import Criterion, DoseModification
from pkpd.subjects import patients


def test_every_number_of_the_cards_has_a_source_and_its_limits_hold_it():
    cards = leukaemia_cards()
    assert len(cards.parameters) > 150
    for name, p in cards.parameters.items():
        assert p.source
        assert p.status in ("read", "transcribed", "derived", "fitted", "assumed", "memory")
        if p.interval:
            assert p.interval[0] < p.value < p.interval[1] or p.value in p.interval, name


def test_values_of_diseases_fall_back():
    theta = default_theta()
    assert value_of(theta, "stem_start", "aml_unfit") == theta["stem_start.aml"]
    assert value_of(theta, "growth", "mds_del5q") == theta["growth.mds_lower_risk"]
    assert value_of(theta, "growth", "aml") == theta["growth"]
    changed = with_changes({"growth.aml": 0.1, "rho": 0.3})
    assert value_of(changed, "growth", "aml_relapsed") == 0.1
    assert changed["rho"] == 0.3
    assert default_theta(rho__sd=0.3)["rho.sd"] == 0.3
    with pytest.raises(PkpdError, match="did you mean 'rho'"):
        with_changes({"rhoo": 1.0})
    with pytest.raises(PkpdError, match="unknown disease"):
        value_of(theta, "rho", "flu")


def test_intensities_and_names_of_drugs():
    theta = default_theta()
    both = intensity(theta, "daunorubicin", 180.0) + intensity(theta, "cytarabine", 700.0)
    assert both == pytest.approx(1.0)  # 7+3 is the unit
    assert intensity(theta, "cytarabine", 18_000.0) < 1.8 * intensity(theta, "cytarabine", 700.0)
    assert intensity(theta, "etoposide", 800.0) == pytest.approx(
        2.0 * intensity(theta, "etoposide", 400.0)
    )
    assert drug_named(" CPX-351 ") == "cpx_351"
    assert drug_named("Lenalidomide") == "lenalidomide"
    with pytest.raises(PkpdError, match="did you mean 'clofarabine'"):
        drug_named("clofarabin")


def test_scores_are_fixed_uniform_and_named():
    first, again = random_scores(500, 1, "a"), random_scores(500, 1, "a")
    np.testing.assert_array_equal(first, again)
    assert first.shape == (500, len(SCORES))
    assert (first != random_scores(500, 1, "b")).any()
    assert np.abs(first.mean(axis=0) - 0.5).max() < 0.02  # of random numbers: 0.04
    assert not first.flags.writeable


def test_patients_follow_the_population():
    theta = default_theta() | {"rho_age": 0.0, "capacity_age": 0.0}
    source = who(arm(), 2048, 3)
    p = arm_patients(arm(), theta, source, FULL).parameters
    assert np.median(p["rho"]) == pytest.approx(0.251, rel=0.01)
    assert np.log(p["rho"]).std() == pytest.approx(0.42, rel=0.02)
    assert np.median(p["blasts_start"]) == pytest.approx(0.60, rel=0.01)
    assert p["stem_start"].max() <= 1.0
    assert (p["capacity"] >= p["stem_start"]).all()
    other = arm_patients(arm(), theta | {"rho": 0.3}, source, FULL).parameters
    np.testing.assert_allclose(other["rho"] / p["rho"], 0.3 / 0.251)
    np.testing.assert_array_equal(other["stem_start"], p["stem_start"])


def test_below_forty_age_changes_neither_marrow_nor_blasts():
    """The slopes are of adults: those of 8 and of 39 years are as those of 40."""
    made = Arm(name="x", disease="aml_relapsed", schedule=ArmSchedule(None, 60), age=45.0)
    slopes = {"resistance_age": 0.2, "capacity_age": 0.1, "rho_age": 0.1}
    source = who(made, 400, 1, "x")
    flat, sloped = (
        arm_patients(made, default_theta() | dict.fromkeys(slopes, 0.0) | more, source, FULL)
        for more in ({}, slopes)
    )
    age = flat.parameters["age"]
    young = age <= 40.0
    assert 0.1 < young.mean() < 0.5
    for name, slope in (("rho", 0.1), ("resistance", 0.2)):
        ratio = sloped.parameters[name] / flat.parameters[name]
        np.testing.assert_allclose(ratio[young], np.exp(2.0 * slope), rtol=1e-12)
        assert (ratio[~young] < ratio[young].min()).all()


def test_age_acts_on_blasts_regrowth_and_what_a_marrow_regains():
    made = Arm(name="x", disease="aml", schedule=ArmSchedule(None, 60), age=66.0)
    theta = default_theta() | {"resistance_age": 0.0, "capacity_age": 0.0, "rho_age": 0.0}
    source = who(made, 200, 1, "x")
    plain = arm_patients(made, theta, source, FULL).parameters
    older = (np.maximum(plain["age"], 40.0) - 60.0) / 10.0
    assert np.ptp(older) > 1.0
    changed = arm_patients(
        made, theta | {"resistance_age": 0.2, "capacity_age": 0.1}, source, FULL
    ).parameters
    expected = plain["resistance"] * np.exp(-0.2 * older)
    np.testing.assert_allclose(changed["resistance"], expected, rtol=1e-12)
    by_chemotherapy = plain["kill_blasts"] * np.exp(-0.2 * older)
    np.testing.assert_allclose(changed["kill_blasts"], by_chemotherapy, rtol=1e-12)
    slower = arm_patients(made, theta | {"rho_age": 0.1}, source, FULL).parameters
    for name in ("rho", "rho_platelet"):
        np.testing.assert_allclose(slower[name], plain[name] * np.exp(-0.1 * older), rtol=1e-12)
    # capacities are not below the early pool at the start
    free = (plain["capacity"] > plain["stem_start"]) & (changed["capacity"] > changed["stem_start"])
    assert free.mean() > 0.9
    ratio = changed["capacity"][free] / plain["capacity"][free]
    np.testing.assert_allclose(ratio, np.exp(-0.1 * older[free]), rtol=1e-12)


def test_limits_of_entry_are_kept_and_patients_stay_the_same():
    theta = default_theta()
    limited = Arm("x", ArmSchedule(None, 10), "mds_lower_risk", least_neutrophils=1.0,
                  least_platelets=50.0)  # fmt: skip
    got = population_outcomes(limited, theta, 200)
    assert got.n == 200
    assert got.baseline["neutrophils"].min() >= 1.0
    assert got.baseline["platelets"].min() >= 50.0
    assert len(np.unique(got.baseline["age"])) > 150


def test_limits_that_nobody_meets_are_refused():
    nobody = Arm("x", ArmSchedule(None, 10), "mds_lower_risk", least_platelets=50_000.0)
    with pytest.raises(PkpdError, match=r"none of 32 candidates .* platelets from 50000"):
        population_outcomes(nobody, default_theta(), 8)


def test_myelodysplasia_is_in_balance_until_the_clone_is_killed():
    """Without drug counts stay; a kill of the clone alone lifts them above their baseline."""
    theta = with_changes({"growth.mds_high_risk": 1e-9, "growth.sd": 0.0})
    stays = population_outcomes(arm(disease="mds_high_risk", horizon=180), theta, 64)
    ratio = stays.course.neutrophils / stays.course.neutrophils[:, :1]
    assert np.abs(np.log(ratio)).max() < 1e-6
    # dexamethasone made to kill the clone and nothing else
    theta = with_changes({**theta, "intensity.dexamethasone": 1e-6, "blasts.dexamethasone": 3e6})
    plan = arm(("dexamethasone", 40, "mg", "1-4", "oral"), disease="mds_high_risk", horizon=180)
    freed = population_outcomes(plan, theta, 64)
    cleared = freed.course.marrow_blasts[:, 60] < 0.01
    assert cleared.mean() > 0.3
    for counts in (freed.course.neutrophils, freed.course.platelets):
        assert (counts[cleared, -1] > 1.15 * counts[cleared, 0]).all()


def test_same_seed_same_numbers_and_arms_do_not_interfere():
    theta = default_theta()
    plans = [arm(*SEVEN_THREE), Arm("other", arm(*SEVEN_THREE).schedule, "aml_unfit")]
    first = list(PreparedArms(plans, [who(plan, 128, 1) for plan in plans]).outcomes(theta))
    again = population_outcomes(plans[1], theta, 128)
    np.testing.assert_array_equal(first[1].response_day, again.response_day)
    np.testing.assert_array_equal(first[1].course.neutrophils, again.course.neutrophils)
    assert (first[0].death_day != population_outcomes(plans[0], theta, 128, seed=2).death_day).any()
    bad = Who(np.zeros((5, 5)), who(plans[0], 5, 1).sample)
    with pytest.raises(PkpdError, match="scores of shape"):
        population_outcomes(plans[0], theta, 128, source=bad)


def test_arms_made_together_are_those_made_alone(monkeypatch):
    """Diseases with and without a capacity of their own, ages, and limits of entry, mixed."""
    schedule = arm(*SEVEN_THREE, ("clofarabine", 20, M2, "2-4", "oral"), horizon=30).schedule
    plans = [
        Arm("a", schedule, "aml"),
        Arm("b", ArmSchedule(None, 3), "mds_lower_risk", least_neutrophils=1.0),
        Arm("c", schedule, "mds_high_risk", age=50.0),
        Arm("d", schedule, "lymphoma", most_wbc=20.0),
    ]
    theta = with_changes({"rho.sd": 0.5, "intensity.cytarabine": 2.0})
    sources = [who(plan, 40, 2, plan.name) for plan in plans]
    together = PreparedArms(plans, sources)
    together.outcomes(default_theta(), threads=1)  # nothing of it is left over
    every = together.outcomes(theta)
    for got, plan, own in zip(every, plans, sources, strict=True):
        alone = population_outcomes(plan, theta, 40, source=own)
        assert got.n == alone.n == 40
        for name in ("neutrophils", "platelets_with_transfused", "marrow_blasts", "wbc"):
            np.testing.assert_allclose(
                getattr(got.course, name), getattr(alone.course, name), rtol=1e-11, atol=1e-300
            )
        np.testing.assert_array_equal(got.baseline["age"], alone.baseline["age"])

    def refuse():
        pytest.fail("threads of all cores")

    monkeypatch.setattr(arm_outcomes, "course_pool", refuse)
    two = together.outcomes(theta, threads=2)
    np.testing.assert_array_equal(two[0].course.wbc, every[0].course.wbc)


def test_a_prepared_regimen_gives_the_tables_of_every_parameter_set():
    schedule = arm(*SEVEN_THREE, ("clofarabine", 20, M2, "2-4", "oral")).schedule
    prepared = prepare_regimen(schedule)
    assert prepared.rules.amount[0, 1].tolist() == [20.0]  # in the unit of its slot
    assert [level.card.name for level in prepared.levels] == ["clofarabine"]
    for changes in ({}, {"intensity.cytarabine": 2.0}, {}):
        theta = with_changes(changes)
        rates = prepared.at(theta).rates[0]
        total = intensity(theta, "cytarabine", 700.0)
        np.testing.assert_allclose(rates[:, 1, 0].sum(), total, rtol=1e-14)


def test_a_drug_may_sensitise_early_cells_to_chemotherapy_on_its_days():
    schedule = arm(*SEVEN_THREE, ("lenalidomide", 10, "mg", "5-10", "oral")).schedule
    prepared, theta = prepare_regimen(schedule), default_theta()
    plain = prepared.at(theta).rates[0]
    rules = prepared.at(theta | {"with_chemotherapy.lenalidomide": 1.5})
    assert sorted(map(tuple, rules.pair)) == [(0, 2), (1, 2)]  # with either drug of chemotherapy
    more = rules.rates[0].copy()
    for place, (drug, _) in enumerate(rules.pair):
        more[:, drug] += rules.pair_rates[0, :, place]
    early = [CHANNELS.index("early"), CHANNELS.index("early_platelet")]
    others = [i for i in range(plain.shape[-1]) if i not in early]
    np.testing.assert_array_equal(more[..., others], plain[..., others])
    assert plain[:7, 1, 0].min() > 0.0
    np.testing.assert_array_equal(more[:4], plain[:4])
    np.testing.assert_allclose(more[4:10][..., early], 1.5 * plain[4:10][..., early], rtol=1e-14)


def test_ages_follow_the_arm_and_bodies_its_population():
    older = Arm("x", ArmSchedule(None, 1), "aml", age=71.0)
    source = who(older, 2048, 1)
    assert np.median(source.sample["age"]) == pytest.approx(71.0, abs=0.3)
    younger = who(Arm("x", ArmSchedule(None, 1), "aml", age=41.0), 2048, 1)
    # kidneys age with their patients, by the rule of the population card
    clearance = [np.median(w.sample["crcl"]) for w in (younger, source)]
    assert clearance[1] < 0.8 * clearance[0]
    mine = patients(
        {"age": [30.0, 80.0], "male": [1, 0], "weight": [90, 50], "height": [180, 155],
         "scr": [0.9, 1.4]}
    )  # fmt: skip
    given = who(Arm("x", ArmSchedule(None, 1), "aml", population=mine), 5, 1)
    assert given.sample["weight"].tolist() == [90, 50, 90, 50, 90]


def test_arrays_of_outcomes_agree_with_each_other():
    got = population_outcomes(arm(*SEVEN_THREE, horizon=90), default_theta(), 512)
    recovery = got.recovery_day["neutrophils", 0.5]
    assert np.isnan(recovery[got.days_below["neutrophils", 0.5] == 0.0]).all()
    finite = np.isfinite(recovery)
    assert (recovery[finite] <= got.death_day[finite]).all()
    higher = got.recovery_day["neutrophils", 1.0]
    both = np.isfinite(higher) & finite
    assert (higher[both] >= recovery[both]).all()
    assert (got.longest_below["platelets", 20.0] <= got.days_below["platelets", 20.0]).all()
    assert ((got.worst_grade["neutrophils"] == 4) == (got.nadir["neutrophils"] < 0.5)).all()
    assert (got.response_day[got.responded("CR")] < np.inf).all()
    # share of deaths: of the scores, and of the smooth probabilities; binomial error 0.015
    dead = np.mean(got.death_day <= 59)
    assert dead == pytest.approx(1.0 - got.alive_probability(60).mean(), abs=0.03)
    assert got.blasts_day(1)[0] == got.baseline["marrow_blasts"][0]
    with pytest.raises(PkpdError, match="was not simulated"):
        got.blasts_day(91)


def test_cycles_and_holds():
    hold = DoseModification(
        "lenalidomide",
        (Criterion("neutrophils", 0.5), Criterion("platelets", 25)),
        (Criterion("neutrophils", 1.0), Criterion("platelets", 50)),
        (15.0, 10.0),
        True,
    )
    plan = regimen(
        ("lenalidomide", 25, "mg", "1-21", "oral"), cycle_days=28, cycles=4, modifications=(hold,)
    )
    got = population_outcomes(
        Arm("x", ArmSchedule(plan, 112), "myeloma", least_neutrophils=1.0), default_theta(), 256
    )
    assert (got.course.full_doses <= got.course.doses_given).all()
    assert got.course.doses_given.min() < 84 == got.course.doses_given.max()


def test_bad_schedules_are_refused():
    with pytest.raises(PkpdError, match="limits of blasts"):
        ArmSchedule(regimen(("cytarabine", 100, M2, "1")), 60, only_if_blasts_from=(5.0, 0.0))
    with pytest.raises(PkpdError, match="horizon_days"):
        ArmSchedule(None, 0)
    with pytest.raises(PkpdError, match="lineages"):
        Variant(lineages="none")


def test_a_variant_with_other_equations_of_recovery_has_numbers_of_its_own():
    usual = leukaemia_cards()
    for name in ("ten_stages", "ten_stages_driven"):
        cards = leukaemia_cards(name)
        assert cards.theta["rho"] != usual.theta["rho"]
        assert cards.theta["max_stem.clofarabine"] != usual.theta["max_stem.clofarabine"]
        assert cards.theta["growth"] == usual.theta["growth"]
        new = set(cards.parameters) - set(usual.parameters)
        assert new == ({"rho_growth"} if name == "ten_stages_driven" else set())
        for number, p in cards.parameters.items():
            assert p.source
            if p.interval:
                assert p.interval[0] < p.value < p.interval[1] or p.value in p.interval, number
        # learned in the same places, so that one table of evidence asks both
        assert set(cards.learned) - new == set(usual.learned)
    assert leukaemia_cards("no_reserve").theta == usual.theta


def test_patients_of_ones_own_have_their_ages():
    own = patients({"age": [50, 60], "male": 1, "weight": 75, "height": 178, "scr": 1.0})
    with pytest.raises(PkpdError, match="a median age of 55 years beside patients who have their"):
        Arm("A", ArmSchedule(None, 30), "aml", population=own, age=55.0)
    assert Arm("A", ArmSchedule(None, 30), "aml", population=own).who is own


def test_blasts_and_increments_are_those_that_their_sources_print():
    """12 % of the cells of a marrow in higher-risk MDS; a mean rise of 24.9 by a transfusion."""
    made = Arm(name="x", disease="mds_high_risk", schedule=ArmSchedule(None, 2))
    outcomes = population_outcomes(made, default_theta(), 2000)
    assert np.median(outcomes.baseline["marrow_blasts"]) == pytest.approx(12.0, abs=1.0)
    p = arm_patients(made, default_theta(), who(made, 4096, 1, "x"), FULL).parameters
    assert p["increment"].mean() == pytest.approx(24.9, rel=0.02)
