"""Parameters that change from record to record, against piecewise exponentials and DOP853."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from pkpd.data.covariates import interpolate
from pkpd.data.events import EventTable
from pkpd.kinetics.compartments import compartment_model
from pkpd.solve.events.advance import solve_linear
from pkpd.solve.events.timeline import EventOptions

ONE = compartment_model(1, "first_order")
TIMES = np.array([0.0, 2.0, 5.0, 6.0, 10.0, 12.0])
CLEARANCE = np.array([1.0, 2.0, 4.0, 3.0, 1.5, 2.5])


def events_for(doses, times=TIMES):
    """Observations into compartment 2 at ``times`` after the dose records."""
    rows = [(t, 0, d) for t, d in doses] + [(t, 1, {"cmt": 2}) for t in times]
    rows.sort(key=lambda r: (r[0], r[1]))
    names = ("evid", "amt", "rate", "ii", "addl", "ss", "cmt")
    return EventTable.from_columns(
        [1] * len(rows), [r[0] for r in rows], **{n: [r[2].get(n, 0) for r in rows] for n in names}
    )


def matrix(cl, v=10.0, ka=0.7):
    return np.array([[-ka, 0.0], [ka, -cl / v]])


@pytest.fixture(scope="module")
def lagged():
    """A dose at 0 that enters at 3 h and again at 8 h, everything changing at records."""
    events = events_for([(0.0, {"evid": 1, "amt": 100, "cmt": 1, "addl": 1, "ii": 5})])
    records = {
        "CL": np.concatenate([[9.0], CLEARANCE])[None],
        "F1": np.array([[1.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5]]),
        "ALAG1": np.array([[3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]),
    }
    return events, {"V": 10.0, "ka": 0.7} | records


def walk(steps):
    """State after steps of (duration, clearance, amount that then enters the depot)."""
    state = np.zeros(2)
    for duration, cl, amount in steps:
        state = expm(matrix(cl) * duration) @ state + [amount, 0.0]
    return state


def test_parameters_hold_over_the_interval_that_ends_at_the_record(lagged):
    events, parameters = lagged
    amounts = np.asarray(solve_linear(ONE, events, parameters))[0]
    # enters at 3 h, in the interval ending at 5 h: F of that record, lag of the dose record
    first = [(2, 2.0, 0), (1, 4.0, 80), (2, 4.0, 0)]
    second = [(1, 3.0, 0), (2, 1.5, 60), (2, 1.5, 0)]
    np.testing.assert_allclose(amounts[3], walk(first), rtol=1e-10)
    np.testing.assert_allclose(amounts[5], walk(first + second), rtol=1e-10)
    np.testing.assert_allclose(amounts[6], walk([*first, *second, (2, 2.5, 0)]), rtol=1e-10)


def test_parameters_carried_forward(lagged):
    events, parameters = lagged
    amounts = np.asarray(
        solve_linear(ONE, events, parameters, options=EventOptions(carry="forward"))
    )[0]
    first = [(2, 1.0, 0), (1, 2.0, 90), (2, 2.0, 0)]
    second = [(1, 4.0, 0), (2, 3.0, 70), (2, 3.0, 0)]
    np.testing.assert_allclose(amounts[3], walk(first), rtol=1e-10)
    np.testing.assert_allclose(amounts[5], walk(first + second), rtol=1e-10)


def test_modelled_rate_follows_the_records_and_duration_does_not():
    events = events_for(
        [
            (0.0, {"evid": 1, "amt": 100, "cmt": 2, "rate": -1}),
            (0.0, {"evid": 1, "amt": 100, "cmt": 1, "rate": -2}),
        ]
    )
    rate = np.array([[5.0, 5.0, 5.0, 10.0, 20.0, 30.0, 5.0, 5.0]])
    duration = np.array([[1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    amounts = np.asarray(
        solve_linear(ONE, events, {"CL": 2.0, "V": 10.0, "ka": 0.7, "R2": rate, "D1": duration})
    )[0]

    # 10/h for 2 h, 20/h for 3 h, then the remaining 20 at 30/h; the interval ends at 6 h
    edges = [0.0, 2.0, 5.0, 5.0 + 20.0 / 30.0, 9.0, 12.0]
    into = [10.0, 20.0, 30.0, 0.0, 0.0]
    depot = [100 / 9.0] * 4 + [0.0]
    state, expected = np.zeros(2), {}
    for (a, b), r, d in zip(pairwise(edges), into, depot, strict=True):
        solution = solve_ivp(
            lambda _, y, r=r, d=d: matrix(2.0) @ y + [d, r],
            (a, b),
            state,
            method="DOP853",
            rtol=1e-12,
            atol=1e-12,
            dense_output=True,
        )
        expected |= {t: solution.sol(t) for t in TIMES if a <= t <= b}
        state = solution.y[:, -1]
    for n, t in enumerate(TIMES):
        np.testing.assert_allclose(amounts[n + 2], expected[t], rtol=1e-9, atol=1e-9)


def test_the_duration_of_a_lagged_dose_is_that_in_force_when_it_enters():
    # NONMEM Help Guide, "dose event record": Dn as computed at the dose time, or the lagged time
    events = events_for([(0.0, {"evid": 1, "amt": 100, "cmt": 2, "rate": -2})])
    duration = np.full((1, len(TIMES) + 1), 4.0)
    duration[0, 0] = 8.0
    amounts = np.asarray(
        solve_linear(ONE, events, {"CL": 2.0, "V": 10.0, "ka": 0.7, "D2": duration, "ALAG2": 0.5})
    )[0]
    for n, t in enumerate(TIMES):
        given = max(0.0, min(t, 4.5) - 0.5)
        left = 25.0 / 0.2 * (1 - np.exp(-0.2 * given)) * np.exp(-0.2 * max(0.0, t - 4.5))
        assert amounts[n + 1, 1] == pytest.approx(left, rel=1e-10, abs=1e-12)


def test_occasions_are_parameters_by_record():
    events = events_for(
        [(0.0, {"evid": 1, "amt": 100, "cmt": 2}), (6.0, {"evid": 1, "amt": 100, "cmt": 2})]
    )
    occasion = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    cl = np.array([1.0, 3.0])[occasion][None]
    amounts = np.asarray(solve_linear(ONE, events, {"CL": cl, "V": 10.0, "ka": 0.7}))[0]
    at_six = 100 * np.exp(-0.1 * 5.0) * np.exp(-0.3 * 1.0) + 100
    assert amounts[4, 1] == pytest.approx(at_six, rel=1e-10)
    assert amounts[-1, 1] == pytest.approx(at_six * np.exp(-0.3 * 6.0), rel=1e-10)


def test_linear_covariates_converge_with_the_square_of_the_step():
    events = events_for([(0.0, {"evid": 1, "amt": 100, "cmt": 2})])
    weight = np.concatenate([[50.0], 50.0 + 5.0 * TIMES])[None]

    def rhs(t, y):
        return matrix(0.04 * (50.0 + 5.0 * t)) @ y

    exact = solve_ivp(rhs, (0.0, 12.0), [0.0, 100.0], method="DOP853", rtol=1e-12, atol=1e-12)
    errors = []
    for step in (0.5, 0.25):
        refined, values, kept = interpolate(events, {"WT": weight}, step)
        amounts = np.asarray(
            solve_linear(ONE, refined, {"CL": 0.04 * values["WT"], "V": 10.0, "ka": 0.7})
        )
        assert np.all(np.diff(refined.time[0]) <= step + 1e-12)
        errors.append(abs(amounts[0, kept[0, -1], 1] / exact.y[1, -1] - 1.0))
    # clearance depends linearly on weight: the midpoint rule is exact up to rounding
    assert max(errors) < 1e-9
