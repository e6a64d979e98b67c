"""The first cycle of a schedule is judged alike whether a second follows or not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pkpd.comparison.run import compare

SCHEDULE = """
title = "clofarabine, then lenalidomide"
population = "rr_aml"
rule = "leukemia_d42_generic"
rule_change = {{ by_day = 34 }}
horizon_days = 77
[dose.clofarabine]
amount = "10 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"
[dose.lenalidomide]
amount = "10 mg"
days = "15-28"
route = "oral"
[dose.placebo]
amount = "1 mg"
days = "7-34"
route = "oral"
[course.c]
doses = ["clofarabine", "lenalidomide"]
cycle_days = 35
cycles = {cycles}
[[cohort]]
id = "10 mg"
[[cohort]]
id = "25 mg"
change.lenalidomide = {{ amount = "25 mg" }}
"""
PLACEBO = """
[[cohort]]
id = "with placebo"
change.c = { doses = ["clofarabine", "lenalidomide", "placebo"] }
"""
KEYS = ["cohort", "endpoint", "line", "rule"]


def table(folder, text: str, **size) -> pd.DataFrame:
    (folder / "mine.toml").write_text(text)
    result = compare(str(folder / "mine.toml"), jobs=1, **size)
    return pd.DataFrame([vars(row) for row in result.trials[0].rows])


@pytest.mark.slow
@pytest.mark.parametrize("marrow", ["friberg", "leukaemia"])
def test_risk_and_recovery_before_the_second_cycle_are_the_same(tmp_path, marrow, posterior):
    size = {"marrow": marrow, "patients": 60, "draws": 4}
    size |= {"posterior": posterior} if marrow == "leukaemia" else {}
    one, two = (table(tmp_path, SCHEDULE.format(cycles=cycles), **size) for cycles in (1, 2))
    both = one.merge(two, on=KEYS, suffixes=("_1", "_2"))
    dlt = both.query("endpoint == 'dlt'")
    assert len(dlt) == 2
    np.testing.assert_array_equal(dlt["estimate_1"], dlt["estimate_2"])
    days = both.query("endpoint == 'recovery_day' and estimate_1 < 35")
    assert len(days) >= 4
    # who is not back when the second cycle begins is not back, and later than the median in both
    np.testing.assert_array_equal(days["estimate_1"], days["estimate_2"])


@pytest.mark.slow
@pytest.mark.parametrize("cycles", [1, 2])
def test_a_placebo_changes_no_number(tmp_path, cycles, posterior):
    text = SCHEDULE.format(cycles=cycles) + PLACEBO
    found = table(tmp_path, text, posterior=posterior, patients=24, draws=2)
    without, given = (
        found.query(f"cohort == '{cohort}'").set_index(KEYS[1:])["estimate"]
        for cohort in ("10 mg", "with placebo")
    )
    np.testing.assert_array_equal(given.loc[without.index], without)
