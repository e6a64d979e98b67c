"""Sampling importance resampling against the exact intervals of a normal sample."""

from __future__ import annotations

import marginal_cases as cases
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pkpd
from pkpd.checks import resample
from pkpd.errors import PkpdError
from pkpd.fitting.maximum.estimate import maximum_likelihood
from pkpd.models import PopulationModel, parameter, residual

N = 12
Y = 10 + 0.8 * np.random.default_rng(3).standard_normal(N)


@pytest.fixture(scope="module")
def fit():
    """Twelve numbers with one mean and one deviation."""
    model = PopulationModel(
        cases.LEVEL, [parameter("a", 8.0, scale="identity")], residual.additive(1.0)
    )
    table = pd.DataFrame({"ID": np.arange(1, N + 1), "TIME": 0, "DV": Y, "EVID": 0})
    return maximum_likelihood(model, pkpd.read_nonmem(table))


@pytest.fixture(scope="module")
def found(fit):
    return resample(fit, 2000, rounds=2, resamples=4000)


def exact(level):
    """Intervals of Student's t and of chi-square, which a flat prior on (a, ln sigma) gives."""
    tails = np.array([0.5 * (1 - level), 0.5 * (1 + level)])
    mean, deviation = Y.mean(), Y.std(ddof=1)
    return (
        mean + stats.t.ppf(tails, N - 1) * deviation / np.sqrt(N),
        deviation * np.sqrt((N - 1) / stats.chi2.ppf(tails[::-1], N - 1)),
    )


@pytest.mark.long
def test_intervals_are_those_of_student_and_chi_square(found):
    """Limits within 8 % of the width, four Monte Carlo errors; the normal ones miss by more."""
    for level in (0.8, 0.95):
        table = found.table(level)
        for name, limits in zip(("a", "sigma_DV"), exact(level), strict=True):
            width = limits[1] - limits[0]
            got = table.loc[name, ["sir_lower", "sir_upper"]].to_numpy(dtype=float)
            assert got == pytest.approx(limits, abs=0.08 * width)
    upper = exact(0.95)[1][1]
    assert found.table().loc["sigma_DV", "upper"] < upper - 0.08


def test_weights_are_likelihood_over_proposal(fit):
    """In one round the proposal is known, and the likelihood is that of a normal sample."""
    one = resample(fit, 50, rounds=1, resamples=20, inflation=2.0)
    a, sigma = one.samples["a"].to_numpy(), one.samples["sigma_DV"].to_numpy()
    logs = stats.norm.logpdf(Y[:, None], a, sigma).sum(axis=0)
    centre = [fit.estimates["a"], np.log(fit.estimates["sigma_DV"])]
    at = np.stack([a, np.log(sigma)], axis=1)
    logs -= stats.multivariate_normal(centre, 2.0 * np.asarray(fit.covariance_x)).logpdf(at)
    expected = np.exp(logs - logs.max())
    assert one.samples["weight"].to_numpy() == pytest.approx(expected / expected.sum(), rel=1e-5)
    assert one.effective == pytest.approx(expected.sum() ** 2 / np.sum(expected**2), rel=1e-5)
    assert one.samples["difference"].min() > -1e-5


def test_the_objective_rises_as_it_does_in_exact_draws(found):
    """Its mean is that of the exact posterior, near the two of chi-square."""
    rng = np.random.default_rng(1)
    variance = Y.var(ddof=1) * (N - 1) / rng.chisquare(N - 1, 100_000)
    a = Y.mean() + rng.standard_normal(100_000) * np.sqrt(variance / N)
    scale = Y.var(ddof=0)
    rise = N * (np.log(variance / scale) + (scale + (a - Y.mean()) ** 2) / variance - 1)
    assert found.degrees == pytest.approx(rise.mean(), abs=0.15)
    table = found.differences()
    assert table["resampled"].to_numpy() == pytest.approx(
        np.quantile(rise, table.index), rel=0.15, abs=0.05
    )
    assert table["chi_square"].to_numpy() == pytest.approx(stats.chi2.ppf(table.index, 2))
    assert found.rounds["effective"].iloc[1] > 0.8 * 2000
    assert f"chi-square says {2}" in found.summary()
    assert found.messages == ()


def test_the_same_seed_gives_the_same(fit):
    one, two = (resample(fit, 40, rounds=2, resamples=20, seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(one.resamples, two.resamples)
    assert one.messages[0].startswith("Only ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"samples": 3}, "resample, samples: 3 is given; allowed: a whole number from 20"),
        ({"inflation": 0}, "resample, inflation: 0; allowed: above 0"),
        ({"samples": 30, "inflation": 1e5}, "draws count in round 1: the proposal is far from"),
    ],
)
def test_bad_input_gets_one_sentence(fit, given, words):
    with pytest.raises(PkpdError, match=words) as caught:
        resample(fit, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_estimate_at_its_bound_has_no_proposal():
    model = PopulationModel(
        cases.LEVEL, [parameter("a", 8.0, iiv=1.0, scale="identity")], residual.additive(1.0)
    )
    table = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(4), 2),
            "TIME": np.tile([0, 1], 4),
            "DV": np.tile([9.0, 11.0], 4),
            "EVID": 0,
        }
    )
    at_bound = maximum_likelihood(model, pkpd.read_nonmem(table))
    with pytest.raises(PkpdError, match=r"resample: .*omega_a"):
        resample(at_bound)
