"""Visits on which drugs are held go with the cycles, whenever these start."""

import numpy as np
import pytest

from pkpd.schedule import Course, Criterion, DoseModification, Gate, Regimen, daily, follow

NEUTROPHILS = (Criterion("neutrophils", 1.0),)


def two_cycles(visit_every_days):
    (rule,) = daily("lenalidomide", "25 mg", days="1-21/28", route="oral").courses[0].doses
    held = DoseModification("lenalidomide", NEUTROPHILS, visit_every_days=visit_every_days)
    gate = Gate(NEUTROPHILS, max_wait_days=28)
    return Regimen((Course("c", (rule,), 28, 2, between=gate, modifications=(held,)),))


@pytest.mark.parametrize("visit_every_days", [7, 28])
def test_a_late_cycle_is_given_with_the_counts_that_let_it_start(visit_every_days):
    """On day 29 the drug was held for four weeks, on day 32 the cycle began without it."""
    counts = np.full((70, 2), 100.0)
    counts[28:31, 0] = 0.88
    found = follow(two_cycles(visit_every_days), counts)
    assert found.starts == ((1, 32),)
    assert [one.day for one in found.doses] == [*range(1, 22), *range(32, 53)]


def test_visits_are_counted_from_the_day_on_which_a_cycle_starts():
    counts = np.full((70, 2), 100.0)
    counts[28:31, 0] = counts[38, 0] = 0.5  # day 39 is the second visit of the late cycle
    days = [one.day for one in follow(two_cycles(7), counts).doses if one.day > 28]
    assert days == [*range(32, 39), *range(46, 53)]
