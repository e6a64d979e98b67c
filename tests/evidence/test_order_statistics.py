"""Likelihoods of medians, ranges and means against brute-force simulation and exact sums."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm, t

from pkpd.evidence.likelihood.order_statistics import (
    Sample,
    _student_of_five,
    difference_log_likelihood,
    mean_log_likelihood,
    order_log_likelihood,
    quantiles_log_likelihood,
)


def many_simulated(values, weights=None, bandwidth=1e-6, size=1e8):
    """A sample whose cell probabilities are exact: no smoothing, no Monte Carlo error."""
    values = np.asarray(values, dtype=float)
    weights = np.full(values.size, 1 / values.size) if weights is None else weights
    return Sample(values, weights[None, :], np.array([size]), bandwidth, (0.0, 200.0))


def published(values, n, rng, repeats=400_000):
    """Minimum, median and maximum of n draws of a discrete distribution, many times."""
    draws = np.sort(rng.choice(values, size=(repeats, n)), axis=1)
    return draws[:, 0], draws[:, (n - 1) // 2], draws[:, n // 2], draws[:, -1]


@pytest.mark.parametrize("n", [7, 8, 25])
def test_median_against_brute_force(n):
    rng = np.random.default_rng(n)
    values = np.array([20.0, 22, 22, 25, 26, 27, 30, 40])
    _, low_mid, high_mid, _ = published(values, n, rng)
    expected = 0.5 * (np.mean(low_mid == 25) + np.mean(high_mid == 25))
    got = order_log_likelihood(many_simulated(values), n, (24.5, 25.5))
    assert np.exp(got[0]) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 400_000))


@pytest.mark.parametrize("n", [5, 9, 20])
def test_minimum_median_maximum_against_brute_force(n):
    rng = np.random.default_rng(10 + n)
    values = np.array([20.0, 22, 22, 25, 26, 27, 27, 30, 30, 40])
    low, low_mid, high_mid, high = published(values, n, rng)
    hit = (low == 20) & (high == 40)
    expected = 0.5 * (np.mean(hit & (low_mid == 26)) + np.mean(hit & (high_mid == 26)))
    got = order_log_likelihood(
        many_simulated(values), n, (25.5, 26.5), ((19.5, 20.5), (39.5, 40.5))
    )
    assert np.exp(got[0]) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 400_000))


def test_all_values_equal_when_minimum_is_median_is_maximum():
    values = np.array([20.0, 30.0, 30.0])
    cell = (29.5, 30.5)
    got = order_log_likelihood(many_simulated(values), 5, cell, (cell, cell))
    assert np.exp(got[0]) == pytest.approx((2 / 3) ** 5, rel=1e-5)


def test_probabilities_of_all_outcomes_sum_to_one():
    values = np.array([20.0, 22, 25, 25, 26])
    support = [20.0, 22.0, 25.0, 26.0]
    total = 0.0
    for low, mid, high in itertools.combinations_with_replacement(support, 3):
        cells = [(v - 0.5, v + 0.5) for v in (low, mid, high)]
        got = order_log_likelihood(many_simulated(values), 7, cells[1], (cells[0], cells[2]))
        total += np.exp(got[0])
    assert total == pytest.approx(1.0, abs=1e-5)


def test_monte_carlo_error_is_that_of_a_dirichlet():
    # cell probabilities drawn from the Dirichlet of the simulated counts, then the exact likelihood
    rng = np.random.default_rng(3)
    values = np.repeat([20.0, 25.0, 30.0, 40.0], [3, 5, 8, 4])
    sample = many_simulated(values, size=20.0)
    cells = ((19.5, 20.5), (24.5, 25.5), (39.5, 40.5))
    edges = np.array([-np.inf, 19.5, 20.5, 24.5, 25.5, 39.5, 40.5, np.inf])
    alpha = sample.cell_weights(edges)[0]
    drawn = rng.dirichlet(alpha, size=20_000)
    n, rank = 5, 3
    total = np.zeros(len(drawn))
    for counts in itertools.product(range(n + 1), repeat=5):
        if sum(counts) != n or counts[0] == 0 or counts[4] == 0:
            continue
        below, here = counts[0] + counts[1], counts[2]
        if not below < rank <= below + here:
            continue
        ways = math.factorial(n) / math.prod(math.factorial(c) for c in counts)
        total += ways * np.prod(drawn[:, 1:6] ** np.array(counts), axis=1)
    got = order_log_likelihood(sample, n, cells[1], (cells[0], cells[2]))
    assert np.exp(got[0]) == pytest.approx(total.mean(), abs=4 * total.std() / math.sqrt(20_000))


def test_far_misfit_stays_finite_and_worse():
    rng = np.random.default_rng(4)
    near = many_simulated(rng.normal(28, 7, 500), bandwidth=1.0, size=500.0)
    far = many_simulated(rng.normal(10, 1, 500), bandwidth=1.0, size=500.0)
    args = (181, (27.5, 28.5), ((12.5, 13.5), (50.5, 51.5)))
    good, bad = order_log_likelihood(near, *args)[0], order_log_likelihood(far, *args)[0]
    assert np.isfinite(bad)
    assert bad < good - 50


def test_quartiles_against_brute_force():
    rng = np.random.default_rng(5)
    values = rng.normal(30, 8, 4000)
    cells = ((24.5, 25.5), (29.5, 30.5), (34.5, 35.5))
    got = quantiles_log_likelihood(many_simulated(values), 19, cells, (0.25, 0.5, 0.75))
    draws = np.sort(rng.choice(values, size=(300_000, 19)), axis=1)
    hit = np.ones(len(draws), bool)
    for rank, (low, high) in zip((5, 10, 15), cells, strict=True):
        hit &= (draws[:, rank - 1] > low) & (draws[:, rank - 1] <= high)
    assert np.exp(got[0]) == pytest.approx(hit.mean(), abs=4 * math.sqrt(hit.mean() / 300_000))


def test_mean_is_normal_with_the_published_number():
    rng = np.random.default_rng(6)
    sample = many_simulated(rng.normal(34, 12, 20_000), bandwidth=1e-3)
    got = mean_log_likelihood(sample, 40, 36.0, 0.5)[0]
    sd = math.sqrt(144 / 40 + 0.25 / 3)
    assert got == pytest.approx(norm.logpdf(36, 34, sd), abs=0.03)


def test_mean_with_range_against_brute_force():
    rng = np.random.default_rng(7)
    values = np.array([20.0, 22, 25, 26, 27, 30, 40, 41])
    cells = ((19.5, 20.5), (40.5, 41.5))
    with_range = mean_log_likelihood(many_simulated(values), 12, 29.0, 0.5, cells)[0]
    without = mean_log_likelihood(many_simulated(values), 12, 29.0, 0.5)[0]
    draws = rng.choice(values, size=(200_000, 12))
    hit = np.mean((draws.min(axis=1) == 20) & (draws.max(axis=1) == 41))
    assert np.exp(with_range - without) == pytest.approx(hit, abs=4 * math.sqrt(0.25 / 200_000))


def test_ratio_of_arms():
    rng = np.random.default_rng(8)
    with_factor = many_simulated(rng.lognormal(3.0, 0.3, 50_000))
    without = many_simulated(rng.lognormal(3.2, 0.3, 50_000))
    got = difference_log_likelihood(with_factor, without, (100, 100), 0.85, None, log=True)[0]
    sd = 0.3 * math.sqrt(2 / 100)
    assert got == pytest.approx(norm.logpdf(math.log(0.85), -0.2, sd), abs=0.03)


def test_student_distribution_against_scipy():
    x = np.array([-np.inf, -50.0, -3.0, -0.2, 0.0, 1.7, 20.0, np.inf])
    np.testing.assert_allclose(_student_of_five(x), t.cdf(x, 5), atol=4e-16)


@pytest.mark.parametrize(("n", "size"), [(700, 3000.0), (700, 0.01), (3, 0.01), (181, 1e-3)])
def test_large_trials_and_few_simulated_patients_stay_within_double_precision(n, size):
    rng = np.random.default_rng(2)
    sample = many_simulated(rng.normal(28, 8, 300), bandwidth=1.0, size=size)
    # the probability that the median is anywhere is 1
    got = order_log_likelihood(sample, n, (-1e6, 1e6))
    assert got[0] == pytest.approx(0.0, abs=1e-7 * n)
    middle = order_log_likelihood(sample, n, (27.5, 28.5), ((12.5, 13.5), (50.5, 51.5)))
    assert np.isfinite(middle[0])
