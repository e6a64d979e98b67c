"""The likelihood of a table through a simulator: totals, studies, terms, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import betabinom, norm

from pkpd.errors import DataError
from pkpd.evidence.likelihood.total import EvidenceLikelihood, only_studies
from pkpd.evidence.likelihood.use import Switches
from pkpd.evidence.table.arms import SimulatedArm, arms_of, pooled
from pkpd.evidence.table.table import EvidenceTable, load_evidence

ALL = Switches(memory=1.0)


def likelihood(table, stand_in, n=512, seed=1, switches=ALL):
    bare = EvidenceLikelihood(table, switches=switches)
    return bare.with_simulator(stand_in(bare.arms, n, seed))


def test_study_is_integrated_over_its_offset(table_file, stand_in, truth):
    """Two arms of a study share one offset, one definition and nothing else."""
    rows = (
        "A,aml,cytarabine:100 mg/m2:CI:1-7,60,cr_rate,,,,,51,60,READ",
        "A,aml,cytarabine:150 mg/m2:CI:1-7,60,cr_rate,,,,,54,60,READ",
    )
    ours = likelihood(load_evidence(table_file(*rows)), stand_in, n=4096)
    seen = ours.simulate(truth)
    size = 1.0 / (truth["discrepancy"] + 1e-5)

    def at(b):
        value = norm.pdf(b, 0.0, truth["between.response"])
        for term in ours.terms:
            row = term.rows[0]
            p = seen[row.arm].observe(term.readings[0].observables[0]).mean()
            # as summaries are put on the scale of an emulator: half a patient added
            p = expit(logit((p * 4096 + 0.5) / 4097) + b)
            value *= betabinom.pmf(row.numerator, 60, p * size, (1 - p) * size)
        return value

    exact = np.log(quad(at, -3.0, 3.0, epsabs=1e-14)[0])
    assert ours(truth).total == pytest.approx(exact, abs=2e-4)  # the grid ends at 4 SDs


@pytest.mark.slow
def test_total_is_the_sum_over_studies_and_order_does_not_matter(table_file, stand_in, truth):
    table = load_evidence(table_file())
    ours = likelihood(table, stand_in)
    answer = ours(truth)
    assert np.isfinite(answer.total)
    assert answer.by_study.sum() == pytest.approx(answer.total, rel=1e-12)
    assert answer.by_term.shape == (len(ours.terms),)
    turned = EvidenceTable(table.rows[::-1], table.file)
    back = EvidenceLikelihood(turned, ours.simulate, ALL)(truth)
    assert back.total == pytest.approx(answer.total, rel=1e-12)
    one = only_studies(ours, ("A",)).with_simulator(ours.simulate)(truth)
    assert one.total == pytest.approx(answer.by_study[ours.studies.index("A")], rel=1e-12)


@pytest.mark.slow
def test_a_term_by_itself_is_that_of_a_study_of_its_own(table_file, stand_in, truth):
    table = load_evidence(table_file())
    ours = likelihood(table, stand_in)
    answer = ours(truth)
    for place, term in enumerate(ours.terms):
        rows = tuple(replace(row, study=f"own {place}") for row in term.rows)
        alone = EvidenceLikelihood(EvidenceTable(rows, "own"), ours.simulate, ALL)
        assert alone(truth).total == pytest.approx(answer.by_term[place], rel=1e-10)


def test_doubtful_rows_tell_less(table_file, stand_in, truth):
    table = load_evidence(table_file())
    whole = likelihood(table, stand_in)
    half = likelihood(table, stand_in, switches=Switches(memory=0.5))
    place = list(whole.studies).index("E")
    far = {**truth, "hazard": 0.05}
    lost = [one(truth).by_study - one(far).by_study for one in (whole, half)]
    assert 0.0 < lost[1][place] < lost[0][place]
    np.testing.assert_allclose(np.delete(lost[1], place), np.delete(lost[0], place))
    assert "E" not in likelihood(table, stand_in, switches=Switches()).studies


def test_dose_levels_are_pooled_by_share(table_file, stand_in, truth):
    table = load_evidence(table_file())
    key = table.row("D.dlt_delayed_recovery_d30").arm
    arm = stand_in(arms_of(table), 128).arm(key, truth)
    assert arm.weight.size == 256
    assert arm.weight.sum() == pytest.approx(1.0)
    one = SimulatedArm(np.ones(2), lambda what: np.ones(2))
    assert pooled([(1.0, one)]) is one


def test_missing_arm_is_refused(table_file, truth):
    table = load_evidence(table_file())
    with pytest.raises(DataError, match="the simulator did not return it"):
        EvidenceLikelihood(table, lambda theta: {}, ALL)(truth)


def test_an_arm_where_nobody_recovers_is_impossible_for_its_days(table_file, stand_in, truth):
    ours = likelihood(load_evidence(table_file()), stand_in)
    nobody = {**truth, "kill": 0.1, "kill.sd": 0.1}
    answer = ours(nobody)
    assert answer.total == -np.inf
    assert np.isfinite(answer.by_study[list(ours.studies).index("B")])


def test_likelihood_without_simulator_says_so(table_file, stand_in, truth):
    plan = EvidenceLikelihood(load_evidence(table_file()), switches=ALL)
    with pytest.raises(DataError, match="it has no simulator; complete it by with_simulator"):
        plan(truth)
    whole = plan.with_simulator(stand_in(plan.arms, 64))
    assert np.isfinite(whole(truth).total)


def test_table_without_likelihood_is_refused(table_file):
    rows = load_evidence(table_file()).rows
    table = EvidenceTable(tuple(replace(row, unused="no") for row in rows), "mine")
    with pytest.raises(DataError, match="mine: no row has a likelihood"):
        EvidenceLikelihood(table)
