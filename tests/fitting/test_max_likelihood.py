"""Population maximum likelihood against closed forms of balanced data and a published fit."""

import html
import os
import re
from pathlib import Path

import marginal_cases as cases
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.maximum import estimate
from pkpd.fitting.maximum.estimate import maximum_likelihood
from pkpd.fitting.model.priors import Prior, fixed
from pkpd.fitting.model.residual import additive, combined
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.predict.pk import compartments

FOLDER = Path(os.environ.get("PKPD_REFERENCE", Path(__file__).parents[3] / "shared" / "oracles"))


def level_model(**more):
    one = parameter("a", 8.0, iiv=more.pop("iiv", 1.0), scale="identity", **more)
    return PopulationModel(cases.LEVEL, [one], additive(1.0))


def groups(n=12, k=4, seed=3, between=1.5):
    rng = np.random.default_rng(seed)
    return 10 + between * rng.standard_normal((n, 1)) + 0.8 * rng.standard_normal((n, k))


def test_balanced_groups_have_the_closed_form_of_analysis_of_variance():
    y = groups()
    n, k = y.shape
    fit = maximum_likelihood(level_model(), cases.data(np.arange(k), y))
    means = y.mean(axis=1)
    within = ((y - means[:, None]) ** 2).sum() / (n * (k - 1))
    total = k * means.var()  # estimates sigma^2 + k omega^2
    between = (total - within) / k
    assert fit.converged
    assert fit.estimates["a"] == pytest.approx(y.mean(), rel=1e-5)
    # the search ends 1e-5 above the minimum at most: a thousandth of a standard error
    assert fit.estimates["omega_a"] == pytest.approx(np.sqrt(between), rel=1e-3)
    assert fit.estimates["sigma_DV"] == pytest.approx(np.sqrt(within), rel=1e-3)
    # information of sigma^2 + k omega^2 and of sigma^2 are those of independent chi squares
    errors = fit.standard_errors
    assert errors["a"] == pytest.approx(np.sqrt(total / (n * k)), rel=3e-3)
    var_total, var_within = 2 * total**2 / n, 2 * within**2 / (n * (k - 1))
    assert errors["sigma_DV"] == pytest.approx(np.sqrt(var_within / (4 * within)), rel=3e-3)
    var_between = (var_total + var_within) / k**2
    assert errors["omega_a"] == pytest.approx(np.sqrt(var_between / (4 * between)), rel=1e-2)
    covariance = between * np.ones((k, k)) + within * np.eye(k)
    exact = stats.multivariate_normal(np.full(k, y.mean()), covariance).logpdf(y).sum()
    assert fit.log_likelihood == pytest.approx(exact, abs=1e-4)
    assert fit.objective == pytest.approx(-2 * exact - n * k * np.log(2 * np.pi), abs=1e-4)
    # modes are shrunken means; their covariance is the posterior's
    weight = between / (between + within / k)
    np.testing.assert_allclose(fit.random[:, 0], weight * (means - y.mean()), atol=3e-3)
    assert fit.random_covariance[0, 0, 0] == pytest.approx(between * (1 - weight), rel=3e-3)
    shrunk = 1 - weight * means.std(ddof=1) / np.sqrt(between)
    assert fit.eta_shrinkage["a"] == pytest.approx(shrunk, abs=2e-3)


@pytest.mark.slow
def test_correlated_intercepts_and_slopes_have_their_closed_form():
    rng = np.random.default_rng(5)
    times = np.array([0.0, 1.0, 2.0, 4.0, 7.0])
    n, design = 40, np.stack([np.ones(5), times], axis=1)
    truth = np.array([[4.0, 0.6], [0.6, 0.25]])
    own = rng.multivariate_normal([10.0, 1.0], truth, n)
    y = own @ design.T + 0.5 * rng.standard_normal((n, 5))
    model = cases.line_model(additive(1.0), correlated=[("a", "b")], a=7.0, b=0.4)
    fit = maximum_likelihood(model, cases.data(times, y), method="foce")
    inverse = np.linalg.inv(design.T @ design)
    coefficients = y @ design @ inverse
    sigma2 = ((y - coefficients @ design.T) ** 2).sum() / (n * 3)
    centred = coefficients - coefficients.mean(axis=0)
    omega = centred.T @ centred / n - sigma2 * inverse
    np.testing.assert_allclose(fit.omega, omega, rtol=3e-3, atol=2e-3)
    np.testing.assert_allclose(
        [fit.estimates["a"], fit.estimates["b"]], coefficients.mean(axis=0), rtol=1e-4
    )
    assert fit.correlation.shape == (6, 6)
    assert "partial_a_b" in fit.table().index


def test_variance_that_the_data_put_at_zero_is_reported_and_does_no_harm():
    rng = np.random.default_rng(2)
    y = rng.standard_normal((10, 6)) + 5
    y -= y.mean(axis=1, keepdims=True) - 5.0  # all groups have the same mean
    fit = maximum_likelihood(level_model(iiv=0.5), cases.data(np.arange(6), y))
    assert fit.estimates["omega_a"] < 0.01
    assert any("omega_a is estimated at zero" in text for text in fit.messages)
    assert np.isnan(fit.standard_errors["omega_a"])
    assert fit.estimates["sigma_DV"] == pytest.approx(y.std(), rel=1e-3)
    assert fit.standard_errors["a"] == pytest.approx(y.std() / np.sqrt(60), rel=1e-2)


def test_held_parameters_stay_and_uninformed_ones_are_named():
    # two parameters that only enter by their sum
    both = cases.Curve(lambda t, a, b: a + b + 0.0 * t, ("a", "b"))
    parameters = [
        parameter("a", 5.0, iiv=1.0, scale="identity"),
        parameter("b", 5.0, scale="identity"),
    ]
    y = groups()
    model = PopulationModel(both, parameters, additive(fixed(0.8)))
    fit = maximum_likelihood(model, cases.data(np.arange(4), y))
    assert fit.estimates["sigma_DV"] == 0.8
    assert "sigma_DV" not in fit.names
    assert bool(fit.table().loc["sigma_DV", "held"])
    assert fit._repr_html_() == f"<pre>{html.escape(fit.summary())}</pre>"
    with pd.option_context("display.width", 80, "display.max_columns", 0):
        assert "rse_percent" in str(fit.table())
    assert len(repr(fit.likelihood)) < 400
    assert fit.estimates["a"] + fit.estimates["b"] == pytest.approx(y.mean(), rel=1e-4)
    told = " ".join(fit.messages)
    assert "a and b are told only together" in told


def test_priors_are_added_as_a_penalty():
    y = groups(n=6)
    n, k = y.shape
    parameters = [
        parameter(
            "a", 8.0, iiv=fixed(1.5), scale="identity", prior=Prior("Normal", mu=8, sigma=0.5)
        )
    ]
    model = PopulationModel(cases.LEVEL, parameters, additive(fixed(0.8)))
    fit = maximum_likelihood(model, cases.data(np.arange(k), y), priors=True)
    precision = n / (1.5**2 + 0.8**2 / k)
    mode = (precision * y.mean() + 8 / 0.25) / (precision + 4)
    assert fit.estimates["a"] == pytest.approx(mode, rel=1e-5)
    assert fit.standard_errors["a"] == pytest.approx((precision + 4) ** -0.5, rel=1e-4)
    log_prior = stats.norm(8, 0.5).logpdf(fit.estimates["a"])
    assert fit.penalty == pytest.approx(-2 * log_prior, rel=1e-6)
    told = "AIC and BIC are of the likelihood at the mode with the priors"
    assert told in fit.summary()
    assert told not in maximum_likelihood(model, cases.data(np.arange(k), y)).summary()


@pytest.mark.long
def test_without_random_effects_it_is_censored_regression():
    dataset = cases.decay_data(n=6, limit=2.0, seed=4)
    model = PopulationModel(cases.DECAY, [parameter("A", 6.0), parameter("k", 0.5)], additive(1.0))
    fit = maximum_likelihood(model, dataset, method="laplace")
    seen = dataset.observations

    def minus(p):
        f, sd = np.exp(p[0]) * np.exp(-np.exp(p[1]) * seen.time), np.exp(p[2])
        z = (seen.value - f) / sd
        return -np.where(
            seen.censored == 1, stats.norm.logcdf(z), stats.norm.logpdf(z) - p[2]
        ).sum()

    best = optimize.minimize(minus, np.log([6.0, 0.5, 1.0]), tol=1e-12)
    got = [fit.estimates[name] for name in ("A", "k", "sigma_DV")]
    np.testing.assert_allclose(got, np.exp(best.x), rtol=1e-3)
    assert fit.log_likelihood == pytest.approx(-best.fun, abs=1e-4)
    assert fit.random.shape == (6, 0)


@pytest.mark.slow
def test_model_carries_the_estimates_and_summary_names_them():
    dataset = cases.decay_data(n=10)
    seen = []
    fit = maximum_likelihood(
        cases.decay_model(combined(0.5, fixed(0.05))),
        dataset,
        covariance=None,
        progress=lambda k, value: seen.append((k, value)),
    )
    again = maximum_likelihood(fit.model, dataset, covariance="sandwich")
    assert again.objective == pytest.approx(fit.objective, abs=1e-3)
    assert np.isnan(fit.standard_errors["A"])
    assert 0.02 < again.standard_errors["A"] / again.estimates["A"] < 0.3
    assert seen[-1][1] == pytest.approx(fit.objective, abs=1e-3)
    for name in fit.estimates:
        assert name in again.summary()
    table = again.table()
    assert (table.lower[list(again.names)] < table.estimate[list(again.names)]).all()
    assert list(fit.individual_parameters) == ["A", "k"]


def correlated_lines(n=25, seed=6):
    rng = np.random.default_rng(seed)
    times = np.array([0.0, 1.0, 2.0, 4.0])
    own = rng.multivariate_normal([10.0, 1.0], [[4.0, 0.45], [0.45, 0.09]], n)
    y = own @ np.stack([np.ones(4), times]) + 0.5 * rng.standard_normal((n, 4))
    return times, y


def exact_objective(times, y, partial, sd=0.7):
    """Objective of `cases.line_model` at its values with a correlation."""
    design = np.stack([np.ones(len(times)), times], axis=1)
    omega = np.array([[4.0, 0.6 * partial], [0.6 * partial, 0.09]])
    covariance = design @ omega @ design.T + sd**2 * np.eye(len(times))
    density = stats.multivariate_normal(design @ [10, 1], covariance)
    return -2 * density.logpdf(y).sum() - y.size * np.log(2 * np.pi)


@pytest.mark.long
def test_a_search_begins_at_the_correlations_that_are_given():
    times, y = correlated_lines()
    seen = []
    for partial in (0.0, 0.5, -0.8):
        model = cases.line_model(additive(0.7), correlated=[("a", "b")])
        maximum_likelihood(
            model.with_values({"partial_a_b": partial}),
            cases.data(times, y),
            covariance=None,
            iterations=1,
            progress=lambda k, value: seen.append(value),
        )
        assert seen[0] == pytest.approx(exact_objective(times, y, partial), abs=1e-6)
        seen.clear()


@pytest.mark.long
def test_correlations_are_kept_in_a_refit_and_where_they_are_held():
    times, y = correlated_lines()
    dataset = cases.data(times, y)
    model = cases.line_model(additive(0.7), correlated=[("a", "b")])
    fit = maximum_likelihood(model, dataset, covariance=None)
    assert fit.estimates["partial_a_b"] > 0.3
    seen = []
    for again in (fit.model, model.with_values(fit.estimates)):
        maximum_likelihood(
            again,
            dataset,
            covariance=None,
            iterations=1,
            progress=lambda k, value: seen.append(value),
        )
        assert seen[0] == pytest.approx(fit.objective, abs=1e-6)
        seen.clear()
    held = model.replace(partial={"partial_a_b": fixed(0.2)})
    other = maximum_likelihood(held, dataset, covariance=None)
    assert other.estimates["partial_a_b"] == 0.2
    assert "partial_a_b" not in other.names
    assert other.objective > fit.objective + 0.5
    # with priors, that of a held correlation drops out
    some = maximum_likelihood(held, dataset, covariance=None, priors=True, iterations=3)
    assert some.estimates["partial_a_b"] == 0.2


def test_starts_that_have_no_likelihood_are_refused_by_subject():
    hard = cases.Curve(lambda t, a: np.nan * a + 0.0 * t, ("a",))
    model = PopulationModel(hard, [parameter("a", 1.0, iiv=0.3)], additive(1.0))
    with pytest.raises(PkpdError, match=r"subjects 1, 2.*no finite likelihood.*not finite"):
        maximum_likelihood(model, cases.data(np.arange(4), groups()))


def test_everything_held_is_refused():
    model = PopulationModel(cases.LEVEL, [parameter("a", 1.0, fixed=True)], additive(fixed(1.0)))
    with pytest.raises(PkpdError, match=r"every parameter .* is held; use pkpd.individual\("):
        maximum_likelihood(model, cases.data(np.arange(4), groups()))


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no reference folder (PKPD_REFERENCE or ../shared/oracles)"
)
def test_theophylline_equals_the_fit_published_with_nlmixr2():
    """FOCE-I of nlmixr2's documentation: objective 116.80, estimates to three digits."""
    table = pd.read_csv(FOLDER / "nlmixr2data" / "theo_sd.csv")
    table["EVID"] = (table.EVID > 0).astype(int)
    dataset = pkpd.read_nonmem(table, lines={2: "concentration"})
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [parameter("ka", 1.0, iiv=0.5), parameter("CL", 2.0, iiv=0.5), parameter("V", 40, iiv=0.5)],
        additive(1.0),
    )
    fit = maximum_likelihood(model, dataset, covariance="sandwich")
    assert fit.objective == pytest.approx(116.80, abs=0.01)
    # nlmixr2 4.0.1, article "Running PK models": objective 116.812, AIC 373.4118, BIC 393.5914
    assert fit.aic - fit.objective == pytest.approx(373.4118 - 116.812, abs=1e-3)
    assert fit.bic - fit.objective == pytest.approx(393.5914 - 116.812, abs=1e-3)
    published = {"ka": 0.4645, "CL": 1.0120, "V": 3.4600}
    for name, value in published.items():
        assert np.log(fit.estimates[name]) == pytest.approx(value, abs=2e-3)
    assert fit.estimates["sigma_concentration"] == pytest.approx(0.694, rel=2e-3)
    for name, variance in {"ka": 0.405, "CL": 0.069, "V": 0.019}.items():
        assert fit.estimates[f"omega_{name}"] ** 2 == pytest.approx(variance, rel=0.01)


def test_an_estimate_at_its_bound_is_said_to_be_there():
    one = parameter("a", 5.0, scale="logit", bounds=(0.0, 8.0))
    model = PopulationModel(cases.LEVEL, [one], additive(1.0))
    fit = maximum_likelihood(model, cases.data(np.arange(4), groups()))  # about 10
    assert any("a is estimated at its bound of 8" in text for text in fit.messages)


def test_curvature_far_from_a_minimum_is_none_of_its_own(monkeypatch):
    # the search alone, without the steps that bring most starts within a standard error
    monkeypatch.setattr(estimate, "_approached", lambda problem, mixed, first, progress: first)
    data = cases.data(np.arange(4), groups())
    best = maximum_likelihood(level_model(), data, covariance=None)

    def ended(a):
        start = best.model.with_values({"a": a})
        fit = maximum_likelihood(start, data, iterations=1)
        left = re.search(r"did not converge: (\S+) of the objective", fit.summary())
        return left, fit.standard_errors["a"]

    left, error = ended(best.estimates["a"] - 20.0)
    assert float(left[1]) > 1.0
    assert np.isnan(error)
    left, error = ended(best.estimates["a"] - 0.1)
    assert left is None or float(left[1]) < 1.0
    assert error > 0.0
