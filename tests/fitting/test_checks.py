"""Shrinkage, contraction, the parameter table and the whole of the checks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from marginal_cases import LEVEL, data, decay_data, decay_model

from pkpd.errors import PkpdError
from pkpd.fitting.checks.all_checks import check
from pkpd.fitting.checks.parameters import correlation_errors, parameter_table
from pkpd.fitting.checks.priors import Contraction, contractions, prior_draws
from pkpd.fitting.checks.replicates import spread
from pkpd.fitting.checks.residuals import residuals
from pkpd.fitting.checks.shrinkage import shrinkage
from pkpd.fitting.draws import Draws, single_draw
from pkpd.fitting.maximum.result import shrinkages
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.priors import Prior, fixed
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter


def around(likelihood, n=300, *, width=0.03, random=None, seed=1, **wide):
    """Draws close to the starting values, or as wide as asked."""
    rng = np.random.default_rng(seed)
    population = {
        name: value * np.exp(wide.get(name, width) * rng.standard_normal(n))
        for name, value in start_values(likelihood.model).items()
    }
    size = likelihood.random_effects.size
    centre = np.zeros((likelihood.n_subjects, size)) if random is None else random
    noise = 0.05 * rng.standard_normal((n, likelihood.n_subjects, size))
    return Draws(likelihood, population, centre + noise)


@pytest.fixture(scope="module")
def decay():
    return bind(decay_model(additive(0.5)), decay_data(n=8))


def test_shrinkage_by_hand(decay):
    eta = np.array([[0.3, -0.1], [-0.2, 0.2], [0.1, 0.0], [-0.3, 0.3]] * 2)
    draws = single_draw(decay, {}, eta)
    found = residuals(draws)
    shrunk = shrinkage(draws, found)
    for i, (name, omega) in enumerate((("A", 0.3), ("k", 0.4))):
        sd = np.sqrt(np.sum((eta[:, i] - eta[:, i].mean()) ** 2) / 7)
        assert shrunk.sd[name] == pytest.approx(1 - sd / omega)
        assert shrunk.variance[name] == pytest.approx(1 - sd**2 / omega**2)
    y, f = decay.dataset.observations.value, found.ipred
    assert shrunk.residual["DV"] == pytest.approx(1 - np.std((y - f) / 0.5, ddof=1))
    assert "k 53 %" in shrunk.sentences[0] or "k" in shrunk.sentences[0]


def test_residuals_as_a_table(decay):
    found = residuals(single_draw(decay, {}, np.full((8, 2), 0.1)))
    table, seen = found.table(), decay.dataset.observations
    assert list(table["ID"]) == [decay.dataset.subjects[b] for b in seen.subject]
    np.testing.assert_array_equal(table["TIME"], seen.time)
    np.testing.assert_allclose((table["DV"] - table["IPRED"]) / 0.5, table["IWRES"])
    assert set(table["LINE"]) == {"DV"}
    for name in ("PRED", "WRES", "CWRES"):
        np.testing.assert_array_equal(table[name], getattr(found, name.lower()))


def test_shrinkage_of_occasions_counts_those_with_observations():
    y = np.ones((3, 4))
    dataset = data([0.0, 1.0, 2.0, 3.0], y, OCC=[1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 1, 1])
    model = PopulationModel(
        LEVEL, [parameter("a", 1.0, iiv=0.5, iov=0.4, scale="identity")], additive(0.5)
    )
    random = np.array([[0.1, 0.2, -0.3], [0.0, 0.1, 0.3], [-0.1, -0.2, 9.0]])
    draws = single_draw(bind(model, dataset), {}, random)
    shrunk = shrinkage(draws, residuals(draws))
    # the third subject was never seen on the second occasion
    expected = np.std([0.2, -0.3, 0.1, 0.3, -0.2], ddof=1)
    assert shrunk.sd["a occasion"] == pytest.approx(1 - expected / 0.4)


def test_shrinkage_counts_subjects_with_observations():
    """A mode of 0 that no data made is no shrinkage: 61 % for 41 %, four of eight."""
    y = np.array([[1.0], [np.nan]]).repeat(4, axis=0).repeat(2, axis=1)
    dataset = data([0.0, 1.0], y, EVID=[0] * 8 + [2] * 8)
    model = PopulationModel(LEVEL, [parameter("a", 1.0, iiv=0.5, scale="identity")], additive(0.5))
    likelihood = bind(model, dataset)
    random = np.array([0.3, -0.3, 0.2, -0.2, *[0.0] * 4])[:, None]
    draws = single_draw(likelihood, {}, random)
    expected = 1 - np.std(random[:4], ddof=1) / 0.5
    assert shrinkage(draws, residuals(draws)).sd["a"] == pytest.approx(expected)
    values = start_values(model)
    assert shrinkages(likelihood, values, random)[0]["a"] == pytest.approx(expected)


def test_shrinkage_of_residuals_is_of_the_deviation_of_students_t():
    """Its standard deviation is its scale times the root of nu / (nu - 2)."""
    likelihood = bind(decay_model(additive(0.5, nu=fixed(4.0))), decay_data(n=4))
    draws = single_draw(likelihood, {}, np.zeros((4, 2)))
    found = residuals(draws)
    values = start_values(likelihood.model)
    one = shrinkages(likelihood, values, np.zeros((4, 2)))[1]["DV"]
    left = likelihood.dataset.observations.value - found.ipred
    assert one == pytest.approx(1 - np.std(left, ddof=1) / (0.5 * np.sqrt(2)))
    assert one == pytest.approx(shrinkage(draws, found).residual["DV"])


def test_parameter_table(decay):
    draws = around(decay, 2000, A=0.1)
    table = parameter_table(draws)
    values = draws.population["A"]
    row = table.loc["A"]
    assert row["estimate"] == pytest.approx(values.mean())
    assert row["rse"] == pytest.approx(values.std(ddof=1) / values.mean())
    np.testing.assert_allclose([row["lower"], row["upper"]], np.quantile(values, [0.05, 0.95]))
    omega = draws.population["omega_k"].mean()
    assert table.loc["omega_k", "cv"] == pytest.approx(np.sqrt(np.exp(omega**2) - 1))
    assert np.isnan(row["cv"])


def test_table_of_maximum_likelihood(decay):
    table = parameter_table(
        single_draw(decay, {"A": 9.0}, np.zeros((8, 2))), standard_errors={"A": 0.9, "k": np.nan}
    )
    assert table.loc["A", "rse"] == pytest.approx(0.1)
    # 1.645 standard errors either way hold 90 %
    assert table.loc["A", "upper"] == pytest.approx(9.0 + 1.644854 * 0.9)
    assert np.isnan(table.loc["k", "sd"])


def test_correlations_of_a_block():
    model = decay_model(additive(0.5), correlated=[("A", "k")])
    likelihood = bind(model, decay_data(n=4))
    draws = single_draw(likelihood, {"partial_A_k": -0.4}, np.zeros((4, 2)))
    table = parameter_table(draws)
    assert table.loc["corr_A_k", "estimate"] == pytest.approx(-0.4)
    assert "partial_A_k" not in table.index


def test_errors_of_correlations_are_those_of_draws_of_partial_ones():
    names = ["partial_A_k", "partial_A_s", "partial_k_s"]
    at, spread = np.array([0.5, -0.2, 0.4]), np.array([0.01, 0.02, 0.015])
    model = SimpleNamespace(correlated=(("A", "k", "s"),))
    covariance = pd.DataFrame(np.diag(spread**2), names, names)
    errors = correlation_errors(model, dict(zip(names, at, strict=True)), covariance)
    # the closed form of a partial correlation, drawn
    one, two, three = np.random.default_rng(0).normal(at, spread, (200_000, 3)).T
    last = one * two + three * np.sqrt((1 - one**2) * (1 - two**2))
    assert errors == pytest.approx(
        {"corr_A_k": 0.01, "corr_A_s": 0.02, "corr_k_s": last.std()}, rel=0.01
    )
    fixed = correlation_errors(model, dict(zip(names, at, strict=True)), covariance.iloc[:1, :1])
    assert fixed["corr_A_k"] == pytest.approx(0.01)
    assert fixed["corr_A_s"] == 0.0


def test_prior_draws_follow_their_priors(decay):
    found = prior_draws(decay, 4000, seed=3)
    # default prior of a typical value: log-normal around it with standard deviation 1
    logs = np.log(found.population["A"] / 10.0)
    assert logs.mean() == pytest.approx(0.0, abs=0.06)
    assert logs.std() == pytest.approx(1.0, abs=0.05)
    # half-normal with twice the starting value: mean 0.8 sigma
    assert found.population["omega_k"].mean() == pytest.approx(0.8 * np.sqrt(2 / np.pi), rel=0.05)
    assert found.random.shape == (4000, 8, 2)


def test_data_that_say_nothing_are_told():
    model = PopulationModel(
        LEVEL,
        [parameter("a", 5.0, prior=Prior("LogNormal", mu=np.log(5.0), sigma=0.3), iiv=0.5)],
        additive(0.5),
    )
    likelihood = bind(model, data([0.0, 1.0], np.full((4, 2), 5.0)))
    draws = around(likelihood, 4000, a=0.3, sigma_DV=0.02)
    found = contractions(draws)
    assert found["a"].silent
    assert "The data say nothing about a" in found["a"].sentence
    assert abs(found["a"].contraction) < 0.1
    assert found["a"].overlap > 0.9
    assert not found["sigma_DV"].silent
    assert found["sigma_DV"].contraction > 0.9
    # a posterior elsewhere than the prior, though as wide, has learned something
    moved = dict(draws.population) | {"a": draws.population["a"] * np.exp(1.0)}
    assert not contractions(Draws(likelihood, moved, draws.random))["a"].silent


@pytest.mark.parametrize(
    ("contraction", "told"),
    [
        (0.4, "The data narrowed CL by 40 %."),
        (-0.12, "The data widened CL by 12 %."),
        (-0.002, "The data moved CL and left it as wide as its prior."),
    ],
)
def test_what_the_data_did_to_a_width_is_told_by_its_sign(contraction, told):
    assert Contraction("CL", contraction, 0.5).sentence == told


def test_draws_are_spread_or_repeated(decay):
    draws = around(decay, 30)
    np.testing.assert_array_equal(spread(draws, 70).population["A"][:60].reshape(2, 30)[1],
                                  draws.population["A"])  # fmt: skip
    assert len(spread(draws, 7)) == 7


def test_checks_of_draws(decay):
    checks = check(around(decay), replicates=60, quick=True)
    assert checks.sampler is None
    text = checks.summary()
    assert checks.verdict in text
    assert "omega_k" in text
    assert "NPDE of DV" in text
    assert "elpd" not in text
    assert checks.vpc.panels[0].count.sum() == 40
    assert checks.vpc_by(x="time_after_dose").x_label == "time after dose"
    assert checks.counts == ()


def test_few_draws_and_few_values_are_checked_as_far_as_they_go():
    likelihood = bind(decay_model(additive(0.5)), decay_data(n=1, times=(1.0, 4.0)))
    checks = check(around(likelihood, 30), replicates=60)
    assert checks.leave_one_out is None
    assert "NPDE of DV: 2 values, too few to test." in checks.remarks
    with pytest.raises(PkpdError, match="no line 'platelets'; allowed: DV"):
        checks.errors.tests("platelets")


def test_subjects_without_npde_are_told(decay):
    checks = check(around(decay), replicates=60, quick=True)
    checks.simulations.values[:, decay.dataset.observations.subject == 2] = np.nan
    for name in ("errors", "problems"):
        del checks.__dict__[name]
    assert "npde left out, not solved: subjects 3." in checks.problems


def test_checks_of_maximum_likelihood(decay):
    eta = np.zeros((8, 2))
    fit = SimpleNamespace(
        likelihood=decay,
        estimates=start_values(decay.model),
        random=eta,
        standard_errors={"A": 1.0, "k": 0.4},
        log_likelihood=-50.0,
        messages=("The search ended early.",),
    )
    checks = check(fit, replicates=60)
    assert checks.leave_one_out is None
    assert checks.contractions == {}
    # two typical values, two standard deviations, one residual error
    assert checks.information["AIC"] == pytest.approx(100 + 2 * 5)
    assert checks.information["BIC by subjects"] == pytest.approx(100 + 5 * np.log(8))
    assert "The search ended early." in checks.problems
    assert any("k 133 %" in text for text in checks.problems)


def test_only_draws_are_called_an_approximation(decay):
    zero = np.zeros((8, 2))
    values = {"estimates": start_values(decay.model), "random": zero, "messages": ()}
    likely = SimpleNamespace(likelihood=decay, method="laplace", log_likelihood=-50.0, **values)
    drawn = SimpleNamespace(likelihood=decay, draws=around(decay, 30), record={"method": "map"})
    told = ["".join(check(one, replicates=60, quick=True).problems) for one in (likely, drawn)]
    assert ["are an approximation" in text for text in told] == [False, True]


def test_a_wrong_model_is_told():
    likelihood = bind(decay_model(additive(0.05), omega=(0.02, 0.02)), decay_data(n=8))
    checks = check(around(likelihood), replicates=100, quick=True)
    assert any("NPDE" in text and "too little" in text for text in checks.problems)
    assert any("visual predictive check" in text for text in checks.problems)
    assert "remark" in checks.verdict


def test_no_fit():
    with pytest.raises(PkpdError, match="dict is no fit"):
        check({})
