"""Priors of several parameters against NONMEM's printed numbers, SciPy, and differences.

NONMEM's numbers are those of listings in public repositories: examples 1, 3, 6, 7 and 8 that come
with NONMEM (run by ICON, versions 7.4.0 beta to 7.6.0 beta), and the runs ``ped103`` (with
``$PRIOR``) and ``ped103x`` (the same without) of AMC-CPT/PMx, NONMEM 7.6.0, FOCE with interaction.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conjugate import MEANS, OMEGA, SIGMA, SPREADS, TIMES, posterior
from conjugate import data as straight_data
from scipy import stats
from small_data import Straight

import pkpd
from pkpd.checks import compare_fits, runs
from pkpd.errors import PkpdError
from pkpd.fitting.bayes.density import build_model
from pkpd.fitting.bayes.program import compile_density
from pkpd.fitting.checks.priors import prior_draws
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.model.default_priors import all_priors
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import RandomEffects
from pkpd.fitting.model.residual import additive
from pkpd.models import (
    InverseWishart,
    JointNormal,
    JointPrior,
    PopulationModel,
    Prior,
    export_model,
    fixed,
    parameter,
)


def wishart(centre, freedom, prefix="omega_"):
    size = len(np.atleast_2d(centre))
    names = [f"{prefix}{i}" for i in range(size)]
    partial = [f"partial_{j}_{i}" for i in range(size) for j in range(i)]
    return InverseWishart(names, partial, centre, freedom)


def normal(mean, variances):
    return JointNormal([f"THETA{i}" for i in range(len(mean))], mean, np.diag(variances))


PED = (5.73, 41.0, 0.140, 0.104, 51.3), (0.0563, 0.982, 0.000180, 0.0000415, 32.7)
CONSTANTS = {
    "example 1": (
        [normal([2.0] * 4, [1e4] * 4), wishart(0.2 * np.eye(4), 4), wishart([[0.06]], 1)],
        71.2763539723735,
    ),
    "example 3": ([wishart(0.05 * np.eye(2), 2), wishart(0.05 * np.eye(2), 2)], 28.5447777318297),
    "example 6": ([wishart(0.2 * np.eye(8), 8)], 55.1779157436876),
    # a block of occasions, which SAME repeats twice, counts once
    "example 7": ([wishart(np.diag([0.14, 0.125]), 2), wishart([[0.0164]], 1)], 16.3289195783656),
    "example 8": ([normal([2.0] * 4, [1e4] * 4), wishart(0.2 * np.eye(4), 4)], 66.6250661892040),
    "ped103": (
        [normal(*PED), wishart([[0.0801]], 90), wishart([[0.0449]], 90)],
        313.64072311941447,
    ),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_is_the_one_that_nonmem_prints(name):
    parts, printed = CONSTANTS[name]
    # all 15 digits but for rounding; degrees of freedom of 90 lose three to the gamma function
    assert JointPrior(parts).constant == pytest.approx(printed, rel=1e-14, abs=3e-10)


def test_penalty_is_the_one_that_nonmem_adds():
    # iteration 0 of two runs from the same values, one with $PRIOR and one without
    printed = -270.61691087840859 - 22.400733925371817
    prior = JointPrior(
        [
            normal(*PED),
            InverseWishart(["a"], [], [[0.0801]], 90),
            InverseWishart(["b"], [], [[0.0449]], 90),
        ]
    )
    start = dict(zip(prior.names, (5.0, 40.0, 0.2, 0.1, 50.0, 0.1**0.5, 0.05**0.5), strict=True))
    assert float(prior.penalty(start, np)) == pytest.approx(printed, abs=1e-10)


BLOCK = wishart([[0.4, 0.1, 0.05], [0.1, 0.3, -0.06], [0.05, -0.06, 0.5]], 7.5)
INSIDE = dict(
    zip((*BLOCK.deviations, *BLOCK.partial), (0.7, 0.5, 0.9, 0.3, -0.4, 0.2), strict=True)
)


def covariance(values):
    lower = jnp.asarray([[0.0] * 3] * 3)
    for i, row in enumerate(BLOCK._lower(values, jnp)):
        lower = lower.at[i, : len(row)].set(jnp.stack(row))
    return lower @ lower.T


@pytest.mark.slow
def test_inverse_wishart_is_that_of_scipy():
    matrix = np.asarray(covariance(INSIDE))
    density = stats.invwishart(7.5, 7.5 * BLOCK.centre).logpdf(matrix)
    determinant = np.linalg.slogdet(matrix).logabsdet
    # the penalty is of the density times det^((p + 1) / 2)
    total = BLOCK.penalty(INSIDE, np) + BLOCK.constant
    assert -0.5 * total == pytest.approx(density + 0.5 * 4 * determinant, rel=1e-12)
    # the density of standard deviations and partial correlations has the Jacobian
    names, rows = list(INSIDE), np.tril_indices(3)
    entries = jax.jacfwd(lambda x: covariance(dict(zip(names, x, strict=True)))[rows])
    jacobian = np.linalg.slogdet(entries(jnp.asarray(list(INSIDE.values())))).logabsdet
    assert BLOCK.log_density(INSIDE, np) == pytest.approx(density + jacobian, rel=1e-12)


def test_penalty_is_least_at_the_centre():
    sd = np.sqrt(np.diag(BLOCK.centre))
    correlation = BLOCK.centre / np.outer(sd, sd)
    lower = np.linalg.cholesky(correlation)
    partial = (lower[1, 0], lower[2, 0], lower[2, 1] / np.sqrt(1 - lower[2, 0] ** 2))
    at = dict(zip(INSIDE, (*sd, *partial), strict=True))
    assert np.allclose(covariance(at), BLOCK.centre)
    slope = jax.grad(lambda v: BLOCK.penalty(v))({k: float(v) for k, v in at.items()})
    assert max(abs(float(v)) for v in slope.values()) < 1e-11
    assert BLOCK.penalty(at, np) < BLOCK.penalty(INSIDE, np)


def test_normal_is_that_of_scipy():
    v = [[0.04, 0.01], [0.01, 0.09]]
    prior = JointNormal(("a", "b"), (1.0, 2.0), v)
    values = {"a": 1.3, "b": 1.7}
    by_scipy = stats.multivariate_normal([1.0, 2.0], v).logpdf([1.3, 1.7])
    assert -0.5 * (prior.penalty(values, np) + prior.constant) == pytest.approx(by_scipy, rel=1e-13)
    joint = JointPrior([prior])
    assert joint.log_density(values, np) == pytest.approx(by_scipy, rel=1e-13)


def model(joint=None, level=1.0, spread=0.8, **more):
    return PopulationModel(
        Straight(),
        [
            parameter("level", level, scale="identity", iiv=spread),
            parameter("slope", 0.2, scale="identity", iiv=0.3, **more),
        ],
        additive(fixed(SIGMA)),
        correlated=[("level", "slope")],
        joint=joint,
    )


def joint(variance=1.0, freedom=9.0, mean=(1.0, 0.2)):
    return JointPrior(
        [
            JointNormal(
                ("level", "slope"), mean, variance * np.array([[0.04, 0.01], [0.01, 0.02]])
            ),
            InverseWishart(
                ("omega_level", "omega_slope"),
                ("partial_level_slope",),
                [[0.3, 0.03], [0.03, 0.05]],
                freedom,
            ),
        ]
    )


@pytest.mark.parametrize("method", ["focei", "laplace", "fo"])
def test_objective_has_the_penalty_and_its_gradient(method):
    data = straight_data(5)
    prior = joint()
    with_prior = MarginalLikelihood(bind(model(prior), data), method)
    without = MarginalLikelihood(bind(model(), data), method)
    x = with_prior.free.start() + np.array([0.1, -0.2, 0.15, -0.1, 0.3])
    added = float(prior.penalty(with_prior.free.values(x), np))
    at = with_prior.evaluate(x)
    assert at.value - without.evaluate(x).value == pytest.approx(added, rel=1e-9)
    h = 1e-5 * np.eye(5)
    rises = [with_prior.evaluate(x + e).value - with_prior.evaluate(x - e).value for e in h]
    assert np.allclose(with_prior.gradient(at), np.array(rises) / 2e-5, rtol=2e-5, atol=2e-4)


@pytest.fixture(scope="module")
def fits():
    data = straight_data(12)
    given = {"none": None, "vague": joint(1e9, 1e-9), "tight": joint(1e-8, 1e8, (2.0, -0.5))}
    return {
        name: pkpd.fit(model(one), data, method="focei", covariance=None, progress=False)
        for name, one in given.items()
    }


@pytest.mark.long
def test_a_vague_prior_leaves_the_estimates(fits):
    none, vague = fits["none"], fits["vague"]
    for name in none.names:
        assert vague.estimates[name] == pytest.approx(none.estimates[name], abs=2e-3)
    assert vague.log_likelihood == pytest.approx(none.log_likelihood, abs=1e-3)


def test_a_tight_prior_decides(fits):
    found = fits["tight"]
    assert found.converged
    assert found.estimates["level"] == pytest.approx(2.0, abs=1e-3)
    assert found.estimates["slope"] == pytest.approx(-0.5, abs=1e-3)
    assert np.allclose(found.omega, [[0.3, 0.03], [0.03, 0.05]], rtol=1e-3)
    # the likelihood is without the prior, the objective with it
    assert found.objective == pytest.approx(
        -2 * found.log_likelihood
        - found.constant
        + joint(1e-8, 1e8, (2.0, -0.5)).penalty(found.estimates, np),
        abs=1e-4,
    )
    assert "of which the prior is" in found.summary()


def test_criteria_beside_each_other_are_those_of_the_fits(fits, tmp_path):
    pair = fits["none"], fits["tight"]
    found = compare_fits(*pair)
    table = found.table
    told = "AIC and BIC are of the likelihood at the mode with the priors"
    assert [one.startswith(f"fit 2: {told}") for one in found.messages].count(True) == 1
    assert not any(one.startswith("fit 1: ") for one in found.messages)
    assert told in fits["tight"].summary()
    for name, one in zip(("none", "tight"), pair, strict=True):
        one.save(tmp_path / f"{name}.nc")
    for kept in (table, runs(tmp_path)):
        for row, one in zip(kept.itertuples(), pair, strict=True):
            told = row.aic, row.bic, row.bic_subjects
            assert told == pytest.approx((one.aic, one.bic, one.bic_subjects))


@pytest.mark.slow
def test_a_prior_makes_up_for_few_data():
    data = straight_data(1)
    with pytest.raises(PkpdError, match="fewer observations"):
        pkpd.fit(model(), data, method="focei", progress=False)
    found = pkpd.fit(model(joint(0.1, 50.0)), data, method="focei", progress=False)
    assert found.converged
    assert max(found.standard_errors.values()) < 0.3
    assert [one.kind for one in found.findings] == ["rests on prior"]


def test_sampled_density_is_that_of_scipy():
    prior, data = joint(), straight_data(3)
    likelihood = bind(model(prior), data)
    assert all_priors(likelihood.model) == {}
    made = build_model(likelihood)
    program = compile_density(made)
    rng = np.random.default_rng(3)
    points = 0.3 * rng.standard_normal((2, program.size))

    def by_scipy(point):
        v = program.variables_at(point)
        values = {name: float(value) for name, value in v.items() if value.ndim == 0}
        w = RandomEffects(likelihood.model, 0).covariance(values, np)
        out = stats.multivariate_normal([1.0, 0.2], prior.parts[0].covariance).logpdf(
            [values["level"], values["slope"]]
        )
        out += stats.invwishart(9.0, 9.0 * prior.parts[1].centre).logpdf(w)
        sd = np.array([values["omega_level"], values["omega_slope"]])
        out += np.log(4.0 * np.prod(sd**2))  # the Jacobian of the covariance
        out += np.log(np.prod(sd))  # of the logarithms that are sampled
        unit = values["partial_level_slope_unit"]
        out += np.log(unit * (1 - unit))
        eta = v["eta"]
        f = values["level"] + eta[:, :1] + (values["slope"] + eta[:, 1:]) * np.array(TIMES)
        out += stats.norm(f, SIGMA).logpdf(data.observations.value.reshape(f.shape)).sum()
        return out + stats.multivariate_normal(cov=np.eye(2)).logpdf(_standard(v, w)).sum()

    def _standard(v, w):
        return np.linalg.solve(np.linalg.cholesky(w), v["eta"].T).T

    ours = [program.at(point)[0] for point in points]
    # a difference: constants of the variables do not matter
    expected = by_scipy(points[0]) - by_scipy(points[1])
    assert ours[0] - ours[1] == pytest.approx(expected, abs=1e-8)


def conjugate_model():
    prior = JointPrior([JointNormal(("level", "slope"), MEANS, np.diag(SPREADS**2))])
    parameters = [
        parameter("level", 1.0, scale="identity", iiv=fixed(OMEGA)),
        parameter("slope", 0.2, scale="identity"),
    ]
    return PopulationModel(Straight(), parameters, additive(fixed(SIGMA)), joint=prior)


@pytest.mark.parametrize("method", ["map", pytest.param("nuts", marks=pytest.mark.long)])
def test_posterior_is_that_in_closed_form(method):
    data = straight_data()
    mean, covariance = posterior(data)
    own = {"tune": 500} if method == "nuts" else {}
    found = pkpd.fit(
        conjugate_model(), data, method=method, draws=1500, chains=2, progress=False, **own
    )
    for i, name in enumerate(("level", "slope")):
        drawn, sd = found.idata.posterior[name].values, np.sqrt(covariance[i, i])
        # draws of the mode's normal, or of chains: about 3,000, or 1,000 independent ones
        assert np.mean(drawn) == pytest.approx(mean[i], abs=0.12 * sd)
        assert np.std(drawn) == pytest.approx(sd, rel=0.1)


def test_draws_of_the_prior_are_those_of_scipy():
    prior = joint(freedom=12.0)
    likelihood = bind(model(prior), straight_data(3))
    drawn = prior_draws(likelihood, 20_000, seed=2).population
    assert np.mean(drawn["level"]) == pytest.approx(1.0, abs=0.01)
    assert np.corrcoef(drawn["level"], drawn["slope"])[0, 1] == pytest.approx(
        0.01 / np.sqrt(0.0008), abs=0.03
    )
    mean = 12.0 * prior.parts[1].centre / (12.0 - 3.0)
    assert np.mean(drawn["omega_level"] ** 2) == pytest.approx(mean[0, 0], rel=0.03)
    cross = drawn["omega_level"] * drawn["omega_slope"] * drawn["partial_level_slope"]
    assert np.mean(cross) == pytest.approx(mean[1, 0], rel=0.1)


def test_draws_of_the_prior_are_none_that_a_parameter_cannot_have():
    names = ("omega_level", "partial_level_slope")
    wide = JointPrior([JointNormal(names, [0.3, 0.5], np.diag([0.3, 0.5]) ** 2)])
    likelihood = bind(model(wide), straight_data(3))
    drawn = prior_draws(likelihood, 500, seed=2).population
    assert drawn["omega_level"].min() > 0.0
    assert np.abs(drawn["partial_level_slope"]).max() < 1.0


def test_a_model_keeps_its_prior():
    prior = joint()
    one = model(prior)
    assert one.with_values({"level": 2.0}).joint is prior
    assert one.replace(joint=None).joint is None
    assert "inverse Wishart about omega_level 0.547723" in repr(prior)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (JointPrior([JointNormal(["levle"], [1.0], [[1.0]])]), "'levle': is no parameter"),
        (JointPrior([JointNormal(["level", "level"], [1, 1], np.eye(2))]), "two joint priors"),
        (JointPrior([JointNormal(["slope"], [1.0], [[1.0]])]), "has a prior of its own"),
    ],
)
def test_what_a_joint_prior_may_be_of(given, words):
    with pytest.raises(PkpdError, match=words):
        model(given, prior=Prior("Normal", mu=0.0, sigma=1.0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: JointNormal(["a"], [1.0], [[0.0]]), "not positive definite"),
        (lambda: JointNormal(["a"], [1.0, 2.0], [[1.0]]), "its mean; allowed: 1 numbers"),
        (lambda: InverseWishart(["a"], [], [[1.0]], 0.0), "0 degrees of freedom"),
        (lambda: InverseWishart(["a", "b"], [], np.eye(2), 3.0), "0 partial correlations"),
        (lambda: JointPrior([wishart(np.eye(2), 1.0)]).log_density({}), "degrees of freedom make"),
        (
            lambda: JointPrior([wishart(np.eye(2), 1.0)]).draws(3, np.random.default_rng(1), {}),
            "degrees of freedom make",
        ),
    ],
)
def test_what_is_no_prior(make, words):
    with pytest.raises(PkpdError, match=words):
        make()


def test_export_refuses_a_joint_prior(tmp_path):
    with pytest.raises(PkpdError, match=r"prior of several parameters, which is not written"):
        export_model(model(joint()), tmp_path / "run1.mod")
