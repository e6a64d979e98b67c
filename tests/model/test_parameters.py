"""Priors: limits of the cards come back from the draws; groups move together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pkpd.cards.population_cards import load_population
from pkpd.errors import DataError
from pkpd.model import draw_parameters, load_model, typical, used_parameters
from pkpd.model.parameters import quantile_at_score
from pkpd.units import Parameter

MODEL = load_model()
POPULATION = load_population("hr_mds_aml_unfit")
DRAWS = draw_parameters(MODEL, POPULATION, 2000, 1)


def test_draws_have_every_parameter():
    names = [p.name for p in used_parameters(MODEL, POPULATION)]
    assert len(names) == len(set(names))
    assert set(DRAWS) == set(typical(MODEL, POPULATION)) == set(names)


@pytest.mark.parametrize("parameter", used_parameters(MODEL, POPULATION), ids=lambda p: p.name)
def test_draws_reproduce_value_and_interval(parameter):
    draws = DRAWS[parameter.name]
    assert np.all(np.isfinite(draws))
    if parameter.interval is None:
        assert np.all(draws == parameter.value)
        return
    tail = (1 - parameter.interval_prob) / 2
    low, middle, high = np.quantile(draws, [tail, 0.5, 1 - tail])
    width = parameter.interval[1] - parameter.interval[0]
    # stratified: a quantile is off by at most one stratum of 1/2000, here below 3 % of the width
    assert low == pytest.approx(parameter.interval[0], abs=0.03 * width)
    assert middle == pytest.approx(parameter.value, abs=0.005 * width)
    assert high == pytest.approx(parameter.interval[1], abs=0.03 * width)


def test_200_draws_already_stand_for_a_prior():
    draws = draw_parameters(MODEL, POPULATION, 200, 3)["clofarabine.effect.EC50"]
    assert np.median(draws) == pytest.approx(2.0, rel=0.02)
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([1.0, 6.0], rel=0.1)


def test_draws_of_one_parameter_do_not_depend_on_the_others():
    alone = draw_parameters(load_model(drugs=["lenalidomide"]), None, 50, 9)
    together = draw_parameters(MODEL, POPULATION, 50, 9)
    np.testing.assert_array_equal(alone["lenalidomide.CL"], together["lenalidomide.CL"])
    assert alone["population.relief"] == pytest.approx(0.0)


def test_kill_of_the_three_drugs_has_the_prior_of_their_sum():
    total = 5 * sum(
        DRAWS[f"{drug}.effect.ln_kill"] for drug in ("mitoxantrone", "etoposide", "cytarabine")
    )
    # prior of five days together: 6.5 (4.5-9)
    assert np.quantile(total, [0.025, 0.5, 0.975]) == pytest.approx([4.5, 6.5, 9.0], rel=0.01)
    order = np.argsort(DRAWS["etoposide.effect.ln_kill"])
    assert np.all(np.diff(DRAWS["cytarabine.effect.ln_kill"][order]) >= 0)


def test_independent_priors_are_not_correlated():
    # 2000 draws: standard error of a correlation 0.022
    r = np.corrcoef(DRAWS["lenalidomide.CL"], DRAWS["clofarabine.CL_renal"])[0, 1]
    assert abs(r) < 0.09


def test_no_draws_are_refused():
    with pytest.raises(DataError, match="0 draws"):
        draw_parameters(MODEL, POPULATION, 0, 1)


def test_symmetric_interval_is_the_usual_distribution():
    z = np.linspace(-3, 3, 13)
    normal = Parameter("a", 5.0, "1", (3.0, 7.0), distribution="normal")
    sd = 2.0 / stats.norm.ppf(0.975)
    np.testing.assert_allclose(quantile_at_score(normal, z), 5.0 + sd * z, rtol=1e-12)
    log = Parameter("b", 2.0, "1", (1.0, 4.0), 0.9, "lognormal")
    sigma = np.log(2.0) / stats.norm.ppf(0.95)
    np.testing.assert_allclose(quantile_at_score(log, z), 2.0 * np.exp(sigma * z), rtol=1e-12)


@given(
    st.floats(0.01, 100),
    st.floats(1.01, 20),
    st.floats(1.01, 20),
    st.floats(0.5, 0.99),
)
@settings(max_examples=50, deadline=None)
def test_quantiles_rise_and_hit_the_limits(value, down, up, probability):
    parameter = Parameter("x", value, "1", (value / down, value * up), probability, "lognormal")
    z = stats.norm.ppf([(1 - probability) / 2, 0.5, (1 + probability) / 2])
    expected = [value / down, value, value * up]
    np.testing.assert_allclose(quantile_at_score(parameter, z), expected, rtol=1e-9)
    assert np.all(np.diff(quantile_at_score(parameter, np.linspace(-5, 5, 50))) > 0)
