"""Grades against the tables of CTCAE v5.0 and iwCLL 2008 (Table 5)."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.cards import load_grades
from pkpd.endpoints.grades import grade
from pkpd.errors import DataError, PkpdError

CTCAE = load_grades("ctcae_v5")
IWCLL = load_grades("iwcll_2008")


@pytest.mark.parametrize(
    ("line", "value", "expected"),
    [
        ("neutrophils", 2.0, 0),
        ("neutrophils", 1.99, 1),
        ("neutrophils", 1.5, 1),
        ("neutrophils", 1.49, 2),
        ("neutrophils", 1.0, 2),
        ("neutrophils", 0.99, 3),
        ("neutrophils", 0.5, 3),
        ("neutrophils", 0.49, 4),
        ("neutrophils", 0.0, 4),
        ("platelets", 150.0, 0),
        ("platelets", 149.0, 1),
        ("platelets", 75.0, 1),
        ("platelets", 74.0, 2),
        ("platelets", 50.0, 2),
        ("platelets", 49.0, 3),
        ("platelets", 25.0, 3),
        ("platelets", 24.9, 4),
    ],
)
def test_ctcae_table(line, value, expected):
    assert grade(CTCAE, line, value) == expected


def test_vectors_and_missing_counts():
    graded = grade(CTCAE, "neutrophils", np.array([[0.3, np.nan], [1.2, 5.0]]))
    assert graded.dtype == np.int8
    assert graded.tolist() == [[4, -1], [2, 0]]


@pytest.mark.parametrize(
    ("fall", "expected"),
    [(0, 0), (10, 0), (11, 1), (24, 1), (25, 2), (49, 2), (50, 3), (74, 3), (75, 4)],
)
@pytest.mark.parametrize("baseline", [100.0, 137.0])
def test_iwcll_platelets_by_fall(fall, expected, baseline):
    value = baseline - baseline * fall / 100.0
    assert grade(IWCLL, "platelets", value, baseline=baseline) == expected


def test_iwcll_notes_of_the_table():
    # below 20 is grade 4 at any fall; from below 20 not evaluable; above normal no grade
    values, before = [19.0, 15.0, 160.0, 140.0], [22.0, 19.0, 300.0, 300.0]
    assert grade(IWCLL, "platelets", values, baseline=before).tolist() == [4, -1, 0, 3]
    # neutrophils: not evaluable when below 1.0 before treatment, as the card says
    graded = grade(IWCLL, "neutrophils", [0.4, 0.4, 0.9], baseline=[0.9, 1.0, 3.0])
    assert graded.tolist() == [-1, 4, 3]
    assert grade(CTCAE, "neutrophils", [0.4], baseline=[0.9]).tolist() == [4]


def test_baseline_is_asked_for():
    with pytest.raises(DataError, match="baseline"):
        grade(IWCLL, "platelets", 30.0)
    with pytest.raises(DataError, match="baseline"):
        grade(IWCLL, "neutrophils", 0.4)
    with pytest.raises(PkpdError, match="blasts"):
        grade(CTCAE, "blasts", 30.0)
