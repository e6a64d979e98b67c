from __future__ import annotations

import numpy as np
from event_cases import SYSTEM, VALUES, given

from pkpd.data.events import EventTable
from pkpd.solve.events.advance import solve_linear

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def test_reset_clears_amounts_and_pending_doses(solved):
    times, amounts = solved["reset"]
    early = times < 20
    doses = [(t, 100, 1, 0) for t in (0, 6, 12, 18)]
    np.testing.assert_allclose(amounts[early], given(doses, times[early]), **TOLERANCE)
    assert np.all(amounts[~early] == 0)


def test_reset_clears_a_lagged_dose_that_has_not_entered(solved):
    assert np.all(solved["reset_lag"][1] == 0)


def test_reset_and_dose_stops_an_infusion(solved):
    times, amounts = solved["reset_dose"]
    late = times >= 20
    expected = given([(20, 50, 2, 0)], times[late])
    np.testing.assert_allclose(amounts[late], expected, **TOLERANCE)


def test_time_may_restart_at_a_reset():
    events = EventTable.from_columns(
        [1] * 6,
        [0.0, 30.0, 31.0, 0.0, 5.0, 6.0],
        evid=[1, 0, 0, 4, 0, 0],
        amt=[100, 0, 0, 70, 0, 0],
        cmt=[1, 2, 2, 1, 2, 2],
        rate=[2, 0, 0, 0, 0, 0],
    )
    initial = np.array([0.0, 9.0, 0.0])
    amounts = np.asarray(solve_linear(SYSTEM, events, VALUES, initial=initial))[0]
    expected = np.concatenate(
        [
            given([(0, 100, 1, 50), (0, 9, 2, 0)], [30, 31]),
            given([(0, 70, 1, 0), (0, 9, 2, 0)], [5, 6]),
        ]
    )
    np.testing.assert_allclose(amounts[[1, 2, 4, 5]], expected, **TOLERANCE)
