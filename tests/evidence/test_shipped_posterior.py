"""The posterior that ships: fit to be the default, learned from the table that ships with it."""

from pathlib import Path

import numpy as np

from pkpd.evidence.likelihood import EvidenceLikelihood
from pkpd.evidence.marrow_prior import marrow_effects, marrow_prior
from pkpd.evidence.posterior import evidence_hash, load_posterior
from pkpd.evidence.table import load_evidence
from pkpd.evidence.use import how_used
from pkpd.leukaemia.parameters import leukaemia_cards

FILE = Path(__file__).parents[2] / "models" / "evidence" / "posterior.nc"


def test_it_converged_and_belongs_to_the_table_and_the_cards():
    posterior = load_posterior(FILE, default=True)
    nodes = posterior.record["plan"]["nodes"]
    now = EvidenceLikelihood(load_evidence(), effects=marrow_effects(tuple(nodes)))
    assert posterior.record["evidence"] == evidence_hash(now)
    prior = marrow_prior()
    assert posterior.names == prior.names
    assert max(posterior.record["rhat"].values()) < 1.05
    assert min(posterior.record["ess"].values()) > 200
    # scores and values are two forms of the same draws under the priors of today's cards
    np.testing.assert_allclose(prior.values(posterior.z), posterior.values, rtol=1e-12)
    assert set(posterior.draws(1)[0]) <= set(leukaemia_cards().theta) | set(prior.names)


def test_later_rows_can_be_read_and_are_none_of_those_learned_from():
    learned = {(r.study, r.endpoint.name, r.schedule.text, r.denominator) for r in load_evidence()}
    later = load_evidence(FILE.with_name("later_outcomes.csv"))
    assert len(later) == 79
    assert len({row.study for row in later}) == 39  # both are told in `what_is_known.md`
    for row in later:
        assert (row.study, row.endpoint.name, row.schedule.text, row.denominator) not in learned


def test_unseen_rows_are_of_other_studies():
    unseen = load_evidence(FILE.with_name("unseen_outcomes.csv"))
    assert all(use.kind for use in how_used(unseen))
    known = {*load_evidence().studies, *load_evidence(FILE.with_name("later_outcomes.csv")).studies}
    assert len(unseen.studies) == 48
    assert not known & set(unseen.studies)
