"""What checks give prints in a line or two, whatever arrays it holds."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from conjugate import data, model

from pkpd.fitting.checks.all_checks import Checks, check
from pkpd.fitting.draws import Draws
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values


def sampled():
    rng = np.random.default_rng(1)
    names = start_values(model())
    population = {name: np.abs(rng.normal(1.0, 0.1, 60)) for name in names}
    return Draws(bind(model(), data()), population, rng.normal(size=(60, 6, 1)))


def test_checks_and_their_parts_print_shortly():
    found = check(sampled(), replicates=20, quick=True)
    assert repr(found).startswith("Checks(Draws(60 draws, 6 subjects): ")
    assert "summary()" in str(found)
    parts = [name for name, one in vars(Checks).items() if isinstance(one, cached_property)]
    for name in sorted(set(parts) - {"table", "record", "problems", "remarks", "prior_counts"}):
        assert len(repr(getattr(found, name))) < 400, name
    assert repr(found.simulations) == "Simulations(20 replicates of 24 observations)"
    assert repr(found.vpc.panels[0]).startswith("VPCPanel(height: ")
