"""Small comparisons, run once for all tests of this folder."""

from __future__ import annotations

import pytest

from pkpd.comparison.run import compare

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


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Folder with a trial file, for scenario files beside it."""
    place = tmp_path_factory.mktemp("scenarios")
    (place / "mine.toml").write_text(MINE.format(horizon=60))
    return place


@pytest.fixture(scope="session")
def mine(folder):
    """Result of the trial file, 20 patients x 4 draws."""
    return compare(folder / "mine.toml", patients=20, draws=4)


@pytest.fixture(scope="session")
def five():
    """Result of the default comparison, 20 patients x 4 draws."""
    return compare(patients=20, draws=4)
