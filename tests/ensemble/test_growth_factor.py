"""Growth factor by need, in every marrow that has it."""

from __future__ import annotations

import numpy as np
import pytest

import pkpd
from pkpd.errors import PkpdError
from pkpd.models import load_model
from pkpd.report.comparison.plain_words import trial_in_words
from pkpd.schedule import GrowthFactorPolicy

SCHEDULE = pkpd.daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
POLICY = GrowthFactorPolicy(0.5, 8, "0.005 mg/kg", "filgrastim")
HERE = {"patients": 24, "until_day": 42}
FILE = """
title = "Clofarabine with filgrastim by need"
population = "rr_aml"
horizon_days = 60
rule = "leukemia_d42_generic"

[dose.clofarabine]
amount = "20 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"

[growth_factor]
drug = "G-CSF"
below = 0.5
from_day = 8

[course.induction]
doses = ["clofarabine"]
cycle_days = 28

[[cohort]]
id = "all"
"""


def with_g_csf():
    return load_model(drugs=["clofarabine"], replace={"neutrophils": "quartino2014_docetaxel"})


def low_days(counts):
    return float((counts["count"].sel(line="neutrophils") < 0.5).sum("time").mean())


def test_neutrophils_with_g_csf_are_low_for_fewer_days_and_doses_follow_their_counts():
    how = {"marrow": "friberg", "model": with_g_csf(), **HERE}
    plain = pkpd.simulate(SCHEDULE, "rr_aml", **how)
    given = pkpd.simulate(SCHEDULE, "rr_aml", growth_factor=POLICY, **how)
    assert 1.0 < low_days(given) < low_days(plain) - 1.0
    assert list(given["drug"].values) == ["clofarabine", "filgrastim"]
    counts = given["count"].sel(line="neutrophils").values[0]
    doses = given["amount"].values[0, :, :, 1]
    need = (counts < 0.5) & (np.arange(42) + 1 >= 8)
    np.testing.assert_array_equal(doses, np.where(need, 0.005, 0.0))
    # the same doses by a plan, for a patient with some
    patient = int(np.argmax(need.sum(axis=1)))
    days = [int(day) + 1 for day in np.flatnonzero(need[patient])]
    planned = SCHEDULE.together(pkpd.daily("filgrastim", "5 ug/kg", days=days, route="sc"))
    again = pkpd.simulate(planned, "rr_aml", **how)
    np.testing.assert_allclose(
        again["count"].sel(line="neutrophils").values[0, patient], counts[patient], rtol=1e-12
    )


def test_who_has_a_planned_dose_has_no_second_one_by_need():
    """Both were given on one morning: twice the dose."""
    how = {"marrow": "friberg", "model": with_g_csf(), **HERE}
    always = GrowthFactorPolicy(50.0, 8, "0.005 mg/kg", "filgrastim")
    planned = SCHEDULE.together(pkpd.daily("filgrastim", "5 ug/kg", days="8-14", route="sc"))
    alone, both = (
        pkpd.simulate(one, "rr_aml", growth_factor=always, **how) for one in (SCHEDULE, planned)
    )
    np.testing.assert_allclose(both["count"].values, alone["count"].values, rtol=1e-9)


def test_a_growth_factor_by_another_route_is_refused():
    """It went into the depot under the skin, with the share that arrives from there."""
    planned = SCHEDULE.together(pkpd.daily("filgrastim", "5 ug/kg", days="8-14", route="iv"))
    with pytest.raises(PkpdError, match=r"dose of filgrastim: route 'iv': .*; allowed: sc"):
        pkpd.simulate(planned, "rr_aml", marrow="friberg", model=with_g_csf(), **HERE)


def test_the_marrow_with_leukaemia_needs_no_amount():
    plain = pkpd.simulate(SCHEDULE, "rr_aml", **HERE)
    given = pkpd.simulate(SCHEDULE, "rr_aml", growth_factor=GrowthFactorPolicy(0.5, 8), **HERE)
    assert low_days(given) < low_days(plain) - 0.5
    np.testing.assert_allclose(
        given["count"].sel(line="platelets", time=7), plain["count"].sel(line="platelets", time=7)
    )


@pytest.mark.parametrize(
    ("policy", "model", "words"),
    [
        (POLICY, None, "drug filgrastim: the neutrophils of this marrow have no G-CSF"),
        (GrowthFactorPolicy(0.5), "g_csf", "growth factor by need: no drug and amount are given"),
    ],
)
def test_what_a_marrow_lacks_for_it_is_told(policy, model, words):
    made = with_g_csf() if model else None
    with pytest.raises(PkpdError, match=words):
        pkpd.simulate(
            SCHEDULE, "rr_aml", marrow="friberg", model=made, growth_factor=policy, **HERE
        )


def test_a_policy_says_itself():
    assert POLICY.words == (
        "filgrastim by need, on days that begin with neutrophils below 0.5, from day 8 on"
    )
    assert GrowthFactorPolicy(1.0).words.startswith("a growth factor by need")
    assert GrowthFactorPolicy().words == ""


def test_policies_without_meaning_are_refused():
    with pytest.raises(PkpdError, match="below = -1"):
        GrowthFactorPolicy(-1)
    with pytest.raises(PkpdError, match="from_day = 0"):
        GrowthFactorPolicy(0.5, 0)
    with pytest.raises(PkpdError, match="has no unit"):
        GrowthFactorPolicy(0.5, 1, "5")


@pytest.mark.slow
def test_a_schedule_file_asks_for_it_in_each_marrow(tmp_path):
    path = tmp_path / "given.toml"
    path.write_text(FILE)
    without = tmp_path / "without.toml"
    without.write_text(FILE.split("[growth_factor]")[0] + "[course" + FILE.split("[course")[1])

    def recovered(file, **how):
        table = pkpd.compare(file, patients=40, draws=2, **how).table()
        rows = table.query("endpoint == 'recovery_day' and line == 'neutrophils'")
        return float(rows["estimate"].iloc[0])

    learned = {"marrow": "leukaemia"}
    said = "no growth factor is given but those of the schedule and filgrastim by need, on days"
    result = pkpd.compare(path, patients=8, draws=1, **learned)
    assert any(said in text for text in result.trials[0].assumptions)
    assert any("filgrastim by need" in line for line in trial_in_words(pkpd.load_trial(path)))
    assert recovered(path, **learned) < recovered(without, **learned)
    cards = {"neutrophils": "quartino2014_docetaxel"}
    assert recovered(path, marrow="friberg", cards=cards) < recovered(
        without, marrow="friberg", cards=cards
    )
    with pytest.raises(PkpdError, match="the neutrophils of this marrow have no G-CSF"):
        recovered(path, marrow="friberg")
    path.write_text(FILE.replace('"G-CSF"', '"etoposide"'))
    with pytest.raises(PkpdError, match="etoposide is no growth factor given day by day; allowed"):
        pkpd.load_trial(path)
