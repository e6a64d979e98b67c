"""States of a disease, and how lenalidomide may act on early cells."""

from __future__ import annotations

import numpy as np
import pytest
from leukaemia_cases import M2, arm

from pkpd.cards.population_cards import population_of_disease
from pkpd.evidence.likelihood.parameters import marrow_prior
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.drug_effects import prepare_regimen
from pkpd.leukaemia.parameters import default_theta, leukaemia_cards, value_of
from pkpd.marrow.actions import MaturationBlock, may_be_zero
from pkpd.marrow.variants import VARIANTS

LEVELS = np.array([0.0, 1e-3, 0.02, 0.3, 5.0])


def test_kill_of_early_cells_has_a_hill_form_of_its_own():
    p = {"d_emax": 0.9, "d_ec50_neutrophil": 0.1, "d_ec50_platelet": 0.2, "d_kill_stem": 0.4}
    p |= {"d_slow_stem": 0.0, "d_kill_blasts": 0.3, "d_ec50_kill": 0.05, "d_hill_kill": 2.5}
    own = MaturationBlock("d_", own_kill=True)
    assert {"d_ec50_kill", "d_hill_kill"} <= set(own.parameters)
    assert not {"d_ec50_kill", "d_hill_kill"} & may_be_zero(own)
    seen = np.array([own.shares(c, p)["loss_early"] for c in LEVELS])
    hill = LEVELS**2.5 / (0.05**2.5 + LEVELS**2.5)
    np.testing.assert_allclose(seen, 0.4 * 0.9 * hill, rtol=1e-12, atol=1e-60)
    # the EC50 of maturation and exponent 1: the kill of an action without them
    same = p | {"d_ec50_kill": 0.1, "d_hill_kill": 1.0}
    plain = MaturationBlock("d_")
    for c in LEVELS[1:]:
        first, second = own.shares(c, same), plain.shares(c, p)
        for name, value in second.items():
            np.testing.assert_allclose(first[name], value, rtol=1e-13)
    assert "d_ec50_kill" not in MaturationBlock("d_", own_kill=True, linear=True).parameters


@pytest.mark.slow
def test_variants_switch_early_kill_and_interaction():
    theta = default_theta() | {
        "kill_stem.lenalidomide": 0.5,
        "slow_stem.lenalidomide": 0.0,
        "with_chemotherapy.lenalidomide": 1.5,
    }
    an_arm = arm(
        ("cytarabine", 200, M2, "1-5"), ("lenalidomide", 10, "mg", "1-14", "oral"), horizon=15
    )
    prepared = prepare_regimen(an_arm.schedule)
    rules = {name: prepared.at(theta, VARIANTS[name]) for name in VARIANTS}
    early = {n: r.rates[..., 0].sum() + r.pair_rates[..., 0].sum() for n, r in rules.items()}
    assert early["full"] == pytest.approx(1.5 * early["no_early_kill"], rel=1e-12)
    assert early["synergy_alone"] == early["full"]
    assert early["early_kill_alone"] == early["no_early_kill"]
    counts = {}
    for name in ("full", "early_kill_alone", "synergy_alone", "no_early_kill"):
        got = population_outcomes(an_arm, theta, 32, variant=VARIANTS[name])
        counts[name] = np.log(got.course.neutrophils[:, -1]).mean()
    # each mechanism lowers counts, both do most
    assert counts["full"] < min(counts["early_kill_alone"], counts["synergy_alone"])
    assert max(counts["early_kill_alone"], counts["synergy_alone"]) < counts["no_early_kill"]
    off = theta | {"kill_stem.lenalidomide": 0.0, "with_chemotherapy.lenalidomide": 1.0}
    none = population_outcomes(an_arm, off, 32).course.neutrophils
    again = population_outcomes(an_arm, theta, 32, variant=VARIANTS["no_early_kill"])
    np.testing.assert_array_equal(again.course.neutrophils, none)


def test_a_state_is_its_disease_but_for_its_resistance():
    cards, theta = leukaemia_cards(), default_theta()
    assert set(cards.states) >= {"aml_refractory", "aml_relapse_late", "aml_secondary"}
    for state, disease in cards.states.items():
        assert value_of(theta, "capacity", state) == value_of(theta, "capacity", disease)
        assert value_of(theta, "resistance", state) == cards.parameters[f"resistance.{state}"].value
        older = theta | {f"resistance.{state}": np.nan}
        assert value_of(older, "resistance", state) == value_of(theta, "resistance", disease)
        population = population_of_disease(state)
        assert population.disease == state
        assert population.covariates == population_of_disease(disease).covariates


def test_resistance_of_a_state_is_pooled_about_its_disease():
    prior, cards = marrow_prior(), leukaemia_cards()
    z = np.zeros(prior.size)
    z[prior.names.index("resistance.aml_relapsed")] = 1.3
    z[prior.names.index("resistance.aml_refractory")] = -0.4
    theta = prior.theta(z)
    spread = theta["resistance.between"]
    disease = theta["resistance"] * np.exp(1.3 * spread)
    assert theta["resistance.aml_relapsed"] == pytest.approx(disease, rel=1e-12)
    ratio = (
        cards.parameters["resistance.aml_refractory"].value
        / cards.parameters["resistance.aml_relapsed"].value
    )
    expected = ratio * disease * np.exp(-0.4 * spread)
    assert theta["resistance.aml_refractory"] == pytest.approx(expected, rel=1e-12)
    # at equal scores: refractory, early relapse, late relapse, as second remissions are reported
    middle = prior.theta(np.zeros(prior.size))
    states = ("aml_refractory", "aml_relapse_early", "aml_relapse_late", "aml_relapsed")
    order = [middle[f"resistance.{state}"] for state in states]
    assert order == sorted(order)
