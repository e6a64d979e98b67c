"""Prediction errors of data simulated from the model itself are standard normal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from marginal_cases import data, decay_model
from scipy import stats

from pkpd.errors import PkpdError
from pkpd.fitting.checks.npde import prediction_errors
from pkpd.fitting.checks.replicates import simulate_replicates
from pkpd.fitting.draws import single_draw
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.residual import additive

TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
N = 120
SD = 0.4


def true_values(seed=11):
    rng = np.random.default_rng(seed)
    A, k = (m * np.exp(s * rng.standard_normal((N, 1))) for m, s in ((10.0, 0.3), (0.3, 0.4)))
    return A * np.exp(-k * TIMES) + SD * rng.standard_normal((N, len(TIMES)))


def errors_of(dataset, *, omega=(0.3, 0.4), n=600, **options):
    likelihood = bind(decay_model(additive(SD), omega=omega), dataset)
    draws = single_draw(likelihood, {}, np.zeros((N, 2)))
    return prediction_errors(simulate_replicates(draws, n, seed=5), **options)


def limited(y, limit):
    return data(TIMES, np.maximum(y, limit), CENS=(y < limit).astype(int).ravel())


def test_errors_of_the_true_model_are_standard_normal():
    found = errors_of(data(TIMES, true_values()))
    z = found.npde
    assert np.isfinite(z).all()
    # p-values of fixed data: a wrong mean of 0.15 or sd of 1.1 would give less than 0.001
    assert stats.kstest(z, "norm").pvalue > 0.05
    tests = found.tests("DV")
    assert tests["n"] == N * len(TIMES)
    assert min(tests["p_mean"], tests["p_variance"], tests["p_normal"]) > 0.05


def test_few_replicates_for_many_observations_do_not_widen_the_errors():
    # 5 observations of a subject and 20 replicates: a covariance of the replicates alone would give
    # a variance of 1.2 or more
    tests = errors_of(data(TIMES, true_values()), n=20).tests("DV")
    assert abs(tests["variance"] - 1.0) < 0.12
    assert tests["p_variance"] > 0.05


@pytest.mark.parametrize("root", ["cholesky", "symmetric"])
def test_decorrelation_takes_out_the_correlation_within_subjects(root):
    found = errors_of(data(TIMES, true_values()), root=root)
    plain, white = (
        np.corrcoef(getattr(found, name).reshape(N, -1), rowvar=False) for name in ("npd", "npde")
    )
    off = ~np.eye(len(TIMES), dtype=bool)
    assert plain[off].max() > 0.6
    # a correlation of 120 independent pairs has standard error 0.09
    assert np.abs(white[off]).max() < 0.3


@pytest.mark.parametrize(
    ("omega", "key"), [((0.6, 0.8), "p_variance"), ((0.05, 0.05), "p_variance")]
)
def test_wrong_variability_is_seen(omega, key):
    tests = errors_of(data(TIMES, true_values()), omega=omega).tests()
    assert tests[key] < 1e-3
    assert (tests["variance"] < 1) == (omega[0] > 0.3)


def test_values_below_the_limit_keep_the_distribution():
    dataset = limited(true_values(), 2.0)
    share = np.mean(dataset.observations.censored == 1)
    assert 0.15 < share < 0.5
    found = errors_of(dataset)
    assert np.isfinite(found.npde).all()
    assert stats.kstest(found.npd, "norm").pvalue > 0.05
    assert found.tests()["p_mean"] > 0.05
    # without the censored values the rest lies too high
    omitted = errors_of(dataset, censored="omit")
    np.testing.assert_array_equal(np.isnan(omitted.npde), dataset.observations.censored == 1)
    assert np.nanmean(omitted.npd) > 0.1
    assert abs(np.mean(found.npd)) < 0.1


def test_a_single_value_per_subject_is_a_rank():
    y = true_values()[:, :1]
    likelihood = bind(decay_model(additive(SD)), data(TIMES[:1], y))
    simulations = simulate_replicates(single_draw(likelihood, {}, np.zeros((N, 2))), 99, seed=2)
    found = prediction_errors(simulations)
    below = np.sum(simulations.values < y.ravel(), axis=0)
    place = stats.norm.cdf(found.npde) * 100
    assert np.all((place >= below) & (place <= below + 1))


def test_subjects_that_cannot_be_solved_are_told():
    dataset = data(TIMES, true_values())
    likelihood = bind(decay_model(additive(SD)), dataset)
    simulations = simulate_replicates(single_draw(likelihood, {}, np.zeros((N, 2))), 50)
    values = simulations.values.copy()
    values[:, dataset.observations.subject == 4] = np.nan
    found = prediction_errors(replace(simulations, values=values))
    assert np.isnan(found.npde[dataset.observations.subject == 4]).all()
    assert "5" in found.notes[0]
    assert np.isfinite(found.npde[dataset.observations.subject == 3]).all()


def test_refusals():
    dataset = data(TIMES, true_values())
    with pytest.raises(PkpdError, match="cdf, omit"):
        errors_of(dataset, n=40, censored="drop")
    with pytest.raises(PkpdError, match="20 or more"):
        errors_of(dataset, n=5)
    many = np.tile(true_values()[:, :1], (1, 30))
    likelihood = bind(decay_model(additive(SD)), data(np.linspace(0.1, 3, 30), many))
    simulations = simulate_replicates(single_draw(likelihood, {}, np.zeros((N, 2))), 40)
    with pytest.raises(PkpdError, match="subject 1: 30 observations and 40 replicates"):
        prediction_errors(simulations)
