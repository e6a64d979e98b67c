from __future__ import annotations

import numpy as np
import pytest
from event_cases import CASES, SYSTEM, table

from pkpd.solve.events.advance import solve_linear


@pytest.fixture(scope="session")
def solved():
    """Times and amounts of the observations of each case."""
    events, parameters = table(CASES)
    amounts = np.asarray(solve_linear(SYSTEM, events, parameters))
    out = {}
    for b, label in enumerate(CASES):
        seen = events.valid[b] & (events.evid[b] == 0)
        out[label] = events.time[b, seen], amounts[b, seen]
    return out


@pytest.fixture(scope="session")
def at_records():
    """Times, EVID and amounts of all records of each case."""
    events, parameters = table(CASES)
    amounts = np.asarray(solve_linear(SYSTEM, events, parameters))
    return {
        label: (
            events.time[b, events.valid[b]],
            events.evid[b, events.valid[b]],
            amounts[b, events.valid[b]],
        )
        for b, label in enumerate(CASES)
    }
