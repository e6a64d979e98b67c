"""Binomial intervals against published values."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from pkpd.comparison.published import clopper_pearson
from pkpd.errors import DataError

# Newcombe, Stat Med 1998;17:857, Table I: 95 % limits of 81/263, 15/148, 0/20 and 1/29
NEWCOMBE = [(81, 263), (15, 148), (0, 20), (1, 29)]
NEWCOMBE_EXACT = [(0.2527, 0.3676), (0.0578, 0.1617), (0.0, 0.1684), (0.0009, 0.1776)]


@pytest.mark.parametrize(
    ("events", "patients", "lower", "upper"),
    [
        # lenalidomide with MEC, delayed recovery (NCT01681537)
        (2, 6, 0.043, 0.777),
        (1, 7, 0.004, 0.579),
        (0, 3, 0.0, 0.708),
        (1, 17, 0.001, 0.287),
        (2, 9, 0.028, 0.600),
        (1, 16, 0.002, 0.302),
    ],
)
def test_clopper_pearson_of_the_dlt_table(events, patients, lower, upper):
    found = clopper_pearson(events, patients)
    assert found.lower == pytest.approx(lower, abs=5e-4)
    assert found.upper == pytest.approx(upper, abs=5e-4)
    assert found.estimate == events / patients


def test_newcombe_table():
    found = clopper_pearson(*np.array(NEWCOMBE).T)
    # printed to four decimals
    assert np.column_stack([found.lower, found.upper]) == pytest.approx(
        np.array(NEWCOMBE_EXACT), abs=6e-5
    )


def test_clopper_pearson_limits_have_the_tail_probability():
    n = 31
    k = np.arange(1, n)
    found = clopper_pearson(k, n, level=0.9)
    assert binom.sf(k - 1, n, found.lower) == pytest.approx(np.full(k.size, 0.05), rel=1e-9)
    assert binom.cdf(k, n, found.upper) == pytest.approx(np.full(k.size, 0.05), rel=1e-9)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_clopper_pearson_without_events_is_closed_form(n):
    found = clopper_pearson(0, n)
    assert found.lower == 0.0
    # (1 - p)^n = alpha / 2
    assert found.upper == pytest.approx(1.0 - 0.025 ** (1.0 / n), rel=1e-10)
    assert clopper_pearson(n, n).upper == 1.0


def test_counts_broadcast():
    found = clopper_pearson([[1], [2]], [5, 6, 7])
    assert found.lower.shape == found.upper.shape == found.estimate.shape == (2, 3)
    assert found.upper[1, 1] == pytest.approx(0.777, abs=5e-4)
    assert clopper_pearson(2, 6).upper.shape == ()


def test_ends_are_exact():
    none, all_ = clopper_pearson(0, 12), clopper_pearson(12, 12)
    assert none.lower == 0.0
    assert all_.upper == 1.0
    assert none.upper == pytest.approx(1.0 - all_.lower, abs=1e-12)


@pytest.mark.parametrize(("events", "patients"), [(3, 2), (-1, 4), (0.5, 4), (0, 0)])
def test_impossible_counts_are_refused(events, patients):
    with pytest.raises(DataError, match="published count"):
        clopper_pearson(events, patients)


@pytest.mark.reference
def test_reference_table_of_trials():
    folder = Path(os.environ.get("PKPD_REFERENCE", Path(__file__).parents[3] / "shared"))
    table = folder / "trial_level.csv"
    if not table.exists():
        pytest.skip("reference folder is absent")
    checked = 0
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            exact = "Clopper-Pearson" in row["definition"] and re.search("95", row["definition"])
            if exact and row["lower"] and row["upper"] and row["numerator"]:
                found = clopper_pearson(int(row["numerator"]), int(row["denominator"]))
                assert found.lower == pytest.approx(float(row["lower"]), abs=6e-4), row["study_id"]
                assert found.upper == pytest.approx(float(row["upper"]), abs=6e-4), row["study_id"]
                checked += 1
    assert checked >= 1
