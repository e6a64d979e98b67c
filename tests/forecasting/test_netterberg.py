"""The benchmark of daily counts after docetaxel, with few patients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from benchmarks import netterberg
from pkpd.forecasting import most_probable
from pkpd.forecasting.bank import simulated

CUTS = (5, 12, 17)


@pytest.fixture(scope="module")
def made():
    return netterberg.ready(1500, threads=1)


@pytest.fixture(scope="module")
def bank(made):
    return made.bank_for(netterberg.SCHEDULE)


@pytest.fixture(scope="module")
def rows():
    return netterberg.run(12, 1500, threads=1, cuts=CUTS)


def test_concentrations_are_those_of_the_published_patient():
    """Values of DDMODEL00000224, mg/L, and the kinetics as a matrix exponential."""
    told = {0.44: 2.55, 1.33: 2.97, 1.52: 1.15, 2.0: 0.292, 13.0: 0.034, 24.7: 0.017, 48.0: 0.004}
    p = netterberg.KINETICS
    rates = np.array(
        [
            [-(p["CL"] + p["Q2"] + p["Q3"]), p["Q2"], p["Q3"]],
            [p["Q2"], -p["Q2"], 0],
            [p["Q3"], 0, -p["Q3"]],
        ]
    ) / np.array([p["V1"], p["V2"], p["V3"]])
    steady = -np.linalg.solve(rates, [180.0 / 1.33, 0.0, 0.0])
    for hour, concentration in told.items():
        full = steady - expm(rates * min(hour, 1.33)) @ steady
        amount = (expm(rates * max(hour - 1.33, 0.0)) @ full)[0]
        assert amount / p["V1"] == pytest.approx(concentration, rel=0.04)


@pytest.mark.slow
def test_the_typical_patient_is_back_on_day_17(bank):
    days = bank.recovery[netterberg.BACK]
    assert np.median(days) == pytest.approx(17.0, abs=0.5)  # as in the paper
    # the mornings between which the count is back at that of the first one
    logs = bank.measured["neutrophils"].astype(float)
    share = logs - logs[:, :1] - np.log(0.999)
    after = np.arange(bank.days) > share.argmin(axis=1)[:, None]
    first = np.argmax(after & (share >= 0), axis=1)
    seen = np.isfinite(days)
    assert seen.mean() > 0.99
    assert (np.ceil(days[seen] - 1e-3) == first[seen]).mean() > 0.995


def test_scores_are_those_of_pairs():
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=40), rng.dirichlet(np.ones(40))
    order = np.argsort(x)
    for true in (-4.0, 0.1, 3.5):
        pairs = weights @ np.abs(x[:, None] - x) @ weights
        expected = weights @ np.abs(x - true) - 0.5 * pairs
        found = netterberg.crps(x[order], np.cumsum(weights[order]), true)
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_counts_tell_the_day_of_return_better_than_the_population(rows):
    assert len(rows) == 12 * (1 + len(CUTS))
    days = netterberg.of_days(rows).set_index("cut")
    for name in ("back error", "back MAP error", "back crps"):
        assert days.loc[17, name] < 0.5 * days.loc[0, name], name
    assert days.loc[17, "back width"] < 0.5 * days.loc[0, "back width"]
    truth = rows.groupby("patient")[["true_back", "onset"]].nunique()
    assert (truth == 1).all().all(), "all cuts are judged by the same truth"


@pytest.mark.slow
def test_grade_4_is_judged_in_those_who_do_not_have_it_yet(rows):
    found = netterberg.of_grade_4(rows).set_index("cut")
    assert found.loc["17", "ahead"] <= found.loc["5", "ahead"] <= found.loc["0", "ahead"]
    ahead = rows[(rows["cut"] == 5) & (rows["onset"] > 5) & rows["grade_4"]]
    expected = (ahead["p_grade_4"] > 0.5).mean()
    assert found.loc["5", "sens P > 0.5"] == pytest.approx(expected)
    assert found.loc["5", "sens P > 0.25"] >= expected
    # in the population most have it: all are forecast to, and nobody is spared
    assert found.loc["0", "sens P > 0.5"] == 1.0
    assert found.loc["0", "spec P > 0.5"] == 0.0


@pytest.mark.slow
def test_the_most_probable_patients_of_all_are_those_one_by_one(made, bank):
    truth = simulated(bank.lanes, bank.lanes.drawn(3, 5), bank.asked, 1)
    every = netterberg.counted(truth, made, 5)
    days = every[0].time[:10]
    logs = np.log([seen.value[:10] for seen in every])
    found = netterberg.modes(bank.lanes, logs, days, np.zeros((3, bank.lanes.size)), 1)
    for i in (0, 2):
        seen = every[i].until(int(days[-1]) + 1)
        alone = most_probable(
            made.ensemble, netterberg.SCHEDULE, netterberg.UNTIL_DAY, seen, made.measurement
        )
        np.testing.assert_allclose(found[i], alone.scores, atol=0.02)
