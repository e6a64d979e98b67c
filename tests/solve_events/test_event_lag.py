from __future__ import annotations

import numpy as np
import pytest
from event_cases import given

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize(
    ("case", "doses"),
    [
        ("lag", [(t + 3.3, 100, 1, 0) for t in (0, 12, 24)]),
        ("lag_other_compartment", [(0, 100, 1, 0)]),
        ("duration_lag", [(1.7, 100, 2, 6.1), (25.7, 100, 2, 6.1)]),
        ("mixed", [(4, 60, 1, 0), (0, 40, 2, 4.0)]),
    ],
)
def test_lagged_doses(solved, case, doses):
    times, amounts = solved[case]
    np.testing.assert_allclose(amounts, given(doses, times), **TOLERANCE)


def test_lagged_dose_enters_before_a_record_at_its_time(solved):
    times, amounts = solved["lag_at_record"]
    assert amounts[times == 7.5, 1][0] == pytest.approx(100.0)
    assert amounts[times == 5.0, 1][0] == 0.0


def test_rounding_does_not_move_a_dose_past_a_record(solved):
    # 0.2 + 0.1 is a little more than 0.3 in binary
    times, amounts = solved["lag_rounding"]
    assert 0.2 + 0.1 > 0.3
    assert amounts[times == 0.3, 1][0] == pytest.approx(100.0)
