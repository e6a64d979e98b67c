"""Residuals against closed forms of linear mixed models."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from marginal_cases import LEVEL, LINE, Curve, data, decay_data, decay_model, line_model
from scipy import linalg

from pkpd.fitting.checks.residuals import residuals, slopes
from pkpd.fitting.draws import Draws, single_draw
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.residual import additive, lognormal, proportional
from pkpd.fitting.model.specification import PopulationModel, parameter

TIMES = np.array([0.0, 1.0, 2.0, 4.0, 7.0])
SIGMA = 0.5
OMEGA = np.array([[4.0, 0.36], [0.36, 0.09]])


def line_values(n=6, seed=3):
    rng = np.random.default_rng(seed)
    random = rng.multivariate_normal(np.zeros(2), OMEGA, n)
    mean = 10.0 + random[:, :1] + (1.0 + random[:, 1:]) * TIMES
    return mean + SIGMA * rng.standard_normal((n, len(TIMES)))


def correlated_line():
    """Line with correlated random effects, values and their design."""
    y = line_values()
    likelihood = bind(line_model(additive(SIGMA), correlated=[("a", "b")]), data(TIMES, y))
    # a partial correlation of two effects is their correlation
    values = {"partial_a_b": OMEGA[0, 1] / np.sqrt(OMEGA[0, 0] * OMEGA[1, 1])}
    z = np.column_stack([np.ones(len(TIMES)), TIMES])
    return likelihood, values, y, z


def modes_of(y, z):
    """Best linear unbiased predictions."""
    v = z @ OMEGA @ z.T + SIGMA**2 * np.eye(len(TIMES))
    gain = OMEGA @ z.T @ np.linalg.inv(v)
    return (y - (10.0 + TIMES)) @ gain.T, v


def test_conditional_residuals_of_a_linear_model():
    likelihood, values, y, z = correlated_line()
    modes, v = modes_of(y, z)
    found = residuals(single_draw(likelihood, values, modes))
    error = y - (10.0 + TIMES)
    expected = error @ np.real(linalg.inv(linalg.sqrtm(v))).T
    # differences of a linear function carry rounding only: 1e-13 over a step of 1e-3
    np.testing.assert_allclose(found.cwres, expected.ravel(), atol=1e-8)
    # a linear model is its own linearisation: both kinds agree
    np.testing.assert_allclose(found.wres, expected.ravel(), atol=1e-8)
    individual = 10.0 + TIMES + modes @ z.T
    np.testing.assert_allclose(found.iwres, ((y - individual) / SIGMA).ravel(), atol=1e-10)
    np.testing.assert_allclose(found.pred, np.tile(10.0 + TIMES, 6), atol=1e-12)


def test_posterior_draws_use_modes_at_their_means():
    likelihood, values, y, z = correlated_line()
    modes, _ = modes_of(y, z)
    one = single_draw(likelihood, values, np.zeros((6, 2)))
    shift = {"a": np.array([9.0, 11.0]), "b": np.array([1.2, 0.8])}
    population = {n: np.repeat(v, 2) for n, v in one.population.items()} | shift
    found = residuals(Draws(likelihood, population, np.zeros((2, 6, 2))))
    assert found.converged.all()
    assert found.values["a"] == pytest.approx(10.0)
    # the mode search ends within 1e-4 posterior standard deviations
    np.testing.assert_allclose(found.random, modes, atol=1e-4)


def test_variability_between_occasions_enters_the_covariance():
    y = line_values(4)[:, :4]
    occasion = np.tile([1, 1, 2, 2], 4)
    dataset = data(TIMES[:4], y, OCC=occasion)
    model = PopulationModel(
        LEVEL, [parameter("a", 10.0, iiv=2.0, iov=0.7, scale="identity")], additive(SIGMA)
    )
    likelihood = bind(model, dataset)
    found = residuals(single_draw(likelihood, {}, np.zeros((4, 3))))
    same = np.kron(np.eye(2), np.ones((2, 2)))
    v = 4.0 + 0.49 * same + SIGMA**2 * np.eye(4)
    expected = (y - 10.0) @ np.real(linalg.inv(linalg.sqrtm(v))).T
    np.testing.assert_allclose(found.wres, expected.ravel(), atol=1e-8)


def test_log_normal_error_is_taken_on_the_log_scale():
    dataset = decay_data(n=5, sd=0.0)
    model = decay_model(lognormal(0.2))
    likelihood = bind(model, dataset)
    u = np.array([[0.1, -0.2]] * 5)
    found = residuals(single_draw(likelihood, {}, u))
    times = dataset.observations.time
    f = 10.0 * np.exp(0.1) * np.exp(-0.3 * np.exp(-0.2) * times)
    np.testing.assert_allclose(
        found.iwres, (np.log(dataset.observations.value) - np.log(f)) / 0.2, rtol=1e-10
    )
    # log f is linear in the random effect of A, and not in that of k: both enter
    z = np.column_stack([np.ones(5), -0.3 * np.exp(-0.2) * times[:5]])
    v = z @ np.diag([0.09, 0.16]) @ z.T + 0.04 * np.eye(5)
    shifted = np.log(f[:5]) - z @ u[0]
    expected = np.real(linalg.inv(linalg.sqrtm(v))) @ (
        np.log(dataset.observations.value[:5]) - shifted
    )
    np.testing.assert_allclose(found.cwres[:5], expected, rtol=1e-5)


def test_predictions_over_many_decades_have_residuals():
    """A proportional error up from 2e-8 to 10 and down again: variances over 17 decades."""
    times = np.array([0.5, 10.0, 25.0, 40.0, 60.0, 75.0])
    noise = 0.1 * np.random.default_rng(2).standard_normal((3, 6))
    f = 10.0 * np.exp(-0.5 * np.abs(times - 40.0))
    peak = Curve(lambda t, A, k: A * jax.numpy.exp(-k * abs(t - 40.0)), ("A", "k"))
    model = decay_model(proportional(0.1), k=0.5).replace(structure=peak)
    likelihood = bind(model, data(times, f * (1.0 + noise)))
    found = residuals(single_draw(likelihood, {}, np.zeros((3, 2))))
    # in units of the predictions the covariance has one scale; the sum of squares is the same
    z = np.column_stack([np.ones(6), -0.5 * np.abs(times - 40.0)])
    v = z @ np.diag([0.09, 0.16]) @ z.T + np.diag(0.1 + 1e-12 / f) ** 2
    expected = np.einsum("bi,ij,bj->b", noise, np.linalg.inv(v), noise)
    squares = np.sum(found.cwres.reshape(3, 6) ** 2, axis=1)
    np.testing.assert_allclose(squares, expected, rtol=1e-3)


def test_slopes_of_a_curve():
    likelihood = bind(decay_model(additive(0.5)), decay_data(n=3))
    lower = np.diag([0.3, 0.4])
    fixed = np.asarray(likelihood.fixed({"A": 10.0, "k": 0.3, "sigma_DV": 0.5}))
    found = slopes(jax.jit(likelihood.predictions), fixed, np.zeros((3, 2)), lower)
    t = likelihood.dataset.observations.time
    f = 10.0 * np.exp(-0.3 * t)
    exact = np.column_stack([0.3 * f, -0.4 * 0.3 * t * f])
    # third derivative times step^2 / 6, with a step of 1e-3 standard deviations
    np.testing.assert_allclose(found, exact, atol=1e-7 * f.max())


def test_heavy_tails_have_a_larger_standard_deviation():
    y = line_values(3)
    normal, student = (
        residuals(
            single_draw(
                bind(line_model(additive(SIGMA, nu=nu)), data(TIMES, y)), {}, np.zeros((3, 2))
            )
        )
        for nu in (None, 4.0)
    )
    # the variance of Student's t with four degrees of freedom is twice its squared scale
    np.testing.assert_allclose(normal.iwres / student.iwres, np.sqrt(2.0))


def test_censored_values_have_no_residual():
    dataset = decay_data(n=6, limit=1.0)
    likelihood = bind(decay_model(additive(0.5)), dataset)
    found = residuals(single_draw(likelihood, {}, np.zeros((6, 2))))
    hidden = dataset.observations.censored == 1
    assert hidden.any()
    for name in ("iwres", "wres", "cwres"):
        np.testing.assert_array_equal(np.isnan(getattr(found, name)), hidden)
    assert np.isfinite(found.ipred).all()


def test_a_model_without_random_effects():
    model = PopulationModel(
        LINE,
        [parameter("a", 10.0, scale="identity"), parameter("b", 1.0, scale="identity")],
        additive(SIGMA),
    )
    y = line_values(3)
    found = residuals(single_draw(bind(model, data(TIMES, y)), {}, np.zeros((3, 0))))
    np.testing.assert_allclose(found.cwres, ((y - 10.0 - TIMES) / SIGMA).ravel())
