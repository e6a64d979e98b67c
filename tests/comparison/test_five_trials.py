"""The default comparison: complete rows, consistent figures, published outcomes beside them."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.comparison.lanes import BY_DAYS
from pkpd.comparison.published import clopper_pearson
from pkpd.comparison.scenario import default_scenario
from pkpd.endpoints.definitions import THRESHOLDS

pytestmark = pytest.mark.slow  # compiles one course for each cohort

COHORTS = {
    "nct01681537_len_mec": ["14d-10", "14d-5", "10d-5", "10d-10", "10d-25", "10d-50"],
    "nct01629082_clofarabine_lenalidomide": ["cohort 1", "cohort 2", "cohort 3", "cohort 4"],
    "nct00983528_alemtuzumab_clofarabine": ["clofarabine-20", "clofarabine-10"],
    "nct01116193_lenalidomide_dexamethasone": ["all"],
    "nct01673308_lenalidomide_mds": ["all"],
}

PER_LINE = {
    "days_below": 1,
    "grade_3_4": 1,
    "grade_4": 1,
    "recovery_day_on_visits": 1,
}


def test_every_cohort_of_every_trial_has_every_row(five):
    assert [t.trial.id for t in five.trials] == list(COHORTS)
    for result in five.trials:
        assert [c.id for c in result.trial.cohorts] == COHORTS[result.trial.id]
        for cohort in result.trial.cohorts:
            rows = [r for r in result.rows if r.cohort == cohort.id]
            keys = [(r.endpoint, r.line, r.rule) for r in rows if r.rule != "published only"]
            assert len(set(keys)) == len(keys)
            count = {e: sum(k[0] == e for k in keys) for e, _, _ in keys}
            for endpoint, each in PER_LINE.items():
                assert count[endpoint] == 2 * each, (cohort.id, endpoint)
            # the nadir of the whole course and, where days count from a later course, since then
            windows = 1 if cohort.clocks[0] == "first_dose" else 2
            assert count["nadir"] == count["nadir_day"] == 2 * windows
            assert count["recovery_day"] == count["sustained_recovery_day"] == 6
            assert count["dlt"] == len(cohort.clocks)
            assert count["dlt_on_visits"] == count["dlt_at_any_dose"] == 1
            assert count["platelet_transfusions"] == 1


def test_figures_are_consistent(five):
    for row in (r for t in five.trials for r in t.rows if r.rule != "published only"):
        assert not np.isnan(row.estimate), row
        if np.isnan(row.lower):  # draws that differ by chance alone
            assert np.isnan(row.upper)
        else:
            assert row.lower <= row.upper
        assert row.mc_error >= 0.0
        if row.unit == "probability":
            assert 0.0 <= row.estimate <= 1.0
            assert np.isnan(row.patients_lower)
        else:
            assert row.patients_lower <= row.estimate <= row.patients_upper
        shares = row.share_patients, row.share_parameters
        if not np.isnan(shares[0]):
            assert sum(shares) == pytest.approx(1.0, abs=1e-12)
            assert min(shares) >= -1e-12
        assert 0.0 <= row.censored <= 1.0
        assert row.assumed
    for pair in (p for t in five.trials for p in t.pairs):
        assert np.isnan(pair.lower) == np.isnan(pair.upper)
        assert not pair.lower > pair.upper
        assert 0.0 <= pair.p_first_safer <= 1.0


def test_published_outcomes_stand_beside_the_predictions(five):
    table = five.table()
    dlt = table[(table.endpoint == "dlt") & (table.trial == "nct01681537_len_mec")]
    counts = dict(zip(dlt.cohort, zip(dlt.published_numerator, dlt.published_denominator,
                                      strict=True), strict=True))  # fmt: skip
    assert counts == {
        "14d-10": (2, 6), "14d-5": (0, 3), "10d-5": (0, 3), "10d-10": (0, 3), "10d-25": (0, 3),
        "10d-50": (1, 7),
    }  # fmt: skip
    for row in dlt.itertuples():
        exact = clopper_pearson(int(row.published_numerator), int(row.published_denominator))
        assert row.published_lower == pytest.approx(exact.lower, abs=5e-4)
        assert row.published_upper == pytest.approx(exact.upper, abs=5e-4)
        assert row.published_source
    only = table[table.rule == "published only"]
    assert set(only.endpoint) >= {"cr_rate", "orr", "os_1_year"}
    assert only.published.notna().all()
    assert only.estimate.isna().all()


def test_recovery_is_later_for_higher_thresholds_and_when_sustained(five):
    for result in five.trials:
        for cohort in result.trial.cohorts:
            rows = {(r.endpoint, r.line, r.rule): r for r in result.rows if r.cohort == cohort.id}
            for line, thresholds in THRESHOLDS.items():
                days = [rows["recovery_day", line, f">= {t:g}"].estimate for t in thresholds]
                assert days == sorted(days)
                for t, day in zip(thresholds, days, strict=True):
                    assert rows["sustained_recovery_day", line, f">= {t:g}"].estimate >= day


def test_sensitivity_rises_with_thresholds_and_falls_with_days(five):
    for result in five.trials:
        grid = result.curves["dlt_sensitivity"].sel(bound="mean")
        assert grid.shape[1:] == (2, 4, 4)
        assert list(grid["by_day"].values) == list(BY_DAYS)
        known = grid.values[~np.isnan(grid.values)]
        assert ((known >= 0.0) & (known <= 1.0)).all()
        # where treatment goes on, a higher threshold may be missed and met again before the later
        # cycle in which a lower one is first missed: up to 2 of the 100 patients and draws
        single = all(len(c.regimen.courses) == 1 for c in result.trial.cohorts)
        single &= all(c.regimen.courses[0].cycles == 1 for c in result.trial.cohorts)
        for axis in ("neutrophil_threshold", "platelet_threshold"):
            steps = grid.diff(axis).values
            fall = 1e-12 if single else 2.0 / 100.0 + 1e-12
            assert (steps[~np.isnan(steps)] >= -fall).all(), axis
        # recovery stands once reached in a single course; a later cycle may undo it
        if result.trial.id == "nct01681537_len_mec":
            assert (grid.diff("by_day").values <= 1e-12).all()
            rule = result.curves["dlt"].mean("draw")
            same = grid.sel(neutrophil_threshold=0.5, platelet_threshold=20.0, by_day=45.0)
            np.testing.assert_allclose(same, rule, atol=1e-6)


def test_curves_are_ordered_and_recovery_only_rises(five):
    for result in five.trials:
        curves = result.curves
        assert (curves["counts"].diff("quantile") >= 0.0).all()
        assert (curves["recovered"].diff("day") >= -1e-12).all()
        bounds = curves["recovered_interval"]
        assert (bounds.sel(bound="lower") <= bounds.sel(bound="upper") + 1e-12).all()
        assert ((curves["dose_given"] >= 0.0) & (curves["dose_given"] <= 1.0)).all()


def test_more_lenalidomide_means_more_late_recoveries(five):
    # the same patients and draws: the order holds without any noise
    table = five.table()
    dlt = table[(table.endpoint == "dlt")].drop_duplicates(["trial", "cohort"])
    risk = dlt.set_index(["trial", "cohort"]).estimate
    mec = risk["nct01681537_len_mec"]
    assert mec["10d-5"] <= mec["10d-10"] <= mec["10d-25"] <= mec["10d-50"]
    assert mec["10d-10"] <= mec["14d-10"]
    steps = risk["nct01629082_clofarabine_lenalidomide"]
    assert steps["cohort 1"] <= steps["cohort 3"] <= steps["cohort 4"]
    alone = risk["nct00983528_alemtuzumab_clofarabine"]
    assert alone["clofarabine-10"] <= alone["clofarabine-20"]


def test_the_record_says_what_was_run(five):
    record = five.record
    assert record["seed"] == 1
    assert record["scenario"] == "five_trials"
    assert record["settings"]["patients"] == 5
    assert record["settings"]["draws"] == 20
    names = set(record["cards"])
    assert {f"trials/{name}" for name in COHORTS} <= names
    assert {"rules/len_mec_2018", "rules/leukemia_d42_generic"} <= names
    assert all(len(value) == 64 for value in record["cards"].values())
    assert default_scenario().question == record["question"]
