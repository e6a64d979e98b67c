"""Small comparisons, run once for all tests of this folder."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from pkpd.comparison import marrow_choice
from pkpd.comparison.run import compare
from pkpd.evidence.likelihood.parameters import marrow_prior
from pkpd.evidence.posterior.stored import EvidencePosterior

MINE = """
title = "Two schedules of lenalidomide"
population = "mds_post_hma"
rule = "leukemia_d42_generic"
rule_is_protocols = false
horizon_days = {horizon}

[dose.lenalidomide]
amount = "10 mg"
days = "1-14"
route = "oral"

[course.treatment]
doses = ["lenalidomide"]
cycle_days = 28

[[cohort]]
id = "10 mg"

[[cohort]]
id = "10 mg again"

[[cohort]]
id = "25 mg"
change.lenalidomide = {{ amount = "25 mg" }}
[[cohort.published]]
endpoint = "dlt_delayed_recovery"
numerator = 1
denominator = 7
source = "made up for this test"
status = "assumed"
"""


@contextmanager
def plain():
    """No posterior is shipped, whether or not there is one: the default marrow is the plain one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marrow_choice, "shipped_posterior", lambda: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_shipped():
    """The same for the tests of this folder, and of no other."""
    with plain():
        yield


def posterior_of_priors(problems=(), draws=20):
    """Draws of the prior as if they were a posterior of two runs."""
    prior = marrow_prior()
    z = prior.draw(2 * draws, np.random.default_rng(3)).reshape(2, draws, -1)
    return EvidencePosterior(
        names=prior.names,
        values=prior.values(z),
        z=z,
        by_study=np.zeros((2, draws, 1)),
        by_term=np.zeros((2, draws, 1)),
        studies=("A2000",),
        terms=("A2000.cr_rate",),
        fixed=prior.fixed,
        problems=tuple(problems),
        record={"written": "2026-01-31T00:00:00+00:00", "evidence": "abc", "rows": 1},
    )


@pytest.fixture(scope="session")
def posterior():
    """Draws of the prior, said to have converged."""
    return posterior_of_priors()


@pytest.fixture(scope="session")
def unconverged():
    """Draws of the prior, said not to have converged."""
    return posterior_of_priors(problems=("R-hat of rho is 2.1",))


@pytest.fixture(scope="session")
def learned_five(unconverged):
    """The five trials in a marrow with leukaemia, 5 patients x 20 draws."""
    return compare(patients=5, draws=20, marrow="leukaemia", posterior=unconverged, jobs=1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Folder with a trial file, for scenario files beside it."""
    place = tmp_path_factory.mktemp("scenarios")
    (place / "mine.toml").write_text(MINE.format(horizon=60))
    return place


@pytest.fixture(scope="session")
def mine(folder):
    """Result of the trial file, 20 patients x 4 draws."""
    with plain():
        return compare(folder / "mine.toml", patients=20, draws=4)


@pytest.fixture(scope="session")
def five():
    """Result of the default comparison, 5 patients x 20 draws."""
    with plain():
        return compare(patients=5, draws=20)
