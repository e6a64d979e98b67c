"""Prior, posterior without a trial's own rows, and posterior, side by side."""

from dataclasses import replace

import numpy as np
import pytest

from pkpd.cards import load_trial
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


def verdicts(risk, patients=100):
    """So many of the patients of a draw have the event, one more in each further cohort."""
    events = np.round(risk * patients)[:, None]
    return {
        cohort.id: (np.arange(patients) < events + place).astype(float)
        for place, cohort in enumerate(TRIAL.cohorts)
    }


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
    few = weighted(x[:19], np.full(19, 1 / 19))
    assert np.isnan([few.lower, few.upper]).all(), "as everywhere of fewer than 20 draws"
    assert not own_rows(posterior(6.0), TRIAL, 500, 3).trusted
    unseen = own_rows(found, replace(TRIAL, evidence_studies=()), 500, 3)
    assert unseen.studies == ()
    np.testing.assert_allclose(unseen.weights, 1 / 500)


def test_rows_that_took_the_place_of_a_trial_s_are_its_own():
    """They are of its patients: "the posterior predicts it" was said of what it had learned."""
    found = posterior(0.7)
    renamed = replace(
        found, studies=("OURS", "OTHER"),
        record={"reweighted": [{"added": ["OURS"], "removed": ["DEANGELO2018"]}]},
    )  # fmt: skip
    assert own_rows(renamed, TRIAL, 500, 3).studies == ("OURS",)
    by_id = replace(TRIAL, evidence_studies=(), id="OTHER")
    assert own_rows(found, by_id, 500, 3).studies == ("OTHER",)
    both = replace(TRIAL, evidence_studies=("DEANGELO2018", "OTHR"))
    assert own_rows(found, both, 500, 3).unknown[0].startswith("OTHR")


def test_three_ensembles_stand_side_by_side():
    after, before = np.linspace(0.1, 0.3, 200), np.linspace(0.0, 0.9, 50)
    weights = np.where(np.arange(200) < 100, 1.0, 0.0) / 100
    own = OwnRows(("DEANGELO2018",), weights, 0.3)
    found = what_it_rests_on(TRIAL, verdicts(after), verdicts(before), own, {"14d-10": "2/6"})
    assert found.columns == (
        "cohort",
        "prior, median",
        "without its own rows, median",
        "posterior, median",
        "published",
    )
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
    far = what_it_rests_on(TRIAL, verdicts(after), verdicts(before), replace(own, khat=0.9), {})
    assert "without its own rows, median" not in far.columns
    assert "no test" in far.answer[0]
    unseen = what_it_rests_on(TRIAL, verdicts(after), verdicts(before), OwnRows((), weights), {})
    assert "the posterior predicts it" in unseen.answer[0]
    nobody = {cohort.id: np.full((200, 100), np.nan) for cohort in TRIAL.cohorts}
    assert what_it_rests_on(TRIAL, nobody, nobody, own, {}) is None
    assert what_it_rests_on(TRIAL, {}, nobody, own, {}) is None


def largest(prior, posterior):
    found = what_it_rests_on(TRIAL, posterior, prior, OwnRows((), np.full(60, 1 / 60)), {})
    return found.answer[-1]


def chance(share, patients=200, draws=60):
    """Verdicts on cohorts alike but for chance, of which each patient is judged with a share."""
    rng = np.random.default_rng(3)
    alike = rng.random((draws, patients)) < 0.2
    judged = rng.random((draws, patients)) < share
    return {
        cohort.id: np.where(judged, alike ^ (rng.random(alike.shape) < 0.01), np.nan)
        for cohort in TRIAL.cohorts
    }


@pytest.mark.parametrize("few", [chance(0.04), chance(1.0, patients=19)])
def test_nothing_is_said_of_the_structure_from_few_patients(few):
    """Of the handful judged in a draw one is 100 points of a single patient."""
    for prior, posterior_ in ((few, chance(0.9)), (chance(0.9), few)):
        told = largest(prior, posterior_)
        assert "cannot be told from so few patients" in told
        assert "points" not in told


def test_the_largest_difference_is_that_of_draws_with_enough_patients():
    many = chance(0.9)
    some = {
        name: np.where(np.arange(60)[:, None] < 20, few, many[name])
        for name, few in chance(0.02).items()
    }
    told = largest(some, many)
    assert "(40 of 60 of the prior, 60 of 60 of the posterior)" in told
    extreme = int(told.split(" in the most extreme")[0].split()[-1])
    assert 0 < extreme <= 6
    # patients who differ at random ask for more of them: 0.32 / 0.05^2 = 128
    apart = np.random.default_rng(5)
    noisy = {c.id: (apart.random((60, 125)) < 0.2).astype(float) for c in TRIAL.cohorts}
    assert "cannot be told" in largest(noisy, many)
