"""The sampler against closed forms: conjugate normal and beta-binomial, evidence, resuming."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, betabinom, kstest, multivariate_normal, norm

from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.prior import HalfNormal, Pooled, Prior
from pkpd.evidence.sampling.smc import SMCSettings, next_power, prolong, run_smc, settled, with_seed
from pkpd.evidence.sampling.smc_state import SMCRun
from pkpd.units import Parameter


def normal_parameter(name, sd=1.0):
    half = 1.959963984540054 * sd
    return Parameter(name, 0.0, "1", interval=(-half, half), distribution="normal")


PRIOR = Prior([normal_parameter("a"), normal_parameter("b"), normal_parameter("c")])
DATA = np.array([0.8, -0.4])
DESIGN = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]])
NOISE = 0.3


def linear_target(theta):
    mean = DESIGN @ np.array([theta["a"], theta["b"], theta["c"]])
    each = norm.logpdf(DATA, mean, NOISE)
    return float(each.sum()), each


def linear_posterior():
    precision = np.eye(3) + DESIGN.T @ DESIGN / NOISE**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ DESIGN.T @ DATA / NOISE**2
    evidence = multivariate_normal.logpdf(
        DATA, np.zeros(2), DESIGN @ DESIGN.T + NOISE**2 * np.eye(2)
    )
    return mean, covariance, evidence


def make_linear_target():
    return linear_target


def test_conjugate_normal_posterior_and_evidence():
    settings = SMCSettings(particles=4096, chains=256, seed=3, final_stages=1)
    run = run_smc(PRIOR, linear_target, settings)
    mean, covariance, evidence = linear_posterior()
    sd = np.sqrt(np.diag(covariance))
    # between-chain Monte Carlo error of the means of 256 chains; 4 standard errors
    chain_means = run.z.reshape(256, -1, 3).mean(axis=1)  # 16 states, and 16 of the final stage
    assert len(run.z) == 2 * 4096
    error = chain_means.std(axis=0) / 16
    assert np.all(error < 0.06 * sd)
    np.testing.assert_array_less(np.abs(run.z.mean(axis=0) - mean), 4 * error)
    np.testing.assert_allclose(np.cov(run.z.T), covariance, atol=0.1 * sd.max() ** 2)
    # standard deviation of the log evidence over 20 seeds of these settings is 0.04
    assert run.log_evidence == pytest.approx(evidence, abs=0.16)
    assert run.stages[-1].power == 1.0
    np.testing.assert_allclose(run.pieces.sum(axis=1), run.log_likelihood, rtol=1e-12)


def test_beta_binomial_posterior_through_a_logit_free_map():
    # a uniform probability p = Phi(z), k of n: posterior is Beta(k + 1, n - k + 1)
    prior = Prior([normal_parameter("z")])

    def target(theta):
        p = norm.cdf(theta["z"])
        return 7 * math.log(p) + 13 * math.log1p(-p), np.zeros(1)

    run = run_smc(prior, target, SMCSettings(particles=4096, chains=512, seed=5))
    p = norm.cdf(run.z[:, 0])
    # one state of each chain: nearly independent draws, so the Kolmogorov test applies
    assert kstest(p.reshape(512, -1)[:, -1], beta(8, 14).cdf).pvalue > 0.001
    exact = betabinom.logpmf(7, 20, 1, 1) - math.log(math.comb(20, 7))
    assert run.log_evidence == pytest.approx(exact, abs=0.1)


def test_same_seed_same_result_whatever_the_workers():
    settings = SMCSettings(particles=128, chains=16, seed=7)
    one = run_smc(PRIOR, linear_target, settings)
    threads = run_smc(
        PRIOR, linear_target, SMCSettings(particles=128, chains=16, seed=7, workers=2)
    )
    np.testing.assert_array_equal(one.z, threads.z)


def test_killed_run_resumes_to_the_same_end(tmp_path):
    settings = SMCSettings(particles=256, chains=32, seed=11)
    whole = run_smc(PRIOR, linear_target, settings)
    file = tmp_path / "run.npz"

    class Killed(Exception):
        pass

    def kill(stage, evaluations):
        if stage.power > 0.02:
            raise Killed

    with pytest.raises(Killed):
        run_smc(PRIOR, linear_target, settings, checkpoint=file, on_stage=kill)
    assert file.exists()
    evaluations = []
    resumed = run_smc(
        PRIOR,
        linear_target,
        settings,
        checkpoint=file,
        on_stage=lambda stage, n: evaluations.append(n),
    )
    np.testing.assert_array_equal(whole.z, resumed.z)
    assert whole.log_evidence == resumed.log_evidence
    assert len(evaluations) < len(whole.stages)


def test_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.npz"
    settings = SMCSettings(particles=64, chains=8)
    run_smc(PRIOR, linear_target, settings, checkpoint=file, label="evidence 1")
    with pytest.raises(PkpdError, match="belongs to a run with other evidence"):
        run_smc(PRIOR, linear_target, settings, checkpoint=file, label="evidence 2")


def test_parameters_without_likelihood_are_survived_and_counted():
    def target(theta):
        if theta["a"] < 0:
            return float("nan"), np.zeros(2)
        return linear_target(theta)

    run = run_smc(PRIOR, target, SMCSettings(particles=512, chains=64, seed=2))
    assert np.all(run.z[:, 0] >= 0)
    assert run.failed > 0


def test_prior_that_cannot_produce_the_evidence_is_refused():
    with pytest.raises(PkpdError, match="no draw from the prior has a finite likelihood"):
        run_smc(PRIOR, lambda theta: (-np.inf, np.zeros(1)), SMCSettings(64, 8))


def test_next_power_meets_the_effective_share():
    rng = np.random.default_rng(0)
    ll = -rng.chisquare(5, 2000) * 20
    power = next_power(ll, 0.0, 0.5)
    w = np.exp(power * (ll - ll.max()))
    assert w.sum() ** 2 / (w**2).sum() / ll.size == pytest.approx(0.5, abs=1e-3)
    assert next_power(np.zeros(10), 0.3, 0.5) == 1.0


def test_prior_maps_have_their_distributions():
    rng = np.random.default_rng(1)
    prior = Prior(
        [
            Parameter("m", 2.0, "1", interval=(1.0, 4.0), distribution="lognormal"),
            HalfNormal("s", 1.0),
            Pooled("m.x", "m", "s"),
        ],
        fixed={"k": 3.0},
    )
    values = prior.values(prior.draw(200_000, rng))
    np.testing.assert_allclose(np.quantile(values[:, 0], [0.025, 0.5, 0.975]), [1, 2, 4], rtol=0.02)
    assert kstest(values[:2000, 1], lambda x: 2 * norm.cdf(x * 1.959964) - 1).pvalue > 1e-3
    ratio = np.log(values[:, 2] / values[:, 0]) / values[:, 1]
    assert kstest(ratio[:2000], norm.cdf).pvalue > 1e-3
    assert prior.theta(np.zeros(3))["k"] == 3.0


def test_pooled_parameter_needs_its_centre_first():
    with pytest.raises(PkpdError, match="does not come before it"):
        Prior([HalfNormal("s", 1.0), Pooled("m.x", "m", "s")])


@pytest.mark.slow
def test_processes_give_the_same_result():
    settings = SMCSettings(particles=64, chains=16, seed=7, workers=2, how="processes")
    there = run_smc(PRIOR, make_linear_target, settings)
    here = run_smc(PRIOR, linear_target, SMCSettings(particles=64, chains=16, seed=7))
    np.testing.assert_array_equal(there.z, here.z)


@pytest.mark.slow
def test_agrees_with_the_sampler_of_pymc():
    import pymc as pm

    with pm.Model():
        z = pm.Normal("z", 0, 1, shape=3)
        pm.Normal("y", pm.math.dot(DESIGN, z), NOISE, observed=DATA)
        trace = pm.sample_smc(2000, chains=2, cores=1, random_seed=1, progressbar=False)
    theirs = trace.posterior["z"].to_numpy().reshape(-1, 3)
    ours = run_smc(PRIOR, linear_target, SMCSettings(particles=4096, chains=256, seed=3)).z
    sd = ours.std(axis=0)
    np.testing.assert_array_less(np.abs(theirs.mean(axis=0) - ours.mean(axis=0)), 0.12 * sd)
    np.testing.assert_allclose(theirs.std(axis=0), sd, rtol=0.1)


def test_partial_is_a_factory():
    assert functools.partial(make_linear_target)() is linear_target


def test_runs_that_go_on_together_agree_with_the_exact_posterior():
    settings = SMCSettings(particles=256, chains=64, seed=21, final_stages=0)
    runs = [run_smc(PRIOR, linear_target, with_seed(settings, seed)) for seed in (21, 22)]
    # one run is put where the posterior is not
    runs[1] = replace(runs[1], z=runs[1].z + 2.0)
    runs[1].log_likelihood[:] = [linear_target(PRIOR.theta(z))[0] for z in runs[1].z]
    for _ in range(8):
        runs = [
            prolong(run, PRIOR, linear_target, with_seed(settings, 21 + k), [runs[1 - k]])
            for k, run in enumerate(runs)
        ]
    mean, covariance, _ = linear_posterior()
    sd = np.sqrt(np.diag(covariance))
    for run in runs:
        assert run.final_done == 8
        assert len(run.z) == 9 * 256
        kept = settled(run, settings.chains)
        assert len(kept.z) == 64 * 18  # of 36 states of a chain the later half
        means = kept.z.reshape(64, -1, 3).mean(axis=1)
        error = means.std(axis=0, ddof=1) / 8
        assert np.all(error < 0.1 * sd)
        np.testing.assert_array_less(np.abs(kept.z.mean(axis=0) - mean), 4.5 * error)


def test_an_unfinished_run_cannot_go_on():
    settings = SMCSettings(particles=64, chains=16, seed=1)
    start = SMCRun(np.zeros((64, 3)), np.zeros(64), np.zeros((64, 1)))
    with pytest.raises(PkpdError, match="power 0 cannot go on; finish it"):
        prolong(start, PRIOR, linear_target, settings)
