"""Ages of entry in the words on patients, and the median age between them."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from pkpd.evidence.table.age_limits import age_limits, age_of_words
from pkpd.evidence.table.learning import refined
from pkpd.evidence.table.populations import evidence_folder, load_populations
from pkpd.evidence.table.table import load_evidence

LIMITS = {
    "untreated AML 18-60 y": (18, 60),
    "newly diagnosed AML, advanced MDS or MPN, 18-64 y, multicentre": (18, 64),
    "untreated AML under 60 y, 657 randomised, daunorubicin 90": (18, 60),
    "newly diagnosed AML younger than 65 y, Japan, 1057 randomised": (18, 65),
    "de novo AML, 15 to 60 years": (15, 60),
    "untreated AML, DA 3+10, up to 59 y": (18, 59),
    "untreated AML, younger adults": (18, 60),
    "R/R ALL up to 12 y": (11, 12),
    "untreated AML of children, median 80 months": (1, 18),
    "untreated AML, mostly under 56 y, randomised (143 children)": (18, 56),
    "Up to 60 years, untreated": (18, 60),
    "AML 18\u201360 y": (18, 60),
    "R/R AML, remission of 1-2 y, up to 60 y": (18, 60),
    # no upper limit, or no age at all
    "AML in first relapse, first remission under 1 year": None,
    "relapse within 2-5 years": None,
    "untreated AML from 18 years, 7 + 3": None,
    "untreated AML >=60 y": None,
    "over 60 y": None,
    "int-1/2/high MDS with baseline platelets <75": None,
    "AML in first relapse after a remission of at most 12 months": None,
    "refractory AML after TAD-9 (relapse within 6 months)": None,
    "cycles 1-4, 657 randomised": None,
    "AML of 70-60 y": None,
}


@pytest.mark.parametrize("words", LIMITS)
def test_limits_are_read_as_a_reader_would(words):
    assert age_limits(words) == LIMITS[words]


@pytest.mark.parametrize(
    ("words", "age"),
    [
        ("R/R AML, mean 53.4 y", 53.4),
        ("AML without response, mean 55 y (18-75), regimen 5+5", 55.0),
        ("newly diagnosed AML, 60-83 y (median 67), randomised", 67.0),
        ("untreated AML/HR-MDS 18-66 y, median 56", 56.0),
        ("AML, 32 relapsed (median CR1 6 months)", None),
        ("median 30 % blasts", None),
        ("relapsed AML, median 2 y from diagnosis", None),
    ],
)
def test_a_printed_median_goes_before_limits(words, age):
    assert age_of_words(words, 60.0, 16.0) == age


@pytest.mark.parametrize(
    "more", ["median 2 prior regimens", "median 30 % blasts", "median 40 days"]
)
def test_a_median_of_something_else_is_no_age(more):
    found = age_of_words(f"R/R AML 18-70 y, {more}", 58.0, 15.0)
    assert found == age_of_words("R/R AML 18-70 y", 58.0, 15.0)


def test_the_median_halves_the_patients_between_the_limits():
    ages = np.random.default_rng(1).normal(60.0, 16.0, 400_000)
    for low, high in ((18, 60), (15, 70), (55, 64)):
        between = ages[(ages > low) & (ages < high)]
        found = age_of_words(f"AML, {low}-{high} y", 60.0, 16.0)
        error = 1.25 * between.std() / np.sqrt(between.size)
        assert found == pytest.approx(np.median(between), abs=4 * error)
        halves = norm.cdf([low, found, high], 60.0, 16.0)
        assert halves[1] - halves[0] == pytest.approx(halves[2] - halves[1])


def test_the_ages_of_trials_that_print_both_are_near():
    """Medians that trials with these limits print; the SD of the population is assumed."""
    aml = load_populations()["aml"]
    printed = {"17-60 y": 47, "16-60 y": 45, "18-65 y": 55}
    for words, age in printed.items():
        assert age_of_words(words, aml.age, aml.age_sd) == pytest.approx(age, abs=5.0)


def test_rows_take_the_age_of_their_words_where_no_median_is_printed():
    rows = refined(load_evidence(Path(str(evidence_folder() / "new_outcomes.csv"))))
    young = next(row for row in rows if row.study == "E1900")
    assert young.age_median is None
    assert young.population.age == 49.0
    assert young.population.aged
    named = next(row for row in rows if row.study == "PALG2004")
    assert named.population.age == 45.0  # printed, though the words have limits
    assert "16-60 y" in named.patients
