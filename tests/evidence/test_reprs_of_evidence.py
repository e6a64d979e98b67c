"""What tables, posteriors and learned sources print: a few lines with what matters."""

import numpy as np
import pytest

import pkpd
from pkpd.evidence import EvidencePosterior, load_learning_table, shipped_posterior
from pkpd.evidence.posterior.learning import Learned
from pkpd.evidence.sampling.simulations import Simulations
from pkpd.evidence.updating.reweight import Reweighted, reweight


def _posterior(**changes):
    rng = np.random.default_rng(1)
    names = tuple(f"p{i}" for i in range(60))
    values = rng.normal(size=(2, 100, 60))
    by = rng.normal(size=(2, 100, 3)) * 0.1
    studies = ("A", "B", "C")
    facts = {"problems": (), "record": {"variant": "ten_stages"}, **changes}
    return EvidencePosterior(names, values, values, by, by, studies, studies, {}, **facts)


def test_the_learning_table_tells_its_size_in_a_line():
    shown = repr(load_learning_table())
    assert len(shown) < 200
    assert "493 rows" in shown
    assert "studies" in shown


def test_a_posterior_tells_sizes_and_whether_it_converged():
    assert repr(_posterior()) == (
        "EvidencePosterior(ten_stages: 2 runs of 100 draws, 60 parameters, 3 studies, 3 terms, "
        "converged)"
    )
    assert "NOT CONVERGED (rhat 1.2)" in repr(_posterior(problems=("rhat 1.2", "ess")))
    weights = np.full((2, 100), 0.5 / 199)
    weights[0, 0] = 1 - weights.ravel()[1:].sum()
    assert "of which 4 count" in repr(_posterior(weights=weights))
    shipped = shipped_posterior()
    assert shipped is not None
    assert len(repr(shipped)) < 200


def test_a_reweighted_posterior_tells_khat_draws_and_shifts():
    found = reweight(_posterior(), removed=["A"])
    shown = repr(found)
    assert f"Pareto k-hat {found.khat:.2f}, {found.ess:.0f} of 200 draws count" in shown
    most = max(found.shift, key=lambda name: abs(found.shift[name]))
    assert f"{most} {found.shift[most]:+.2f}" in shown
    assert "57 less" in shown
    assert len(shown) < 400
    assert "0 of 200 draws" in repr(Reweighted(found.posterior, 0.1, 0.2, {}))


def test_what_was_learned_tells_posterior_and_simulations():
    few = np.zeros((7, 4))
    made = Simulations(few, few, few, np.zeros((7, 2, 4)), few)
    assert repr(made) == "Simulations(7 sets of 4 parameters: 4 shares, 2 distributions of days)"
    learned = Learned(_posterior(), None, None, made, np.array([[0.0, 2.0], [0.0, 0.0]]))
    assert "from 7 simulations; error of the emulator 0.50" in repr(learned)


@pytest.mark.parametrize("marrow", ["leukaemia", "friberg"])
def test_a_source_tells_marrow_and_sizes(marrow):
    draws = 3
    shown = repr(pkpd.source("rr_aml", marrow=marrow, patients=5, draws=draws))
    assert "3 draws times 5 patients, lines neutrophils, platelets" in shown
    assert len(shown) < 200
