from __future__ import annotations

import numpy as np
import pytest
from event_cases import given

# double precision of both sides; amounts are of the order of 100
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize(
    ("case", "doses"),
    [
        ("bolus", [(0, 100, 1, 0)]),
        ("bolus_central", [(0, 100, 2, 0)]),
        ("two_at_once", [(0, 60, 1, 0), (0, 40, 2, 0)]),
        ("addl", [(t, 100, 1, 0) for t in (0, 12, 24, 36)]),
    ],
)
def test_doses_add_up(solved, case, doses):
    times, amounts = solved[case]
    np.testing.assert_allclose(amounts, given(doses, times), **TOLERANCE)


def test_additional_doses_equal_written_ones(solved):
    np.testing.assert_allclose(solved["addl"][1], solved["written"][1], **TOLERANCE)


def test_additional_dose_enters_before_a_record_at_its_time(solved):
    times, amounts = solved["addl_at_record"]
    expected = given([(t, 100, 2, 0) for t in (0, 10, 20, 30)], times)
    np.testing.assert_allclose(amounts, expected, **TOLERANCE)
    assert amounts[times == 10, 1][0] > 100


def test_dose_after_an_observation_at_its_time_is_not_in_it(at_records):
    times, evid, amounts = at_records["after_observation"]
    at_ten = times == 10
    assert evid[at_ten].tolist() == [0, 1]
    assert amounts[at_ten, 1].tolist() == [0.0, 100.0]
