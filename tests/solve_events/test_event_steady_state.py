from __future__ import annotations

import numpy as np
import pytest
from event_cases import given, rate_matrix

# 200 earlier doses leave out less than exp(-0.03 * 200 * 8) of the sum
EARLIER = 200
TOLERANCE = {"rtol": 1e-8, "atol": 1e-8}


def train(interval, amount, cmt, duration, lag=0.0, later=0, start=0.0):
    steps = np.arange(-EARLIER, later + 1)
    return [(start + k * interval + lag, amount, cmt, duration) for k in steps]


@pytest.mark.parametrize(
    ("case", "doses"),
    [
        ("ss", train(12, 100, 1, 0)),
        ("ss_addl", train(12, 100, 1, 0, later=2)),
        ("ss_lag", train(12, 100, 1, 0, lag=5, later=1)),
        ("ss_long_lag", train(12, 100, 2, 0, lag=29, later=1)),
        ("ss_infusion", train(12, 100, 2, 5)),
        ("ss_long_infusion", train(8, 90, 2, 22.5)),
        ("ss_whole_interval", train(8, 80, 2, 8)),
        ("ss_long_infusion_lag", train(8, 100, 2, 25, lag=5)),
        ("ss_long_infusion_long_lag", train(8, 100, 2, 25, lag=19)),
        ("ss_duration", train(12, 100, 2, 15, lag=2)),
        ("ss_rate", train(12, 100, 2, 100 / 6, lag=2)),
    ],
)
def test_steady_state_is_many_doses(solved, case, doses):
    times, amounts = solved[case]
    np.testing.assert_allclose(amounts, given(doses, times), **TOLERANCE)


def test_second_steady_state_adds(solved):
    times, amounts = solved["ss_two"]
    doses = train(24, 100, 1, 0)
    late = times >= 10
    np.testing.assert_allclose(amounts[~late], given(doses, times[~late]), **TOLERANCE)
    doses = doses + train(24, 50, 1, 0, start=10)
    np.testing.assert_allclose(amounts[late], given(doses, times[late]), **TOLERANCE)


def test_steady_state_replaces_and_cancels(solved):
    times, amounts = solved["ss_cancels"]
    late = times >= 10
    expected = given(train(12, 50, 1, 0, start=10), times[late])
    np.testing.assert_allclose(amounts[late], expected, **TOLERANCE)


def test_reset_with_lagged_steady_state(solved):
    times, amounts = solved["ss_reset"]
    late = times >= 20
    expected = given(train(12, 50, 1, 0, lag=4, start=20), times[late])
    np.testing.assert_allclose(amounts[late], expected, **TOLERANCE)


def test_constant_infusion_ends_at_its_record(solved):
    times, amounts = solved["ss_constant"]
    start = np.linalg.solve(-rate_matrix(), [0, 20, 0])
    np.testing.assert_allclose(amounts[0], start, **TOLERANCE)
    doses = [(0, a, c + 1, 0) for c, a in enumerate(start)]
    np.testing.assert_allclose(amounts, given(doses, times), **TOLERANCE)
