"""The posterior that ships: fit to be the default, learned from the table that ships with it."""

from pathlib import Path

import numpy as np

from pkpd.evidence.likelihood.parameters import marrow_effects, marrow_prior
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.likelihood.use import how_used
from pkpd.evidence.posterior.stored import evidence_hash, load_posterior
from pkpd.evidence.table.table import load_evidence
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


def test_later_rows_are_of_other_studies_and_the_record_says_how_they_were_predicted():
    posterior = load_posterior(FILE)
    later = load_evidence(FILE.with_name("later_outcomes.csv"))
    used = [use for use in how_used(later) if use.kind]
    assert not set(posterior.studies) & set(later.studies)
    tested = posterior.record["tested"]
    assert (tested["rows"], tested["studies"]) == (len(used), len(later.studies))
    # 90 % intervals are to hold 85 to 95 % of them
    assert 0.85 <= tested["inside"] / tested["rows"] <= 0.95
