"""What a non-compartmental analysis says of profiles whose numbers mean little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError, PkpdWarning

K, KA, VOLUME, TAU = 0.1, 1.0, 10.0, 12.0


def frame(times, values, **columns):
    rows = {"ID": 1, "TIME": [0, *times], "AMT": [100, *[0] * len(times)], "DV": [None, *values]}
    more = {name: [value, *[0] * len(times)] for name, value in columns.items()}
    return pd.DataFrame({**rows, **more})


def single(time):
    scale = 100 * KA / (VOLUME * (KA - K))
    return np.where(time < 0, 0.0, scale * (np.exp(-K * time) - np.exp(-KA * time)))


def remark_of(*args, **options):
    (found,) = pkpd.nca(*args, **options)["remark"]
    return found


def test_a_negative_concentration_is_named_with_its_row():
    found = remark_of(frame([0, 1, 2, 4, 8, 12], [0, 8, -5, 3, 1.5, 0.75]))
    assert found == "-5 at 2 h (row 3) taken as below the limit"
    many = remark_of(frame([1, 2, 3, 4], [-1, -2, -3, -4]))
    assert many.startswith("nothing measurable; -1 at 1 h (row 1), -2 at 2 h (row 2), -3 at 3 h")
    assert many.endswith("and 1 more taken as below the limit")


def test_a_concentration_before_the_only_dose_is_told():
    table = frame([0, 1, 2, 4, 8], [2, 8, 5, 3, 1])
    assert remark_of(table) == "2 measured before the first dose (25 % of cmax)"
    # into a vein the row stands before the dose, or is what the dose gave
    vein = frame([0, 1, 2, 4, 8], [16, 8, 4, 1, 1 / 16])
    assert remark_of(vein, route="iv") == ""
    before = vein.iloc[[1, 0, 2, 3, 4, 5]]
    assert "16 measured before the first dose" in remark_of(before, route="iv")
    earlier = table.iloc[[1, 0, 2, 3, 4, 5]].assign(TIME=[0.5, 1, 2, 3, 5, 9])
    assert "2 measured before" in remark_of(earlier)
    assert remark_of(frame([0, 1, 2, 4, 8], [0, 8, 4, 1, 1 / 16])) == ""


def test_a_loose_terminal_slope_is_told():
    times, values = [0, 1, 2, 8, 12, 36], [0, 5, 8, 3, 1.5, 0.6]
    table = pkpd.nca(frame(times, values))
    assert table["r2_adjusted"][0] == pytest.approx(0.812, abs=5e-4)
    assert table["remark"][0] == "the terminal slope rests on 3 points of adjusted R² 0.81"


def test_profiles_that_cannot_be_steady_are_told():
    times = [0, 1, 2, 4, 8, 12, 24, 36, 36.5, 37, 38, 40, 44, 48, 60, 72]
    values = [sum(single(np.array(t - TAU * j)) for j in range(4)) for t in times]
    table = frame(times, np.array(values, float), ADDL=3, II=TAU)
    found = pkpd.nca(table, tau_h=TAU, steady_state=True)
    assert list(found["remark"]) == [
        "begins at 0 and ends at 3.35: not at steady state",
        "no terminal slope; auc_tau rests on two samples",
        "no terminal slope; auc_tau rests on two samples",
        "",
    ]
    assert found["cl_f"].round(3).tolist() == [1.533, 2.164, 1.849, 1.018]


def test_a_true_steady_state_has_no_remark_on_what_follows_it():
    times = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10, 12.0])
    values = sum(single(times + TAU * j) for j in range(40))
    found = pkpd.nca(frame(times, values, SS=1, II=TAU)).iloc[0]
    assert found["extrapolated"] > 30
    assert found["remark"] == ""
    assert found["cl_f"] == pytest.approx(1.0, rel=0.01)
    # half of the interval was sampled: the other half is carried on
    half = times <= 6
    found = remark_of(frame(times[half], values[half], SS=1, II=TAU))
    assert found == "40 % of auc_tau is extrapolated"
    # short half-lives are below the limit before and after
    quick = frame([0, 1, 2, 4, 8, 12], ["<1", 8, 6, 3, 1.5, "<1"], SS=1, II=TAU)
    assert "steady" not in remark_of(quick)
    slow = frame([0, 1, 2, 4, 8, 12], ["<1", 8, 6, 4, 3, 2], SS=1, II=TAU)
    assert "begins below the limit and ends at 2: not at steady state" in remark_of(slow)


def test_days_after_the_last_dose_are_asked_for_with_their_argument():
    regimen = pkpd.daily("lenalidomide", "10 mg", days="1-3", route="oral")
    with pytest.raises(PkpdError, match="from 0 to 72 h; until_day= has later days"):
        pkpd.exposures(regimen, "mds_post_hma", marrow="friberg", patients=2, intervals=[(0, 96)])
    with pytest.raises(PkpdError, match="0 to 72 h; until_day= has later days"):
        pkpd.exposures(regimen, "mds_post_hma", marrow="friberg", patients=2, times_h=[80])


def test_a_subject_without_a_dose_is_named():
    table = pd.DataFrame(
        {"ID": [1, 1, 1, 1, 2, 2], "TIME": [0, 1, 2, 4, 1, 2], "AMT": [9.0, 0, 0, 0, 0, 0]}
    ).assign(DV=[None, 8.0, 4.0, 2.0, 3.0, 1.0])
    with pytest.warns(PkpdWarning, match="no dose of subject 2 is followed by samples"):
        assert pkpd.nca(table)["subject"].tolist() == [1]


@pytest.mark.parametrize("by_data", [True, False])
def test_other_doses_within_the_interval_leave_no_clearance(by_data):
    """100 every morning and 50 every evening: neither profile has the area of its own dose."""

    def level(t):
        every = [(dose, t - at + 24 * n) for dose, at in ((100, 0), (50, 12)) for n in range(40)]
        return sum(np.where(ago >= 0, dose / VOLUME * np.exp(-K * ago), 0.0) for dose, ago in every)

    rows = [(0, 100, 1, 24, np.nan), *((t, 0, 0, 0, level(t)) for t in (0, 1, 3, 6, 9))]
    rows += [(12, 50, 2, 24, np.nan), *((t, 0, 0, 0, level(t)) for t in (12, 13, 15, 18, 21, 24))]
    table = pd.DataFrame(rows, columns=["TIME", "AMT", "SS", "II", "DV"]).assign(ID=1)
    given = {}
    if not by_data:
        table, given = table[["ID", "TIME", "AMT", "DV"]], {"tau_h": 24.0, "steady_state": True}
    found = pkpd.nca(table, route="iv", **given)
    names = ["auc_tau", "cavg", "ctrough", "cl_f", "vz_f", "vss", "mrt"]
    assert found[names].isna().all(axis=None)
    assert found["remark"].str.startswith("other doses are given within the interval").all()
    assert found["lambda_z"].to_numpy() == pytest.approx(K)


def test_a_steady_state_that_stands_alone_or_ends_early_has_a_clearance():
    times = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10, 12.0])
    values = sum(single(times + TAU * j) for j in range(40))
    alone = frame(times, values, SS=2, II=TAU, ADDL=1)
    assert pkpd.nca(alone)["cl_f"][0] == pytest.approx(1.0, rel=0.01)
    other = pd.DataFrame({"ID": [1], "TIME": [10.5], "AMT": [20], "DV": [None]})
    early = pd.concat([frame(times, values, SS=1, II=TAU)[:-1], other]).fillna({"SS": 0, "II": 0})
    assert pkpd.nca(early)["cl_f"][0] == pytest.approx(1.0, rel=0.02)
    # where the user says that all is steady, a dose may be a little early
    said = early.drop(columns=["SS", "II"])
    late = said.assign(TIME=said["TIME"].replace({10.5: 11.5}))
    assert np.isnan(pkpd.nca(said, tau_h=TAU, steady_state=True)["cl_f"][0])
    assert pkpd.nca(late, tau_h=TAU, steady_state=True)["cl_f"].notna().all()
