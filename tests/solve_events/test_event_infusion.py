from __future__ import annotations

import numpy as np
import pytest
from event_cases import given

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize(
    ("case", "doses"),
    [
        ("infusion", [(1, 100, 2, 100 / 15)]),
        ("infusion_depot", [(0, 100, 1, 5)]),
        ("infusion_overlap", [(t, 100, 2, 20) for t in (0, 8, 16, 24)]),
        # bioavailability shortens an infusion of given rate, and slows one of given duration
        ("infusion_f", [(0, 37, 2, 3.7)]),
        ("duration", [(0, 50, 2, 6.1)]),
        ("rate", [(0, 80, 2, 80 / 12)]),
    ],
)
def test_infusions(solved, case, doses):
    times, amounts = solved[case]
    np.testing.assert_allclose(amounts, given(doses, times), **TOLERANCE)
