"""The likelihood of a table: study deviations, shared readings, Monte Carlo error."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, norm

from pkpd.errors import DataError, PkpdError
from pkpd.evidence.criticism.calibration import with_rows
from pkpd.evidence.likelihood.random_effects import StudyEffect, StudyEffects
from pkpd.evidence.likelihood.replicate import replicate
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.likelihood.use import Switches
from pkpd.evidence.table.arms import SimulatedArm, arms_of, pooled
from pkpd.evidence.table.endpoints import Observable
from pkpd.evidence.table.table import EvidenceTable, load_evidence

EFFECTS = StudyEffects((StudyEffect("regrowth", ("regrowth.sd",), "ratio", 9),))
ALL = Switches(memory=1.0)


def likelihood(table, stand_in, n=512, effects=EFFECTS, seed=1):
    bare = EvidenceLikelihood(table, lambda theta: {}, effects, ALL)
    return EvidenceLikelihood(table, stand_in(bare.arms, n, seed), effects, ALL)


def test_weighted_patients_are_those_of_a_study_with_that_deviation(table_file, stand_in, truth):
    table = load_evidence(table_file())
    arms = arms_of(table)
    key = table.row("A.cr_rate").arm
    simulator = stand_in(arms, 32_768)
    arm = simulator.arm(key, EFFECTS.for_simulation(truth))
    weights, size = EFFECTS.weights(truth, arm.weight, arm.scores)
    what = Observable("recovery_day", "neutrophils", (0.5,), among="responders")
    day = arm.observe(what)
    grid = EFFECTS.grid(truth)
    for index in (1, 4, 6):
        b = grid.deviations[index, 0]
        # simulated anew: deviation b sigma of the whole study, sigma between its patients
        shifted = truth | {"regrowth": truth["regrowth"] * np.exp(truth["regrowth.sd"] * b)}
        direct = simulator.arm(key, shifted).observe(what)
        seen = np.isfinite(day)
        mean = np.average(day[seen], weights=weights[index, seen])
        error = np.nanstd(direct) * (1 / np.sqrt(size[index]) + 1 / np.sqrt(32_768))
        assert mean == pytest.approx(np.nanmean(direct), abs=4 * error)
    assert size[4] > 0.8 * 32_768


def test_study_is_integrated_over_its_deviation(table_file, stand_in, truth):
    # one study with two counts that share the deviation; each direct simulation has many patients
    rows = (
        "A,aml,cytarabine:100 mg/m2:CI:1-7,60,dlt_delayed_recovery_d30,,,,,9,60,READ",
        "A,aml,cytarabine:150 mg/m2:CI:1-7,60,dlt_delayed_recovery_d30,,,,,14,60,READ",
    )
    table = load_evidence(table_file(*rows))
    ours = likelihood(table, stand_in, n=32_768)
    got = ours(truth).total
    arms = arms_of(table)
    simulator = stand_in(arms, 32_768)
    readings = ours.terms[0].readings
    fine = np.linspace(-5, 5, 101) * truth["ratio"]
    total = 0.0
    for b in fine:
        shifted = truth | {"regrowth": truth["regrowth"] * np.exp(truth["regrowth.sd"] * b)}
        by_reading = 0.0
        for index, reading in enumerate(readings):
            value = np.exp(reading.log_probability)
            for term in ours.terms:
                what = term.readings[index].observables[0]
                event = simulator.arm(term.rows[0].arm, shifted).observe(what)
                p = np.nanmean(event)
                value *= binom.pmf(term.rows[0].numerator, 60, np.clip(p, 1e-5, 1 - 1e-5))
            by_reading += value
        density = norm.pdf(b, 0, truth["ratio"]) * (fine[1] - fine[0])
        total += density * by_reading
    # grid cut at 2.6 SDs, Monte Carlo error of 32,768 weighted patients
    assert got == pytest.approx(np.log(total), abs=0.05)


def test_total_is_the_sum_over_studies_and_order_does_not_matter(table_file, stand_in, truth):
    table = load_evidence(table_file())
    ours = likelihood(table, stand_in)
    answer = ours(truth)
    assert np.isfinite(answer.total)
    assert answer.by_study.sum() == pytest.approx(answer.total, rel=1e-12)
    assert answer.by_term.shape == (len(ours.terms),)
    turned = EvidenceTable(table.rows[::-1], table.file)
    back = EvidenceLikelihood(turned, ours.simulate, EFFECTS, ALL)(truth)
    assert back.total == pytest.approx(answer.total, rel=1e-12)


def test_monte_carlo_error_is_of_the_size_allowed_for(table_file, stand_in, truth):
    # a table that the truth could have published
    many = likelihood(load_evidence(table_file()), stand_in, n=16_384)
    seen = many.simulate(EFFECTS.for_simulation(truth))
    drawn = replicate(many, truth, seen, np.random.default_rng(6))
    table = with_rows(many, drawn).table
    exact = with_rows(many, drawn).evaluate(truth, seen).total
    values = [likelihood(table, stand_in, n=512, seed=s)(truth).total for s in range(12)]
    # five studies of up to 200 patients against 512 simulated ones
    assert np.std(values) < 1.2
    assert np.mean(values) == pytest.approx(exact, abs=1.5)


def test_power_scales_a_study(table_file, stand_in, truth):
    table = load_evidence(table_file())
    effects = StudyEffects()
    bare = EvidenceLikelihood(table, lambda theta: {}, effects, ALL)
    simulate = stand_in(bare.arms, 256)
    whole = EvidenceLikelihood(table, simulate, effects, ALL)(truth)
    half = EvidenceLikelihood(table, simulate, effects, Switches(memory=0.5))(truth)
    studies = list(bare.studies)
    place = studies.index("E")
    assert half.by_study[place] == pytest.approx(0.5 * whole.by_study[place])
    np.testing.assert_allclose(np.delete(half.by_study, place), np.delete(whole.by_study, place))


def test_unknown_reading_is_learned_from_the_study(table_file, stand_in, truth):
    table = load_evidence(
        table_file("D,aml_rr,clofarabine:40 mg/m2:IV1h:1-5,60,anc_recovery_day_median,22,,,,,,READ")
    )
    ours = likelihood(table, stand_in)
    seen = ours.simulate(EFFECTS.for_simulation(truth))
    probabilities = ours.reading_probabilities(truth, seen)
    assert sum(probabilities.values()) == pytest.approx(1.0)
    # recovery to 0.5 is on day 22 in the stand-in, to 1.0 four days later
    assert probabilities["D", "anc back at 0.5"] > 0.9


def test_dose_levels_are_pooled_by_share(table_file, stand_in, truth):
    table = load_evidence(table_file())
    key = table.row("D.dlt_delayed_recovery_d30").arm
    arm = stand_in(arms_of(table), 128).arm(key, truth)
    assert arm.weight.size == 256
    assert arm.weight.sum() == pytest.approx(1.0)
    one = SimulatedArm(np.ones(2), lambda what: np.ones(2))
    assert pooled([(1.0, one)]) is one


def test_missing_arm_and_missing_score_are_refused(table_file, stand_in, truth):
    table = load_evidence(table_file())
    with pytest.raises(DataError, match="the simulator did not return it"):
        EvidenceLikelihood(table, lambda theta: {}, EFFECTS, ALL)(truth)
    other = StudyEffects((StudyEffect("clearance", ("regrowth.sd",), "ratio"),))
    with pytest.raises(PkpdError, match="study effect clearance: the simulated patients have no"):
        likelihood(table, stand_in, effects=other)(truth)


def test_likelihood_without_simulator_says_so(table_file, stand_in, truth):
    plan = EvidenceLikelihood(load_evidence(table_file()), effects=EFFECTS, switches=ALL)
    with pytest.raises(DataError, match="it has no simulator; complete it by with_simulator"):
        plan(truth)
    whole = plan.with_simulator(stand_in(plan.arms, 64))
    assert np.isfinite(whole(truth).total)


def test_table_without_likelihood_is_refused(table_file, stand_in):
    rows = load_evidence(table_file()).rows
    table = EvidenceTable(tuple(replace(row, unused="no") for row in rows), "mine")
    with pytest.raises(DataError, match="mine: no row has a likelihood"):
        EvidenceLikelihood(table, lambda theta: {})
