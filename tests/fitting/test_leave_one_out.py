"""Leave-one-subject-out against exact densities of a Gaussian hierarchical model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from marginal_cases import LEVEL, data
from scipy import special, stats

from pkpd.errors import PkpdError
from pkpd.fitting.checks.leave_one_out import (
    LeaveOneOut,
    compare_models,
    leave_one_out,
    marginal_densities,
    smoothed,
)
from pkpd.fitting.draws import Draws
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter

B, T = 12, 4
OMEGA, SIGMA, MEAN, SPREAD = 1.5, 0.8, 5.0, 3.0
COVARIANCE = OMEGA**2 * np.ones((T, T)) + SIGMA**2 * np.eye(T)


@pytest.fixture(scope="module")
def gaussian():
    """Values and exact posterior draws: mu ~ N(5, 3), eta ~ N(0, omega), both sd held."""
    rng = np.random.default_rng(4)
    y = 6.0 + OMEGA * rng.standard_normal((B, 1)) + SIGMA * rng.standard_normal((B, T))
    model = PopulationModel(
        LEVEL, [parameter("a", MEAN, iiv=fixed(OMEGA), scale="identity")], additive(fixed(SIGMA))
    )
    likelihood = bind(model, data(np.arange(T, dtype=float), y))
    mean, sd = level_posterior(y)
    mu = mean + sd * rng.standard_normal(4000)
    precision = T / SIGMA**2 + 1 / OMEGA**2
    centre = (y.mean(axis=1) - mu[:, None]) * (T / SIGMA**2) / precision
    eta = centre + rng.standard_normal(centre.shape) / np.sqrt(precision)
    population = {
        "a": mu,
        "sigma_DV": np.full(4000, SIGMA),
        "omega_a": np.full(4000, OMEGA),
    }
    return y, Draws(likelihood, population, eta[..., None])


def level_posterior(y):
    """Mean and sd of mu given the values of some subjects, random effects integrated out."""
    weight = len(y) / (OMEGA**2 + SIGMA**2 / T)
    precision = weight + 1 / SPREAD**2
    return (weight * y.mean() + MEAN / SPREAD**2) / precision, 1 / np.sqrt(precision)


def exact(y):
    out = []
    for b in range(B):
        mean, sd = level_posterior(np.delete(y, b, axis=0))
        out.append(stats.multivariate_normal.logpdf(y[b], np.full(T, mean), COVARIANCE + sd**2))
    return np.array(out)


def test_marginal_densities_are_the_integrals(gaussian):
    y, draws = gaussian
    found, error = marginal_densities(draws, n_draws=50, points=64)
    mu = draws.thinned(50).population["a"]
    expected = [stats.multivariate_normal.logpdf(y - m, np.zeros(T), COVARIANCE) for m in mu]
    # 64 even points of a proposal with heavier tails
    np.testing.assert_allclose(found, np.array(expected), atol=0.06)
    assert error < 0.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_of_integration_do_not_add_up_over_subjects(gaussian, seed):
    y, draws = gaussian
    found, error = marginal_densities(draws, n_draws=50, points=8, most_points=8, seed=seed)
    mu = draws.thinned(50).population["a"]
    expected = [stats.multivariate_normal.logpdf(y - m, np.zeros(T), COVARIANCE) for m in mu]
    off = found - np.array(expected)
    each = np.sqrt(np.mean(off**2))
    assert 0.3 * error < each < error  # the error that is told is that of random points
    # 600 independent errors, and half their variance, by which a mean logarithm lies too low
    assert abs(off.mean()) < 3 * each / np.sqrt(off.size) + each**2
    assert abs(np.corrcoef(off[:, :6].mean(axis=1), off[:, 6:].mean(axis=1))[0, 1]) < 0.5


def test_leave_one_subject_out_is_exact(gaussian):
    y, draws = gaussian
    found = leave_one_out(draws, n_draws=250)
    # 250 draws: Monte Carlo error of a subject's density some 0.02
    np.testing.assert_allclose(found.pointwise, exact(y), atol=0.06)
    assert found.elpd == pytest.approx(exact(y).sum(), abs=0.25)
    assert found.se == pytest.approx(np.sqrt(B) * exact(y).std(), rel=0.1)
    assert found.k.max() < 0.7
    # one parameter is learned from all: mu
    assert 0.3 < found.p < 2.0
    assert found.labels == tuple(str(b + 1) for b in range(B))


def test_leaving_out_a_measurement_is_another_question(gaussian):
    y, draws = gaussian
    found = leave_one_out(draws, by="observation", n_draws=2000)
    densities = []
    total = np.kron(np.eye(B), COVARIANCE) + SPREAD**2
    for m in range(B * T):
        rest = np.delete(np.arange(B * T), m)
        gain = np.linalg.solve(total[np.ix_(rest, rest)], total[rest, m])
        mean = MEAN + gain @ (y.ravel()[rest] - MEAN)
        sd = np.sqrt(total[m, m] - gain @ total[rest, m])
        densities.append(stats.norm.logpdf(y.ravel()[m], mean, sd))
    assert found.elpd == pytest.approx(sum(densities), abs=1.0)
    assert found.elpd > exact(y).sum()
    assert found.unit == "observation"


def test_models_are_ranked(gaussian):
    _, draws = gaussian
    good = leave_one_out(draws, n_draws=100)
    narrow = Draws(
        draws.likelihood,
        dict(draws.population) | {"omega_a": np.full(4000, 0.3)},
        draws.random * 0.3 / OMEGA,
    )
    table = compare_models({"narrow": leave_one_out(narrow, n_draws=100), "wide": good})
    assert list(table.index) == ["wide", "narrow"]
    assert table.loc["wide", "difference"] == 0
    assert table.loc["narrow", "difference"] < -2
    assert table.loc["narrow", "elpd"] - table.loc["wide", "elpd"] == pytest.approx(
        table.loc["narrow", "difference"]
    )


def test_refusals(gaussian):
    _, draws = gaussian
    with pytest.raises(PkpdError, match="AIC or BIC"):
        leave_one_out(draws.thinned(10))
    with pytest.raises(PkpdError, match="subject, observation"):
        leave_one_out(draws, by="patient")
    one = leave_one_out(draws, n_draws=60)
    with pytest.raises(PkpdError, match="two or more"):
        compare_models({"one": one})
    other = leave_one_out(draws, by="observation", n_draws=60)
    with pytest.raises(PkpdError, match="other data"):
        compare_models({"one": one, "other": other})
    y, model = gaussian[0].copy(), draws.likelihood.model
    y[0, 0] += 1.0  # the same subjects, another measurement
    again = Draws(bind(model, data(np.arange(T, dtype=float), y)), draws.population, draws.random)
    with pytest.raises(PkpdError, match="other data"):
        compare_models({"one": one, "other": leave_one_out(again, n_draws=60)})


def test_models_of_the_same_measurements_may_read_other_records(gaussian):
    """Numbers of compartments are the model's, doses may be written in other ways."""
    _, draws = gaussian
    given = draws.likelihood.dataset
    events = replace(given.events, cmt=given.events.cmt + 1)
    other = bind(draws.likelihood.model, replace(given, events=events))
    found = [
        leave_one_out(one, n_draws=60)
        for one in (draws, Draws(other, draws.population, draws.random))
    ]
    assert found[0].data == found[1].data != ""
    unknown = replace(found[1], data="")
    assert len(compare_models({"one": found[0], "other": unknown})) == 2


@pytest.mark.parametrize("option", ["n_draws", "points", "most_points"])
def test_numbers_without_meaning_are_refused(gaussian, option):
    with pytest.raises(PkpdError, match=f"leave_one_out, {option}: .*a whole number from 2"):
        leave_one_out(gaussian[1], **{option: 0})


def test_models_may_be_numbered():
    rng = np.random.default_rng(4)
    found = {k: smoothed(rng.normal(size=(100, 6)) + k, tuple("abcdef"), "subject") for k in (1, 2)}
    assert compare_models(found).index.tolist() == ["2", "1"]


def test_many_large_k_speak_of_the_method_and_few_of_the_data():
    def told(large):
        k = np.where(np.arange(10) < large, 0.9, 0.2)
        labels = tuple(f"s{i}" for i in range(10))
        found = LeaveOneOut(-10.0, 1.0, 2.0, np.full(10, -1.0), k, labels, "subject", 0.0, None)
        return " ".join(found.sentences)

    assert "leans on heavily (Pareto k above 0.7): s0, s1; look at their data" in told(2)
    assert "k is above 0.7 for 6 of 10" in told(6)
    assert "look at their data" not in told(6)


def test_a_value_that_is_certain_adds_nothing():
    """ArviZ has no number for a tail of weights that are alike to the last digit."""
    rng = np.random.default_rng(0)
    others = rng.normal(-1.0, 0.1, (400, 5))
    alone = smoothed(others, tuple("abcde"), "observation")
    for sds in (9.0, 12.0):
        certain = special.log_ndtr(rng.normal(sds, 0.5, 400))  # a value so far below its limit
        found = smoothed(np.c_[others, certain], tuple("abcdef"), "observation")
        assert found.pointwise[-1] == pytest.approx(0.0, abs=1e-12)
        assert found.elpd == pytest.approx(alone.elpd, abs=1e-12)
        assert found.p == pytest.approx(alone.p, abs=1e-12)
        assert found.se == pytest.approx(np.sqrt(6 * np.var(found.pointwise)))


def test_a_single_subject_has_no_standard_error():
    density = np.random.default_rng(0).normal(-1.0, 0.1, (400, 1))
    found = smoothed(density, ("1",), "subject")
    assert np.isnan(found.se)
    assert compare_models({"a": found, "b": found})[["se", "se_difference"]].isna().to_numpy().all()
    assert f"(elpd): {found.elpd:.1f} (one alone: no standard error), " in found.sentences[0]


def test_weights_of_ties_are_plain():
    """Of a value nearly certain that few draws do not foresee."""
    density = np.zeros(400)
    density[:7] = -3e-3
    density[7:60] = -1e-18
    others = np.random.default_rng(0).normal(-1.0, 0.1, (400, 1))
    found = smoothed(np.c_[others, density], ("a", "b"), "observation")
    assert found.pointwise[1] == pytest.approx(-np.log(np.mean(np.exp(-density))), rel=1e-6)


def test_an_approximation_of_the_posterior_is_told(gaussian):
    _, draws = gaussian
    fit = SimpleNamespace(by_chains=False, draws=draws)
    found = leave_one_out(fit, n_draws=60)
    assert found.approximate
    assert any("approximate the posterior" in sentence for sentence in found.sentences)
    ranked = compare_models({"map": found, "nuts": leave_one_out(draws, n_draws=60)})
    assert ranked["approximate"].to_dict() == {"map": True, "nuts": False}
