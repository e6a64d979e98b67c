"""Systems: one to three compartments and transit chains against DOP853."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkpd.data.events import EventTable
from pkpd.kinetics.compartments import compartment_model
from pkpd.solve.events.advance import solve_linear

DISPOSITION = {
    1: {"CL": 3.0, "V": 20.0},
    2: {"CL": 3.0, "V1": 20.0, "Q": 4.0, "V2": 35.0},
    3: {"CL": 3.0, "V1": 20.0, "Q2": 4.0, "V2": 35.0, "Q3": 0.7, "V3": 90.0},
}
TIMES = np.array([0.5, 1.5, 3.0, 6.0, 12.0, 30.0, 72.0])


def rhs(n, chain):
    """Right side written from the flows: chain of absorption rates, then the compartments."""
    p = DISPOSITION[n]
    volumes = [p[v] for v in (("V",) if n == 1 else ("V1", "V2", "V3")[:n])]
    exchange = {1: [], 2: [p.get("Q")], 3: [p.get("Q2"), p.get("Q3")]}[n]

    def function(t, y):
        out = np.zeros_like(y)
        for i, rate in enumerate(chain):
            out[i] -= rate * y[i]
            out[i + 1] += rate * y[i]
        c = len(chain)
        out[c] -= p["CL"] * y[c] / volumes[0]
        for k, q in enumerate(exchange, start=1):
            net = q * (y[c] / volumes[0] - y[c + k] / volumes[k])
            out[c] -= net
            out[c + k] += net
        return out

    return function


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "absorption", "transits", "chain"),
    [
        (1, "none", 0, []),
        (2, "first_order", 0, [0.8]),
        (3, "first_order", 0, [0.8]),
        (2, "transit", 3, [1.2] * 3),
        (1, "transit_first_order", 4, [1.2] * 4 + [0.8]),
    ],
)
def test_lagged_dose_in_every_system(n, absorption, transits, chain):
    system = compartment_model(n, absorption, transits)
    events = EventTable.from_columns(
        [1] * 8, [0.0, *TIMES], evid=[1] + [0] * 7, amt=[100] + [0] * 7
    )
    values = DISPOSITION[n] | {"ALAG1": 0.25}
    values |= {"ktr": 1.2} if "transit" in absorption else {}
    values |= {"ka": 0.8} if "first_order" in absorption else {}
    amounts = np.asarray(solve_linear(system, events, values))[0, 1:]
    start = np.zeros(system.size)
    start[0] = 100
    solution = solve_ivp(
        rhs(n, chain), (0.25, 72.0), start, method="DOP853", rtol=1e-12, atol=1e-12, t_eval=TIMES
    )
    np.testing.assert_allclose(amounts, solution.y.T, rtol=1e-9, atol=1e-9)
    assert system.observed == len(chain) + 1
