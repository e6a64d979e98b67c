"""Prior, posterior without a trial's own rows, and posterior, side by side."""

from dataclasses import replace

import numpy as np
import pytest

from pkpd.cards import load_trial
from pkpd.comparison.shares import CohortShares
from pkpd.comparison.what_it_rests_on import OwnRows, own_rows, weighted, what_it_rests_on
from pkpd.evidence.posterior.stored import EvidencePosterior

TRIAL = load_trial("nct01681537_len_mec")


def posterior(pull, n=4000):
    """Draws of x after data that count as ``exp(pull x)``, by a trial of its own, about N(0, 1)."""
    z = np.random.default_rng(1).standard_normal((2, n // 2, 1)) + pull
    by_study = np.concatenate([pull * z, np.zeros_like(z)], axis=-1)
    return EvidencePosterior(
        names=("x",), values=z, z=z, by_study=by_study, by_term=by_study,
        studies=("DEANGELO2018", "OTHER"), terms=("a", "b"), fixed={}, problems=(),
    )  # fmt: skip


def shares(risk):
    return {
        cohort.id: CohortShares(np.zeros((2, 4, 4, risk.size)), risk + 0.01 * place, {})
        for place, cohort in enumerate(TRIAL.cohorts)
    }


def risks(risk):
    return {name: one.dlt for name, one in shares(risk).items()}


def test_weights_take_the_trial_s_own_rows_out():
    found = posterior(0.7)
    own = own_rows(found, TRIAL, 2000, 3)
    assert own.studies == ("DEANGELO2018",)
    assert own.trusted
    x = np.array([d["x"] for d in found.draws(2000, 3)])
    # without exp(0.7 x), N(0.7, 1) is the standard normal distribution again
    assert own.weights @ x == pytest.approx(0.0, abs=0.1)
    assert own.weights @ x**2 == pytest.approx(1.0, abs=0.2)
    told = weighted(x, own.weights)
    assert (told.lower, told.value, told.upper) == pytest.approx((-1.645, 0.0, 1.645), abs=0.25)
    assert not own_rows(posterior(6.0), TRIAL, 500, 3).trusted
    unseen = own_rows(found, replace(TRIAL, evidence_studies=()), 500, 3)
    assert unseen.studies == ()
    np.testing.assert_allclose(unseen.weights, 1 / 500)


def test_three_ensembles_stand_side_by_side():
    after, before = np.linspace(0.1, 0.3, 200), np.linspace(0.0, 0.9, 50)
    weights = np.where(np.arange(200) < 100, 1.0, 0.0) / 100
    own = OwnRows(("DEANGELO2018",), weights, 0.3)
    found = what_it_rests_on(TRIAL, shares(after), risks(before), own, {"14d-10": "2/6"})
    assert found.columns == ("cohort", "prior", "without its own rows", "posterior", "printed")
    assert len(found.rows) == len(TRIAL.cohorts)
    cohort, prior, without, posterior_, printed = found.rows[0]
    assert (cohort, printed) == ("14d-10", "2/6")
    assert prior.value == pytest.approx(0.45, abs=0.02)
    assert without.value == pytest.approx(0.15, abs=0.005)
    assert posterior_.value == pytest.approx(0.2, abs=0.005)
    first, second = found.answer
    assert "DEANGELO2018" in first
    assert "100 draws of weight" in first
    points = len(TRIAL.cohorts) - 1
    assert f"{points} points in the median draw of the prior" in second
    # weights that cannot be trusted are said to be so, and nothing is called prediction
    far = what_it_rests_on(TRIAL, shares(after), risks(before), replace(own, khat=0.9), {})
    assert "without its own rows" not in far.columns
    assert "no test" in far.answer[0]
    unseen = what_it_rests_on(TRIAL, shares(after), risks(before), OwnRows((), weights), {})
    assert "the posterior predicts it" in unseen.answer[0]
    nobody = np.full(200, np.nan)
    assert what_it_rests_on(TRIAL, shares(nobody), risks(nobody), own, {}) is None
