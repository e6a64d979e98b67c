"""Leaving out, re-weighting, refitting and influence against the closed forms of a normal model."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from pkpd.errors import PkpdError
from pkpd.evidence.criticism.criticism import (
    coverage,
    coverage_table,
    influence,
    influence_table,
    leave_studies_out,
    left_out_checks,
    predictive_checks,
)
from pkpd.evidence.criticism.psis import smoothed_weights
from pkpd.evidence.criticism.refit import cross_validate, folds_of, refit_without
from pkpd.evidence.criticism.reweight import changed_studies, reweight
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.random_effects import StudyEffects
from pkpd.evidence.likelihood.total import Evaluation, EvidenceLikelihood
from pkpd.evidence.likelihood.use import Switches
from pkpd.evidence.posterior.learned import learned, learned_table
from pkpd.evidence.posterior.stored import calibrate, load_posterior
from pkpd.evidence.sampling.convergence import Limits, check_convergence, effective_size, rank_rhat
from pkpd.evidence.sampling.smc import SMCSettings
from pkpd.evidence.table.table import load_evidence
from pkpd.units import Parameter

SD = 0.5


def unit_normal(name):
    return Parameter(name, 0.0, "1", interval=(-1.959964, 1.959964), distribution="normal")


PRIOR = Prior([unit_normal("mean"), unit_normal("idle")])
DATA = {"s1": 0.3, "s2": 0.9, "s3": -0.2, "s4": 0.6}


class NormalEvidence:
    """Studies that each publish one number, normal about the mean with SD 0.5."""

    def __init__(self, data):
        self.data = dict(data)
        self.studies = tuple(self.data)
        self.terms = tuple(
            SimpleNamespace(study=s, kind="normal", power=1.0, readings=(), rows=(row(s, y),))
            for s, y in self.data.items()
        )
        self.switches = Switches()

    def __call__(self, theta):
        each = -0.5 * ((np.array(list(self.data.values())) - theta["mean"]) / SD) ** 2
        each -= np.log(SD) + 0.5 * np.log(2 * np.pi)
        return Evaluation(float(each.sum()), each, each)


def row(study, value):
    names = ["arm", "other_arm", "n", "lower", "upper", "limits", "numerator", "denominator"]
    return SimpleNamespace(id=study, study=study, value=value, **dict.fromkeys(names))


def exact(data):
    """Posterior mean and variance of the mean."""
    precision = 1 + len(data) / SD**2
    return sum(data.values()) / SD**2 / precision, 1 / precision


@pytest.fixture(scope="module")
def fitted():
    evidence = NormalEvidence(DATA)
    posterior, convergence = calibrate(
        PRIOR, evidence, SMCSettings(particles=4096, chains=512, seed=4), runs=2
    )
    return evidence, posterior, convergence


def test_two_runs_agree_and_converge(fitted):
    _, posterior, convergence = fitted
    assert convergence.converged, convergence.table()
    mean, variance = exact(DATA)
    assert posterior.mean()["mean"] == pytest.approx(mean, abs=0.02)
    assert posterior.flat()[:, 0].var() == pytest.approx(variance, rel=0.1)
    assert posterior.quantiles()["mean"][1] == pytest.approx(mean, abs=0.03)


def test_left_out_study_has_its_exact_predictive_density(fitted):
    evidence, posterior, _ = fitted
    for answer in leave_studies_out(posterior, evidence):
        others = {s: y for s, y in DATA.items() if s != answer.study}
        mean, variance = exact(others)
        expected = norm.logpdf(DATA[answer.study], mean, np.sqrt(variance + SD**2))
        assert answer.khat < 0.7
        assert answer.elpd == pytest.approx(expected, abs=0.03)
        assert answer.by_term[answer.study] == pytest.approx(expected, abs=0.03)


def test_high_khat_asks_for_a_refit(fitted):
    evidence, posterior, _ = fitted
    asked = []

    def refit(study):
        asked.append(study)
        return refit_without(
            posterior, PRIOR, evidence, SMCSettings(particles=1024, chains=128, seed=9), (study,)
        )

    answers = leave_studies_out(posterior, evidence, refit, limit=-1.0)
    assert asked == list(DATA)
    for answer in answers:
        assert answer.refitted
        mean, variance = exact({s: y for s, y in DATA.items() if s != answer.study})
        expected = norm.logpdf(DATA[answer.study], mean, np.sqrt(variance + SD**2))
        # 200 posterior draws
        assert answer.elpd == pytest.approx(expected, abs=0.15)


def test_refit_samples_the_posterior_without_the_study(fitted):
    evidence, posterior, _ = fitted
    settings = SMCSettings(particles=4096, chains=512, seed=9)
    without = refit_without(posterior, PRIOR, evidence, settings, ("s2",))
    mean, variance = exact({s: y for s, y in DATA.items() if s != "s2"})
    assert without.mean()["mean"] == pytest.approx(mean, abs=0.03)
    assert without.flat()[:, 0].var() == pytest.approx(variance, rel=0.12)


def test_folds_are_a_partition_and_are_scored(fitted):
    evidence, posterior, _ = fitted
    folds = folds_of(DATA, 3)
    assert sorted(sum(folds, ())) == sorted(DATA)
    settings = SMCSettings(particles=512, chains=64, seed=2)
    scores = cross_validate(posterior, PRIOR, evidence, settings, folds=2, draws=400)
    for study, (_, score) in scores.items():
        fold = next(f for f in folds_of(DATA, 2) if study in f)
        mean, variance = exact({s: y for s, y in DATA.items() if s not in fold})
        expected = norm.logpdf(DATA[study], mean, np.sqrt(variance + SD**2))
        assert score == pytest.approx(expected, abs=0.15)


def test_reweighting_adds_and_removes_exactly(fitted):
    _, posterior, _ = fitted
    added = reweight(posterior, NormalEvidence({"new": 0.5}))
    mean, variance = exact(DATA | {"new": 0.5})
    assert added.khat < 0.7
    assert added.posterior.mean()["mean"] == pytest.approx(mean, abs=0.02)
    low, _, high = added.posterior.quantiles((0.025, 0.5, 0.975))["mean"]
    assert (high - low) / 3.92 == pytest.approx(np.sqrt(variance), rel=0.08)
    removed = reweight(posterior, removed=["s3"])
    without, _ = exact({s: y for s, y in DATA.items() if s != "s3"})
    assert removed.posterior.mean()["mean"] == pytest.approx(without, abs=0.03)
    # a study that changes replaces its old self
    changed = reweight(posterior, NormalEvidence({"s3": 0.4}))
    assert changed.posterior.mean()["mean"] == pytest.approx(exact(DATA | {"s3": 0.4})[0], abs=0.03)
    draws = added.posterior.draws(500, seed=1)
    assert np.mean([d["mean"] for d in draws]) == pytest.approx(mean, abs=0.06)


def test_reweighting_too_far_is_refused(fitted):
    _, posterior, _ = fitted
    far = NormalEvidence({f"far{i}": 4.0 for i in range(12)})
    with pytest.raises(PkpdError, match=r"Pareto k-hat is .* above 0.7.*run the calibration again"):
        reweight(posterior, far)
    with pytest.raises(PkpdError, match="no study 'sX' in the posterior"):
        reweight(posterior, removed=["sX"])


def test_equal_weights_have_no_tail():
    weights, khat = smoothed_weights(np.zeros(100))
    assert khat == -np.inf
    np.testing.assert_allclose(weights, 0.01)


def test_influence_is_the_derivative_of_the_mean(fitted):
    _, posterior, _ = fitted
    matrix = influence(posterior, "study")
    mean, variance = exact(DATA)
    for index, (_study, y) in enumerate(DATA.items()):
        # d mean / d power of study s = variance (y - mean) / SD^2 for a normal model
        expected = -variance * (y - mean) / SD**2 / np.sqrt(variance)
        assert matrix[index, 0] == pytest.approx(expected, abs=0.06)
    assert np.abs(matrix[:, 1]).max() < 0.06
    assert "mean: " in influence_table(posterior)


def test_contraction_says_what_was_learned(fitted):
    _, posterior, _ = fitted
    about = {entry.name: entry for entry in learned(posterior)}
    assert about["mean"].contraction == pytest.approx(1 - exact(DATA)[1], abs=0.02)
    assert about["idle"].verdict == "the data say nothing about this"
    assert about["mean"].verdict == "learned from the data"
    assert "say nothing" in learned_table(posterior)


def test_posterior_is_saved_and_read_back(fitted, tmp_path):
    _, posterior, _ = fitted
    file = tmp_path / "posterior.nc"
    posterior.save(file, default=True)
    back = load_posterior(file, default=True)
    np.testing.assert_array_equal(back.values, posterior.values)
    np.testing.assert_allclose(back.by_study, posterior.by_study, rtol=1e-6)
    assert back.names == posterior.names
    assert back.record["seeds"] == [4, 5]
    assert back.record["settings"]["particles"] == 4096
    assert back.record["evidence"] == posterior.record["evidence"]


def test_a_thinned_posterior_is_a_fair_and_smaller_sample(fitted, tmp_path):
    _, posterior, _ = fitted
    small = posterior.thinned(200, seed=4)
    assert small.values.shape == (1, 200, 2)
    assert small.record["thinned"] == {"from": posterior.weights.size, "to": 200}
    assert small.converged == posterior.converged
    # systematic draws: their mean lies within 4 standard errors of simple random ones
    mean, sd = posterior.flat().mean(axis=0), posterior.flat().std(axis=0)
    np.testing.assert_array_less(np.abs(small.flat().mean(axis=0) - mean), 4 * sd / np.sqrt(200))
    whole = {tuple(row): study for row, study in zip(
        posterior.flat(), posterior.by_study.reshape(-1, 4), strict=True)}  # fmt: skip
    for row, study in zip(small.flat(), small.by_study[0], strict=True):
        np.testing.assert_array_equal(whole[tuple(row)], study)
    small.save(tmp_path / "small.nc")
    assert load_posterior(tmp_path / "small.nc").draws(3) == small.draws(3)


def test_posterior_without_convergence_is_refused_as_default(tmp_path):
    evidence = NormalEvidence(DATA)
    posterior, convergence = calibrate(
        PRIOR, evidence, SMCSettings(particles=64, chains=8, seed=4), runs=1
    )
    assert not convergence.converged
    assert any("independent ones are needed" in p for p in convergence.problems)
    with pytest.raises(PkpdError, match=r"default posterior .*: the sampler did not converge"):
        posterior.save(tmp_path / "p.nc", default=True)
    posterior.save(tmp_path / "p.nc")
    with pytest.raises(PkpdError, match="did not converge"):
        load_posterior(tmp_path / "p.nc", default=True)
    with pytest.raises(PkpdError, match="there is no such file; check the path"):
        load_posterior(tmp_path / "none.nc")
    (tmp_path / "q.nc").write_text("no")
    with pytest.raises(PkpdError, match="it is no posterior"):
        load_posterior(tmp_path / "q.nc")


def test_calibration_resumes_from_its_folder(tmp_path):
    evidence = NormalEvidence(DATA)
    settings = SMCSettings(particles=128, chains=16)
    first, _ = calibrate(PRIOR, evidence, settings, folder=tmp_path)
    calls = []
    again, _ = calibrate(
        PRIOR, evidence, settings, folder=tmp_path, on_stage=lambda *a: calls.append(a)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert not calls


def test_runs_that_disagree_are_found():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((2, 500, 1))
    assert rank_rhat(draws)[0] < 1.01
    draws[1] += 1.0
    assert rank_rhat(draws)[0] > 1.1
    wide = rng.standard_normal((2, 500, 1)) * np.array([1.0, 3.0])[:, None, None]
    assert rank_rhat(wide)[0] > 1.1


def test_rhat_is_that_of_the_definition():
    """Ranks, normal scores and variances of half runs, written out (Vehtari et al. 2021)."""
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((2, 300, 2)) + np.array([[[0.0, 0.1]], [[0.2, -0.3]]])
    expected = []
    for x in np.moveaxis(draws, 2, 0):
        halves = x.reshape(4, 150)
        found = []
        for values in (halves, np.abs(halves - np.median(halves))):
            place = np.argsort(np.argsort(values.ravel())).reshape(values.shape) + 1
            score = norm.ppf((place - 0.375) / (values.size + 0.25))
            within, between = score.var(axis=1, ddof=1).mean(), score.mean(axis=1).var(ddof=1)
            found.append(np.sqrt(149 / 150 + between / within))
        expected.append(max(found))
    np.testing.assert_allclose(rank_rhat(draws), expected, rtol=1e-10)
    assert np.all(np.isinf(rank_rhat(np.ones((2, 100, 1)))))
    np.testing.assert_array_equal(rank_rhat(draws[:1]), [1.0, 1.0])


@pytest.mark.parametrize("length", [4, 20])
def test_effective_size_of_short_autoregressive_chains_is_closed_form(length):
    rng, rho, chains = np.random.default_rng(5), 0.8, 4000
    x = np.empty((chains, length, 1))
    x[:, 0] = rng.standard_normal((chains, 1))
    for t in range(1, length):
        x[:, t] = rho * x[:, t - 1] + np.sqrt(1 - rho**2) * rng.standard_normal((chains, 1))
    k = np.arange(1, length)
    size = chains * length / (1 + 2 * np.sum((1 - k / length) * rho**k))
    found, error = effective_size(x, np.ones(1))
    # a variance from 4000 means is known to 2.2 %
    assert found[0] == pytest.approx(size, rel=0.1)
    assert error[0] == pytest.approx(1 / size, rel=0.1)


def test_stuck_chains_lower_the_effective_sample_size(fitted):
    _, posterior, _ = fitted
    run = SimpleNamespace(
        z=np.repeat(posterior.z[0, ::8], 8, axis=0),
        stages=[SimpleNamespace(accepted={"walk": 0.01}, unique_share=0.1)],
        log_evidence=0.0,
        power=1.0,
        evaluations=10,
        failed=0,
    )
    found = check_convergence([run, run], PRIOR.names, 512, Limits(ess=2000))
    # each chain holds one value, so that there are as many as chains, twice
    assert found.ess[0] == pytest.approx(1024, rel=0.15)
    assert any("effective sample size" in problem for problem in found.problems)
    assert any("moves were accepted" in problem for problem in found.problems)


def test_means_of_runs_differ_only_beyond_their_own_error():
    def problems(different, apart):
        """Two runs of 64 chains of eight states, the same or all different ones in a chain."""
        rng = np.random.default_rng(2)
        z = rng.standard_normal((64 * (8 if different else 1), 1))
        z = np.repeat((z - z.mean(axis=0)) / z.std(axis=0), 1 if different else 8, axis=0)
        stages = [SimpleNamespace(accepted={"walk": 0.3}, unique_share=0.3)]
        parts = {"stages": stages, "log_evidence": 0.0, "power": 1.0, "evaluations": 9, "failed": 0}
        runs = [SimpleNamespace(z=z + at, **parts) for at in (0.0, apart)]
        found = check_convergence(runs, ["x"], 64, Limits(rhat=9.0, ess=1.0))
        return [text for text in found.problems if "difference between runs" in text]

    # 64 chains that stand still: a mean is known to 1/8, so 0.4 is 2.3 errors of a difference
    assert not problems(different=False, apart=0.4)
    assert problems(different=False, apart=0.9)
    # 512 different states: 0.4 is more than six errors
    assert problems(different=True, apart=0.4)
    assert not problems(different=True, apart=0.2)


def test_evidences_that_differ_forbid_comparing_models_not_using_the_draws():
    z = np.random.default_rng(3).standard_normal((512, 1))
    stages = [SimpleNamespace(accepted={"walk": 0.3}, unique_share=0.3)]
    parts = {"z": z, "stages": stages, "power": 1.0, "evaluations": 9, "failed": 0}
    runs = [SimpleNamespace(log_evidence=value, **parts) for value in (-700.0, -707.1)]
    found = check_convergence(runs, ["x"], 64, Limits(ess=1.0))
    assert found.converged
    assert "log evidences differ by 7.1, the limit is 3: models cannot be" in found.table()
    runs[1].log_evidence = -701.0
    assert "evidences differ" not in check_convergence(runs, ["x"], 64, Limits(ess=1.0)).table()


def test_predictions_of_rows_are_calibrated_on_the_truth(table_file, stand_in, truth):
    table = load_evidence(table_file())
    bare = EvidenceLikelihood(table, lambda theta: {}, StudyEffects(), Switches(memory=1.0))
    like = EvidenceLikelihood(table, stand_in(bare.arms, 256), StudyEffects(), Switches(memory=1.0))
    checks = predictive_checks(like, [truth] * 20, repeats=10)
    assert len(checks) == 8
    by_id = {check.row.id: check for check in checks}
    assert by_id["C.cr_rate"].observed == pytest.approx(11 / 40)
    assert all(
        0 <= check.pit <= 1 and check.lower <= check.median <= check.upper for check in checks
    )
    total = coverage(checks)[-1]
    assert total.rows == 8
    assert total.inside == sum(check.inside for check in checks)
    assert "outside" in coverage_table(checks) or total.inside == 8


def test_left_out_predictions_use_the_other_studies(table_file, stand_in, truth):
    table = load_evidence(table_file())
    prior = Prior(
        [Parameter("kill", 3.3, "1", interval=(2.0, 5.0), distribution="lognormal")],
        fixed={k: v for k, v in truth.items() if k != "kill"},
    )
    bare = EvidenceLikelihood(table, lambda theta: {}, StudyEffects(), Switches(memory=1.0))
    like = EvidenceLikelihood(table, stand_in(bare.arms, 64), StudyEffects(), Switches(memory=1.0))
    posterior, _ = calibrate(prior, like, SMCSettings(particles=64, chains=16), runs=1)
    left_out = leave_studies_out(posterior, like)
    inside = predictive_checks(like, posterior.draws(30, 1), repeats=5)
    outside = left_out_checks(posterior, like, left_out, draws=30, repeats=5)
    assert [c.row.id for c in inside] == [c.row.id for c in outside]
    assert len(left_out) == 5


def test_changed_studies_keep_their_other_rows(table_file):
    table = load_evidence(table_file())
    new = load_evidence(
        table_file("A,aml,cytarabine:100 mg/m2:CI:1-7,200,day60_mortality,,,,,30,200,READ")
    )
    changed = changed_studies(table, new.rows)
    assert changed.studies == ("A",)
    assert len(changed) == 4
