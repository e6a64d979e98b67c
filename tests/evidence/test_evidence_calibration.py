"""Replicates against the likelihood, and simulation-based calibration on the stand-in."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from pkpd.evidence.criticism.calibration import simulation_based_calibration, with_rows
from pkpd.evidence.likelihood.order_statistics import Sample, order_log_likelihood
from pkpd.evidence.likelihood.prior import HalfNormal, Prior
from pkpd.evidence.likelihood.random_effects import StudyEffect, StudyEffects
from pkpd.evidence.likelihood.replicate import replicate, urn
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.likelihood.use import Switches
from pkpd.evidence.sampling.smc import SMCSettings
from pkpd.evidence.table.table import load_evidence
from pkpd.units import Parameter

PRIOR = Prior(
    [
        Parameter("regrowth", 1.0, "1", interval=(0.6, 1.7), distribution="lognormal"),
        Parameter("kill", 3.3, "1", interval=(2.0, 5.0), distribution="lognormal"),
        Parameter("hazard", 0.004, "1/day", interval=(0.001, 0.02), distribution="lognormal"),
        HalfNormal("ratio", 0.8),
    ],
    fixed={"regrowth.sd": 0.35, "kill.sd": 1.2},
)


#: A row of every kind of likelihood, of patients of whom two thirds to few recover.
ALL_KINDS = (
    "A,aml,cytarabine:100 mg/m2:CI:1-7,,181,anc500_recovery_day_median,24,15,44,range,,,READ",
    "A,aml,cytarabine:100 mg/m2:CI:1-7,,181,plt100_recovery_day_median,24,,,,,,READ",
    "A,aml,cytarabine:100 mg/m2:CI:1-7,,200,cr_rate,,,,,120,200,READ",
    "A,aml,cytarabine:100 mg/m2:CI:1-7,,200,day30_mortality,,,,,18,200,READ",
    "B,aml_rr,clofarabine:20 mg/m2:IV1h:1-5,,60,anc_recovery_day_median,24,20,30,iqr,,,READ",
    "B,aml_rr,clofarabine:20 mg/m2:IV1h:1-5,,60,anc500_recovery_day_mean,24,,,,,,READ",
    "C,aml_rr,clofarabine:10 mg/m2:IV1h:1-5,clofarabine:30 mg/m2:IV1h:1-5,40,"
    "anc_recovery_diff_d,-5,-8,-2,ci95,,,READ",
    "D,aml_rr,clofarabine:10|20 mg/m2:IV1h:1-5,,25,dlt_delayed_recovery_d30,,,,,3,25,READ",
    "E,solid,clofarabine:2 mg/m2:IV1h:1-5,clofarabine:40 mg/m2:IV1h:1-5,9,mtd_mgm2,2,,,,,,READ",
)
KINDS_HEADER = (
    "study,population,schedule,other_schedule,n,endpoint,value,lower,upper,limits,numerator,"
    "denominator,mark"
)


def make(table_file, stand_in, n=256, file=None, nodes=7):
    table = load_evidence(file or table_file())
    effects = StudyEffects((StudyEffect("regrowth", ("regrowth.sd",), "ratio", nodes),))
    bare = EvidenceLikelihood(table, lambda theta: {}, effects, Switches(memory=1.0))
    return EvidenceLikelihood(table, stand_in(bare.arms, n), effects, Switches(memory=1.0))


def test_urn_follows_the_order_statistics_of_the_likelihood():
    rng = np.random.default_rng(1)
    sample = Sample(
        np.array([20.0, 24.0, 30.0]), np.array([[0.5, 0.3, 0.2]]), np.array([15.0]), 1.0, (0, 60)
    )
    n = 5
    draws = np.round(np.sort([urn(sample, n, rng) for _ in range(20_000)], axis=1))
    for low, mid, high in ((19, 21, 30), (20, 20, 24), (21, 24, 31)):
        hit = (draws[:, 0] == low) & (draws[:, 2] == mid) & (draws[:, 4] == high)
        cells = [(v - 0.5, v + 0.5) for v in (low, mid, high)]
        p = np.exp(order_log_likelihood(sample, n, cells[1], (cells[0], cells[2]))[0])
        assert hit.mean() == pytest.approx(p, abs=4 * np.sqrt(p / 20_000))


def test_replicates_have_the_probabilities_of_the_likelihood(table_file, stand_in, truth):
    like = make(table_file, stand_in, 128)
    seen = like.simulate(like.effects.for_simulation(truth))
    rng = np.random.default_rng(2)
    drawn = [replicate(like, truth, seen, rng)["B.cr_rate"].numerator for _ in range(1500)]
    for k in (5, 10, 16, 25):
        row = replicate(like, truth, seen, rng)["B.cr_rate"]
        term = next(i for i, t in enumerate(like.terms) if t.rows[0].id == "B.cr_rate")
        own = with_rows(like, {"B.cr_rate": replace(row, numerator=k, value=k / 62)})
        p = np.exp(own.evaluate(truth, seen).by_term[term])
        # grid of seven deviations in the likelihood, continuous ones in the replicates
        assert np.mean(np.array(drawn) == k) == pytest.approx(p, abs=4 * np.sqrt(p / 1500) + 2e-3)


def test_likelihood_ratios_of_replicates_average_to_one(table_file, stand_in, truth):
    """E[p(y | other) / p(y | truth)] over y from the truth is 1 for every likelihood of y.

    It finds a number drawn otherwise than it is scored: a part of the likelihood that no drawn
    number answers for (such as a penalty), or a drawn number that the likelihood does not read.
    """
    file = table_file(*ALL_KINDS, header=KINDS_HEADER)
    like = make(table_file, stand_in, 128, file, nodes=15)
    kinds = {term.kind for term in like.terms}
    assert kinds >= {"median", "median and range", "quartiles", "mean", "difference"}
    assert kinds >= {"beta-binomial", "Dirichlet-multinomial", "tolerated dose"}
    others = [{**truth, name: truth[name] * by} for name, by in (("regrowth", 1.1), ("kill", 1.2))]
    others += [{**truth, "hazard": 0.006}, {**truth, "kill": 2.8}]
    every = [truth, *others]
    seen = [like.simulate(like.effects.for_simulation(theta)) for theta in every]
    rng = np.random.default_rng(11)
    logs = []
    for _ in range(300):
        own = with_rows(like, replicate(like, truth, seen[0], rng))
        logs.append([own.evaluate(t, s).by_term for t, s in zip(every, seen, strict=True)])
    ratio = np.exp(np.array(logs)[:, 1:] - np.array(logs)[:, :1])
    off, error = ratio.mean(axis=0) - 1.0, ratio.std(axis=0) / np.sqrt(len(ratio))
    # the grid of deviations has an error of its own
    assert np.all(np.abs(off) < 4.5 * error + 0.01), [t.kind for t in like.terms]


def test_exclusive_counts_stay_within_the_patients(table_file, stand_in, truth):
    like = make(table_file, stand_in)
    seen = like.simulate(like.effects.for_simulation(truth))
    rng = np.random.default_rng(3)
    for _ in range(50):
        rows = replicate(like, truth, seen, rng)
        assert rows["A.cr_rate"].numerator + rows["A.day30_mortality"].numerator <= 200
        day = rows["A.anc500_recovery_day_median"]
        assert day.lower <= day.value <= day.upper


@pytest.mark.slow
def test_ranks_are_uniform_on_the_stand_in(table_file, stand_in):
    like = make(table_file, stand_in, 64)
    ranks = simulation_based_calibration(
        PRIOR, like, SMCSettings(particles=96, chains=32, final_stages=0), tables=12, draws=31
    )
    # a dozen tables find gross errors only; the slow test has more
    assert min(ranks.p_values(3).values()) > 1e-3
    assert np.all(np.abs(ranks.z_score.mean(axis=0)) < 4 * ranks.z_score.std(axis=0) / np.sqrt(12))
    assert ranks.contraction[:, 1].mean() > 0.3
    assert len(ranks.table().splitlines()) == 6


@pytest.mark.slow
def test_ranks_of_many_tables_are_uniform(table_file, stand_in):
    like = make(table_file, stand_in, 128)
    ranks = simulation_based_calibration(
        PRIOR, like, SMCSettings(particles=256, chains=64, final_stages=1), tables=40, draws=63
    )
    # smallest of five p values
    assert min(ranks.p_values(6).values()) > 0.002
    assert np.all(np.abs(ranks.z_score.std(axis=0) - 1.0) < 0.35)


@pytest.mark.slow
def test_ranks_find_a_wrong_likelihood(table_file, stand_in):
    like = make(table_file, stand_in, 64)

    class Biased(EvidenceLikelihood):
        def evaluate(self, theta, seen):
            shifted = dict(theta) | {"kill": theta["kill"] * 1.6}
            return super().evaluate(theta, self.simulate(self.effects.for_simulation(shifted)))

    wrong = Biased(like.table, like.simulate, like.effects, like.switches)
    import pkpd.evidence.criticism.calibration as module

    original = module.with_rows
    module.with_rows = lambda likelihood, rows: Biased(
        original(likelihood, rows).table, like.simulate, like.effects, like.switches
    )
    try:
        ranks = simulation_based_calibration(
            PRIOR,
            wrong,
            SMCSettings(particles=96, chains=32, final_stages=0),
            tables=12,
            draws=31,
        )
    finally:
        module.with_rows = original
    assert ranks.p_values(3)["kill"] < 1e-3


def test_names_cover_parameters():
    assert list(itertools.islice(PRIOR.names, 2)) == ["regrowth", "kill"]
