"""Likelihoods of counts against closed forms, sums to 1, and brute-force integration."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, betabinom, binom, dirichlet_multinomial

from pkpd.evidence.likelihood.counts import (
    categories_log_likelihood,
    count_log_likelihood,
    tolerated_log_likelihood,
)


def test_count_is_beta_binomial_of_simulated_counts():
    share, size = np.array([0.3, 0.0]), np.array([200.0, 500.0])
    got = count_log_likelihood(7, 20, share, size)
    expected = [betabinom.logpmf(7, 20, 60.5, 140.5), betabinom.logpmf(7, 20, 0.5, 500.5)]
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_count_approaches_binomial_with_many_simulated_patients():
    got = count_log_likelihood(7, 20, np.array([0.3]), np.array([1e7]))
    assert got[0] == pytest.approx(binom.logpmf(7, 20, 0.3), abs=1e-5)


def test_count_averages_the_binomial_over_repeated_simulation():
    # X simulated of M at true p; averaged over p uniform (nearly Jeffreys), p(k | X) must be what
    # Bayes gives by simulation: draw p, X and k together, keep those with the X at hand
    rng = np.random.default_rng(1)
    p = rng.beta(0.5, 0.5, 2_000_000)
    x, k = rng.binomial(40, p), rng.binomial(10, p)
    kept = k[x == 12]
    freq = np.bincount(kept, minlength=11) / kept.size
    got = np.exp(
        [count_log_likelihood(j, 10, np.array([0.3]), np.array([40.0]))[0] for j in range(11)]
    )
    # 5 standard errors of the frequencies
    assert np.all(np.abs(freq - got) < 5 * np.sqrt(got / kept.size))


def test_categories_is_dirichlet_multinomial_and_reduces_to_the_count():
    shares, size = np.array([[0.2, 0.1, 0.7]]), np.array([300.0])
    got = categories_log_likelihood([5, 2, 13], shares, size)
    expected = dirichlet_multinomial.logpmf([5, 2, 13], [60.5, 30.5, 210.5], 20)
    assert got[0] == pytest.approx(expected, rel=1e-10)
    two = categories_log_likelihood([5, 15], np.array([[0.2, 0.8]]), size)
    assert two[0] == pytest.approx(count_log_likelihood(5, 20, np.array([0.2]), size)[0], rel=1e-10)


def test_tolerated_dose_is_the_integral_over_both_toxicity_probabilities():
    def passed(p):
        return (1 - p) ** 3 + 3 * p * (1 - p) ** 5

    first = quad(lambda p: passed(p) * beta.pdf(p, 20.5, 180.5), 0, 1, epsabs=1e-12)[0]
    second = quad(lambda p: passed(p) * beta.pdf(p, 80.5, 120.5), 0, 1, epsabs=1e-12)[0]
    got = tolerated_log_likelihood(
        np.array([0.1]), np.array([200.0]), np.array([0.4]), np.array([200.0])
    )
    assert got[0] == pytest.approx(np.log(first * (1 - second)), abs=1e-8)


def test_three_plus_three_pass_probability_by_playing_the_design():
    rng = np.random.default_rng(2)
    p = 0.25
    first, second = rng.binomial(3, p, 400_000), rng.binomial(3, p, 400_000)
    played = np.mean((first == 0) | ((first == 1) & (second == 0)))
    nearly_sure_to_fail = (np.array([1.0]), np.array([1e9]))
    got = tolerated_log_likelihood(np.array([p]), np.array([1e9]), *nearly_sure_to_fail)
    assert np.exp(got[0]) == pytest.approx(played, abs=4 * np.sqrt(0.25 / 400_000))
