from __future__ import annotations

import conjugate
import numpy as np
import pytest
from scipy import stats

from pkpd.fitting.draws import Draws, single_draw
from pkpd.fitting.model.likelihood import bind


def draws_of(n=5):
    likelihood = bind(conjugate.model(), conjugate.data(4))
    rng = np.random.default_rng(2)
    population = {
        "level": rng.normal(1, 1, n),
        "slope": rng.normal(0, 0.5, n),
        "sigma_height": np.full(n, conjugate.SIGMA),
        "omega_level": np.full(n, conjugate.OMEGA),
    }
    return Draws(likelihood, population, 0.3 * rng.standard_normal((n, 4, 1)))


def expected(draws, random):
    seen = draws.likelihood.dataset.observations
    population = draws.population
    return (population["level"][:, None] + random[:, seen.subject, 0]) + (
        population["slope"][:, None] * seen.time
    )


def test_predictions_of_every_draw():
    draws = draws_of()
    np.testing.assert_allclose(
        draws.individual_predictions(), expected(draws, draws.random), rtol=1e-13
    )
    zero = np.zeros_like(draws.random)
    np.testing.assert_allclose(draws.typical_predictions(), expected(draws, zero), rtol=1e-13)
    values = draws.individual_parameters()
    np.testing.assert_allclose(
        values["level"], draws.population["level"][:, None] + draws.random[..., 0], rtol=1e-13
    )


def test_log_likelihood_by_subject():
    draws = draws_of()
    seen = draws.likelihood.dataset.observations
    each = stats.norm(expected(draws, draws.random), conjugate.SIGMA).logpdf(seen.value)
    by_subject = np.stack([np.bincount(seen.subject, row) for row in each])
    np.testing.assert_allclose(draws.log_likelihood(), by_subject, rtol=1e-12)


def test_replicates_of_new_patients_have_the_spread_of_the_model():
    one = draws_of(1)
    many = Draws(
        one.likelihood,
        {name: np.repeat(value, 2500) for name, value in one.population.items()},
        np.repeat(one.random, 2500, axis=0),
    )
    seen = one.likelihood.dataset.observations
    at = np.flatnonzero((seen.subject == 1) & (seen.time == 2.0))[0]
    new = np.array(list(many.replicates(1)))[:, at]
    mean = one.population["level"][0] + 2.0 * one.population["slope"][0]
    total = np.hypot(conjugate.OMEGA, conjugate.SIGMA)
    assert stats.kstest(new, stats.norm(mean, total).cdf).pvalue > 1e-3
    same = np.array(list(many.replicates(1, new_patients=False)))[:, at]
    own = stats.norm(mean + one.random[0, 1, 0], conjugate.SIGMA)
    assert stats.kstest(same, own.cdf).pvalue > 1e-3


def test_thinning_keeps_first_and_last_and_at_most_what_there_is():
    draws = draws_of(10)
    thin = draws.thinned(4)
    np.testing.assert_array_equal(thin.population["level"], draws.population["level"][[0, 3, 6, 9]])
    np.testing.assert_array_equal(thin.random, draws.random[[0, 3, 6, 9]])
    assert draws.thinned(50) is draws


def test_a_single_draw_fills_what_is_not_given():
    likelihood = bind(conjugate.model(), conjugate.data(4))
    one = single_draw(likelihood, {"level": 2.0}, np.zeros((4, 1)))
    assert len(one) == 1
    assert one.population["slope"] == pytest.approx([0.2])
    assert one.population["level"] == pytest.approx([2.0])
    np.testing.assert_allclose(one.cholesky, [[[conjugate.OMEGA]]])
    fixed, random = one.means
    np.testing.assert_allclose(fixed, [2.0, 0.2, conjugate.SIGMA])
    assert random.shape == (4, 1)
