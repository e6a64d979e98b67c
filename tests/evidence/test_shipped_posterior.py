"""The posterior that ships: fit to be the default, learned from the table that ships with it."""

from pathlib import Path

import numpy as np
import pytest
from judging.scorecard import of_one_arm
from plans import SHIPPED
from scipy.stats import binom

from pkpd.evidence.likelihood.parameters import marrow_prior
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.likelihood.use import how_used
from pkpd.evidence.posterior.stored import evidence_hash, load_posterior
from pkpd.evidence.sampling.chains_checked import ChainLimits
from pkpd.evidence.table.learning import load_learning_table
from pkpd.evidence.table.table import load_evidence
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.schedule import Course, DoseRule, Regimen

FILE = Path(__file__).parents[2] / "models" / "evidence" / "posterior.nc"

M2 = "mg/m^2"
MEC = (
    ("mitoxantrone", 8, M2, range(4, 9), 0.5),
    ("etoposide", 80, M2, range(4, 9), 1.0),
    ("cytarabine", 1000, M2, range(4, 9), 1.0),
)
ARMS = {
    "len_mec": ("aml_relapsed", (("lenalidomide", 50, "mg", range(1, 15), 0.0), *MEC)),
    "seven_three": (
        "aml",
        (
            ("daunorubicin", 60, M2, range(1, 4), 0.5),
            ("cytarabine", 100, M2, range(1, 8), 24.0),
        ),
    ),
    "clofarabine": ("aml_unfit", (("clofarabine", 30, M2, range(1, 6), 1.0),)),
    "lenalidomide": ("mds_del5q", (("lenalidomide", 10, "mg", range(1, 22), 0.0),)),
}
COUNTS = {
    "len_mec": (-1.8133935028, 1.6868486884),
    "seven_three": (-0.7579905488, 2.4768541435),
    "clofarabine": (-1.0471305522, 1.8500180142),
    "lenalidomide": (0.6305338642, 4.6603359396),
}


def regimen(*doses):
    rules = tuple(
        DoseRule(
            drug=drug,
            amount=amount,
            unit=unit,
            days=tuple(days),
            route="oral" if drug == "lenalidomide" else "iv",
            duration_h=hours,
        )
        for drug, amount, unit, days, hours in doses
    )
    return Regimen((Course("c", rules, max(max(rule.days) for rule in rules)),))


def test_it_converged_and_belongs_to_the_table_and_the_cards():
    posterior = load_posterior(FILE, default=True)
    assert posterior.structure == SHIPPED  # what the scripts learn unless they are told another
    prior = marrow_prior(variant=posterior.structure)
    assert posterior.record["evidence"] == evidence_hash(EvidenceLikelihood(load_learning_table()))
    assert posterior.names == prior.names
    limits = ChainLimits()
    assert max(posterior.record["rhat"].values()) <= limits.rhat
    assert min(posterior.record["ess"].values()) >= limits.ess
    assert posterior.record["divergent"] <= limits.divergent
    # scores and values are two forms of the same draws under the priors of today's cards
    np.testing.assert_allclose(prior.values(posterior.z), posterior.values, rtol=1e-9)
    then = {name: prior.fixed.get(name) for name in posterior.fixed}
    assert dict(posterior.fixed) == pytest.approx(then, nan_ok=True)
    # drugs and diseases whose cards came later are of no row; their numbers are the cards'
    later = (set(leukaemia_cards(posterior.structure).theta) | set(prior.names)) - set(
        posterior.draws(1)[0]
    )
    assert {name.rsplit(".", 1)[-1] for name in later} <= {"graft", "emptied"}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_counts_are_those_of_the_day_it_was_learned(name):
    """Means over 64 patients and all mornings."""
    disease, doses = ARMS[name]
    schedule = ArmSchedule(regimen(*doses), horizon_days=60)
    posterior = load_posterior(FILE)
    theta = {**leukaemia_cards(posterior.structure).theta, **posterior.draws(3, 1)[0]}
    arm = Arm("x", schedule, disease)
    course = population_outcomes(arm, theta, 64, seed=3, variant=posterior.variant).course
    for line, printed in zip(("neutrophils", "platelets"), COUNTS[name], strict=True):
        mean = np.log(np.maximum(course.mornings[line], 1e-6)).mean()
        assert mean == pytest.approx(printed, abs=2e-9)


def test_unseen_rows_are_of_other_studies_and_the_record_says_how_they_were_predicted():
    posterior = load_posterior(FILE)
    tables = [load_evidence(FILE.with_name(f"{n}_outcomes.csv")) for n in ("later", "unseen")]
    for table in tables:
        assert not set(posterior.studies) & set(table.studies)
    rows = [use.row for use in how_used(tables[1]) if use.kind and of_one_arm(use.row)]
    tested = posterior.record["tested"]
    assert (tested["rows"], tested["studies"]) == (len(rows), len({row.study for row in rows}))
    # as many as 90 % intervals may hold of so many rows
    least, most = binom.ppf([0.025, 0.975], tested["rows"], 0.9)
    assert least <= tested["inside"] <= most
