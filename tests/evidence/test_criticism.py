"""Leaving out, re-weighting, refitting and influence against the closed forms of a normal model."""

from dataclasses import replace
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
)
from pkpd.evidence.criticism.left_out import folds_of
from pkpd.evidence.criticism.psis import smoothed_weights
from pkpd.evidence.criticism.row_predictions import predict_table
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.total import Evaluation, EvidenceLikelihood
from pkpd.evidence.likelihood.use import Switches
from pkpd.evidence.posterior.learned import learned, learned_table
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.table.table import load_evidence
from pkpd.evidence.updating.reweight import reweight
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
            SimpleNamespace(
                study=s, name=s, kind="normal", power=1.0, readings=(), rows=(row(s, y),)
            )
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


def sampled(data, n=4096, seed=4, problems=()):
    """Draws of the exact posterior."""
    evidence, (mean, variance) = NormalEvidence(data), exact(data)
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((2, n, 2)) * [np.sqrt(variance), 1.0] + [mean, 0.0]
    by_study = np.array([[evidence({"mean": x}).by_study for x in run] for run in z[..., 0]])
    posterior = EvidencePosterior(
        names=PRIOR.names, values=PRIOR.values(z), z=z, by_study=by_study, by_term=by_study,
        studies=evidence.studies, terms=evidence.studies, fixed={}, problems=tuple(problems),
        record={"written": "2026-01-31T00:00:00+00:00", "settings": {"draws": n}},
    )  # fmt: skip
    return evidence, posterior


@pytest.fixture(scope="module")
def fitted():
    return sampled(DATA)


def test_left_out_study_has_its_exact_predictive_density(fitted):
    evidence, posterior = fitted
    for answer in leave_studies_out(posterior, evidence):
        others = {s: y for s, y in DATA.items() if s != answer.study}
        mean, variance = exact(others)
        expected = norm.logpdf(DATA[answer.study], mean, np.sqrt(variance + SD**2))
        assert answer.khat < 0.7
        assert answer.elpd == pytest.approx(expected, abs=0.03)
        assert answer.by_term[answer.study] == pytest.approx(expected, abs=0.03)


def without(study):
    """The posterior without a study, with the factors of all."""
    _, found = sampled({s: y for s, y in DATA.items() if s != study}, 1024, 9)
    pieces = np.array(
        [[NormalEvidence(DATA)({"mean": x}).by_study for x in run] for run in found.z[..., 0]]
    )
    names = tuple(DATA)
    return replace(found, by_study=pieces, by_term=pieces, studies=names, terms=names)


def test_high_khat_asks_for_a_refit(fitted):
    evidence, posterior = fitted
    asked = []

    def refit(study):
        asked.append(study)
        return without(study)

    answers = leave_studies_out(posterior, evidence, refit, limit=-1.0)
    assert asked == list(DATA)
    for answer in answers:
        assert answer.refitted
        mean, variance = exact({s: y for s, y in DATA.items() if s != answer.study})
        expected = norm.logpdf(DATA[answer.study], mean, np.sqrt(variance + SD**2))
        # 200 posterior draws
        assert answer.elpd == pytest.approx(expected, abs=0.15)


def test_folds_are_a_partition():
    folds = folds_of(DATA, 3)
    assert sorted(sum(folds, ())) == sorted(DATA)
    assert {len(fold) for fold in folds} == {1, 2}


def test_reweighting_adds_and_removes_exactly(fitted):
    _, posterior = fitted
    added = reweight(posterior, NormalEvidence({"new": 0.5}))
    mean, variance = exact(DATA | {"new": 0.5})
    assert added.khat < 0.7
    assert added.posterior.mean()["mean"] == pytest.approx(mean, abs=0.02)
    low, _, high = added.posterior.quantiles((0.025, 0.5, 0.975))["mean"]
    assert (high - low) / 3.92 == pytest.approx(np.sqrt(variance), rel=0.08)
    removed = reweight(posterior, removed=["s3"])
    without, _ = exact({s: y for s, y in DATA.items() if s != "s3"})
    assert removed.posterior.mean()["mean"] == pytest.approx(without, abs=0.03)
    # the posterior knows what it has learned from: nothing is added or taken out twice
    assert added.posterior.studies == (*posterior.studies, "new")
    assert added.posterior.terms == (*posterior.terms, "new")
    again = reweight(added.posterior, NormalEvidence({"new": 0.5})).posterior
    np.testing.assert_allclose(again.weights, added.posterior.weights, rtol=0.02, atol=1e-7)
    assert again.studies == added.posterior.studies
    back = reweight(added.posterior, removed=["new"]).posterior
    assert back.mean()["mean"] == pytest.approx(posterior.mean()["mean"], abs=0.01)
    with pytest.raises(PkpdError, match="no study 's3' in the posterior"):
        reweight(removed.posterior, removed=["s3"])
    assert removed.posterior.terms == tuple(t for t in posterior.terms if t != "s3")
    # a study that changes replaces its old self
    changed = reweight(posterior, NormalEvidence({"s3": 0.4}))
    assert changed.posterior.mean()["mean"] == pytest.approx(exact(DATA | {"s3": 0.4})[0], abs=0.03)
    draws = added.posterior.draws(500, seed=1)
    assert np.mean([d["mean"] for d in draws]) == pytest.approx(mean, abs=0.06)


def test_reweighting_too_far_is_refused(fitted):
    _, posterior = fitted
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
    _, posterior = fitted
    matrix = influence(posterior, "study")
    mean, variance = exact(DATA)
    for index, (_study, y) in enumerate(DATA.items()):
        # d mean / d power of study s = variance (y - mean) / SD^2 for a normal model
        expected = -variance * (y - mean) / SD**2 / np.sqrt(variance)
        assert matrix[index, 0] == pytest.approx(expected, abs=0.06)
    assert np.abs(matrix[:, 1]).max() < 0.06
    assert "mean: " in influence_table(posterior)


def test_contraction_says_what_was_learned(fitted):
    _, posterior = fitted
    about = {entry.name: entry for entry in learned(posterior)}
    assert about["mean"].contraction == pytest.approx(1 - exact(DATA)[1], abs=0.02)
    assert about["idle"].verdict == "the data say nothing about this"
    assert about["mean"].verdict == "learned from the data"
    assert "say nothing" in learned_table(posterior)


def test_posterior_is_saved_and_read_back(fitted, tmp_path):
    _, posterior = fitted
    file = tmp_path / "posterior.nc"
    posterior.save(file, default=True)
    back = load_posterior(file, default=True)
    np.testing.assert_array_equal(back.values, posterior.values)
    np.testing.assert_allclose(back.by_study, posterior.by_study, rtol=1e-6)
    assert back.names == posterior.names
    assert back.record == posterior.record


def test_a_thinned_posterior_is_a_fair_and_smaller_sample(fitted, tmp_path):
    _, posterior = fitted
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
    _, posterior = sampled(DATA, 8, problems=("R-hat of mean is 1.4",))
    assert not posterior.converged
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


def plan_of(table):
    return EvidenceLikelihood(table, switches=Switches(memory=1.0))


def test_predictions_of_rows_are_calibrated_on_the_truth(table_file, stand_in, truth):
    like = plan_of(load_evidence(table_file()))
    found = predict_table(
        like, lambda seed: stand_in(like.arms, 256, seed), [truth] * 20, repeats=10
    )
    checks = found.checks()
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


@pytest.mark.slow
def test_left_out_predictions_use_the_other_studies(table_file, stand_in, truth):
    """Weights that leave study B out take the draws that it had favoured away from it."""
    like = plan_of(load_evidence(table_file()))
    rng = np.random.default_rng(2)
    z = rng.standard_normal((1, 60, 1))
    prior = Prior(
        [Parameter("kill", 3.3, "1", interval=(2.0, 5.0), distribution="lognormal")],
        fixed={k: v for k, v in truth.items() if k != "kill"},
    )
    by_study = np.zeros((1, 60, len(like.studies)))
    # B draws the kill up: without it low kills count more
    by_study[..., like.studies.index("B")] = 0.8 * z[..., 0]
    posterior = EvidencePosterior(
        names=prior.names, values=prior.values(z), z=z, by_study=by_study,
        by_term=np.zeros((1, 60, len(like.terms))), studies=like.studies,
        terms=tuple("+".join(row.id for row in term.rows) for term in like.terms),
        fixed=prior.fixed, problems=(),
    )  # fmt: skip
    left_out = leave_studies_out(posterior, like, limit=np.inf)
    assert len(left_out) == 5

    def make(seed):
        return stand_in(like.arms, 256, seed)

    inside = predict_table(like, make, posterior.draws(60, 1), repeats=5).checks()
    outside = left_out_checks(posterior, like, make, left_out, draws=60, repeats=5)
    assert [c.row.id for c in inside] == [c.row.id for c in outside]
    medians = [{c.row.id: c.median for c in checks}["B.cr_rate"] for checks in (inside, outside)]
    assert medians[1] < medians[0] - 0.02
    # a study sampled anew is predicted from its own posterior
    low = replace(posterior, values=np.full((1, 60, 1), 1.0))
    again = [replace(s, without=low) if s.study == "B" else s for s in left_out]
    refitted = left_out_checks(posterior, like, make, again, draws=60, repeats=5)
    assert {c.row.id: c.median for c in refitted}["B.cr_rate"] < 0.1


def test_no_row_covers_nothing():
    """Rows of tolerated doses alone have no interval: a division by zero before."""
    assert coverage_table(()).splitlines()[1:] == [f"{'all':22} {0:5d} {0:7d}    nan"]
