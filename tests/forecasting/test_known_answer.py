"""Weights, tempering and the mode against a posterior in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_answer import (
    ERROR,
    NORMAL,
    SPREAD,
    FlatLanes,
    posterior,
    seen_of,
)
from scipy import stats

from pkpd.ensemble.lanes import Identities
from pkpd.forecasting.bank import Asked, simulated
from pkpd.forecasting.mode import AROUND, Mode, _Search, around
from pkpd.forecasting.tempering import Tempering, _Moves, _State, tempered
from pkpd.forecasting.weighing import log_likelihood, more, weigh

ASKED = Asked(back={"neutrophils": 0.5})
SCORES, KNOWN, OWN = 20, 4, 0.5  # of a patient; of them seen; error of these
FEW, MANY = [1.2, 0.9], [0.30, 0.33, 0.27, 0.31, 0.36, 0.29, 0.30, 0.33]


def bank(n=4000, seed=1, **lanes):
    made = FlatLanes(**lanes)
    return simulated(made, made.drawn(n, seed), ASKED, threads=1)


def test_weights_give_the_posterior_in_closed_form():
    found = weigh(bank(40_000), seen_of(FEW), NORMAL)
    z, (mean, sd, _) = found.bank.who.scores[:, 0], posterior(FEW)
    average = found.weights @ z
    assert found.k < 0.7
    assert average == pytest.approx(mean, abs=4 * sd / np.sqrt(found.effective))
    assert np.sqrt(found.weights @ (z - average) ** 2) == pytest.approx(sd, rel=0.03)


def test_one_count_after_the_other_gives_what_all_together_give():
    made = bank()
    first, both = seen_of(MANY[:3]), seen_of(MANY)
    later = both.taken(np.arange(3, len(MANY)))
    one = more(weigh(made, first, NORMAL), later, NORMAL, made)
    np.testing.assert_allclose(
        one.log_likelihood, weigh(made, both, NORMAL).log_likelihood, rtol=1e-10
    )
    assert len(one.seen) == len(MANY)


def test_a_count_below_its_limit_gives_the_probability_of_lying_there():
    made, seen = bank(200), seen_of([0.2])
    below = type(seen)("p", seen.line, seen.time, seen.value, np.array([1]), np.array([0.0]))
    found = weigh(made, below, NORMAL).log_likelihood
    logs = made.measured["neutrophils"][:, 1].astype(float)
    np.testing.assert_allclose(found, stats.norm.logcdf(np.log(0.2), logs, ERROR), rtol=1e-5)


@pytest.mark.parametrize("values", [FEW, MANY])
def test_tempering_gives_the_posterior_in_closed_form(values):
    found = tempered(
        weigh(bank(500), seen_of(values), NORMAL), NORMAL, 3, Tempering(1500), threads=1
    )
    z, (mean, sd, _) = found.bank.who.scores, posterior(values)
    # neighbours in a chain are alike: a third of the particles count
    assert z[:, 0].mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(500))
    assert z[:, 0].std() == pytest.approx(sd, rel=0.12)
    # of the others nothing is learned
    np.testing.assert_allclose(z[:, 1:].mean(axis=0), 0.0, atol=0.15)
    np.testing.assert_allclose(z[:, 1:].std(axis=0), 1.0, rtol=0.12)


def test_tempering_weighs_draws_by_their_marginal_likelihood():
    shift = (-0.5, 0.0, 0.5, 1.0)
    found = tempered(
        weigh(bank(2000, shift=shift), seen_of(MANY), NORMAL), NORMAL, 5, Tempering(3000), 1
    )
    evidence = np.exp([posterior(MANY, s)[2] for s in shift])
    share = np.bincount(found.bank.who.draw, minlength=4) / 3000
    np.testing.assert_allclose(share, evidence / evidence.sum(), atol=0.06)


def test_further_counts_temper_on_from_where_the_particles_are():
    all_seen = seen_of(MANY)
    early, late = all_seen.taken(np.arange(4)), all_seen.taken(np.arange(4, len(MANY)))
    source = bank(1000)
    first = tempered(weigh(source, early, NORMAL), NORMAL, 3, Tempering(1500), 1)
    second = tempered(more(first, late, NORMAL, source), NORMAL, 4, Tempering(1500), 1)
    mean, sd, _ = posterior(MANY)
    z = second.bank.who.scores[:, 0]
    assert z.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(500))
    assert z.std() == pytest.approx(sd, rel=0.12)


class _Gaussian(_Moves):
    """Moves of patients of whom KNOWN scores are seen with an error; no simulation."""

    def _known(self, who):
        full = -0.5 * np.sum(who.scores[:, :KNOWN] ** 2, axis=1) / OWN**2
        return _State(who, np.zeros(len(who)), full)


def moved_variance(n, draws, seed, moves=40):
    """Mean squares after moves that begin with n particles of the posterior, as shares of it."""
    rng = np.random.default_rng(seed)
    lanes = FlatLanes(size=SCORES, shift=(0.0,) * draws)
    sd = np.r_[np.full(KNOWN, (1.0 + OWN**-2) ** -0.5), np.ones(SCORES - KNOWN)]
    scores = rng.standard_normal((n, SCORES)) * sd
    nobody = np.zeros(n, dtype=np.int64)
    move = _Gaussian(lanes, seen_of(FEW), seen_of([]), NORMAL, frozenset(), rng, 1)
    state = move._known(Identities(rng.integers(0, draws, n), nobody, scores))
    move.begin(n)
    for _ in range(moves):
        state = move(state, 1.0)
    squares = np.mean((state.who.scores / sd) ** 2, axis=0)
    return squares[:KNOWN].mean(), squares[KNOWN:].mean(), move.memory


@pytest.mark.parametrize("draws", [1, 10])
def test_few_particles_keep_their_variance(draws):
    """200 particles that are moved around themselves keep 0.82 and 0.87 of it in 40 moves."""
    known, unknown, memory = np.mean([moved_variance(200, draws, s) for s in range(20)], axis=0)
    assert memory < 0.3, "particles have moved"
    # standard errors over 20 seeds: 0.013 and 0.005
    assert known == pytest.approx(1.0, abs=0.05)
    assert unknown == pytest.approx(1.0, abs=0.02)


def test_the_mode_and_its_curvature_are_those_of_the_closed_form():
    search = _Search(FlatLanes(), seen_of(MANY), NORMAL, frozenset())
    at, value, _, done = search.from_here(np.zeros(3))
    covariance = np.linalg.inv(search.slopes(at)[1])
    mean, sd, _ = posterior(MANY)
    assert done
    np.testing.assert_allclose(at, [mean, 0.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [sd, 1.0, 1.0], rtol=1e-3)
    y = np.log(MANY) - np.log(2.0) - SPREAD * mean
    density = stats.norm.logpdf(y, scale=ERROR).sum() - np.log(MANY).sum() - 0.5 * mean**2
    assert value == pytest.approx(density, rel=1e-6)


AT = np.array([0.6, -1.0, 2.0])
# of a chain: a root taken the other way round would mix the variances
COVARIANCE = np.array([[0.04, 0.03, 0.0], [0.03, 0.25, -0.3], [0.0, -0.3, 1.0]])


class _Above(FlatLanes):
    """Patients whose first score is not above 0.6 may not be treated."""

    def eligible(self, scores):
        return scores[:, 0] > AT[0]


def drawn_around(lanes, seed=7):
    seen = seen_of(MANY)
    mode = Mode(lanes, AT, COVARIANCE, 0.0, 1, True)
    return around(mode, weigh(bank(100), seen, NORMAL), seed, threads=1)


def test_patients_around_a_mode_have_its_mean_and_covariance():
    found = drawn_around(FlatLanes())
    scores = found.bank.who.scores
    assert scores.shape == (AROUND, 3)
    variance = np.diag(COVARIANCE)
    # four standard errors, those of normal samples
    assert np.all(np.abs(scores.mean(axis=0) - AT) < 4 * np.sqrt(variance / AROUND))
    error = np.sqrt((np.outer(variance, variance) + COVARIANCE**2) / AROUND)
    assert np.all(np.abs(np.cov(scores.T) - COVARIANCE) < 4 * error)
    # normal along every axis: Kolmogorov-Smirnov distances below the 99.9 % point
    z = (scores - AT) / np.sqrt(variance)
    distances = [stats.kstest(column, "norm").statistic for column in z.T]
    assert max(distances) < 1.95 / np.sqrt(AROUND)
    # they have been drawn by the counts already: all count alike
    np.testing.assert_allclose(found.weights, 1.0 / AROUND)
    assert (found.engine, len(found.known), len(found.seen)) == ("map", len(MANY), len(MANY))
    np.testing.assert_array_equal(drawn_around(FlatLanes()).bank.who.scores, scores)
    assert not np.array_equal(drawn_around(FlatLanes(), seed=8).bank.who.scores, scores)


def test_patients_around_a_mode_are_such_as_may_be_treated():
    scores = drawn_around(_Above()).bank.who.scores
    assert scores[:, 0].min() > AT[0]
    # the upper half of a normal distribution, and of what goes with it
    half = np.sqrt(2.0 / np.pi)
    assert len(scores) == pytest.approx(AROUND / 2, abs=4 * np.sqrt(AROUND / 4))
    error = np.sqrt(np.diag(COVARIANCE) / len(scores))
    expected = AT + half * COVARIANCE[0] / np.sqrt(COVARIANCE[0, 0])
    assert np.all(np.abs(scores.mean(axis=0) - expected) < 4 * error)


def test_of_two_counts_at_one_time_the_odd_one_alone_is_set_aside():
    """As two counts before day 1 are, which are put at its start."""
    made = bank()
    seen = replace(seen_of([250.0, 1.5, 1.4]), time=np.array([0.0, 0.0, 3.0]))
    found = weigh(made, seen, NORMAL)
    (lost,) = found.unexplained
    assert lost.value == 250.0
    assert found.heard.value.tolist() == [1.5, 1.4]
    # what particles are tempered by is what the bank is weighed by
    again = log_likelihood(made, seen, NORMAL, found.aside)
    np.testing.assert_allclose(found.log_likelihood, again)


@pytest.mark.parametrize("odd", [250.0, 9.0])
def test_a_count_that_nobody_explains_is_set_aside_and_told(odd):
    made = bank()
    values = [1.5, 1.4, odd]
    found = weigh(made, seen_of(values), NORMAL)
    (lost,) = found.unexplained
    assert (lost.day, lost.value) == (4, odd)
    # two-sided tail of the predictive distribution given the others, normal on the log scale
    mean, sd, _ = posterior(values[:2])
    z = (np.log(odd) - np.log(2.0) - SPREAD * mean) / np.hypot(SPREAD * sd, ERROR)
    alone = (np.log(odd) - np.log(2.0)) / np.hypot(SPREAD, ERROR)
    expected = min(2 * stats.norm.sf(z), 2 * stats.norm.sf(alone))
    assert expected < 1e-4
    assert lost.probability < 1e-4
    assert lost.probability == pytest.approx(expected, rel=1.0, abs=2e-6)
    without = weigh(made, seen_of(values[:2]), NORMAL)
    np.testing.assert_allclose(found.log_likelihood, without.log_likelihood)
