"""Laws that hold for any doses: superposition, additional doses, split infusions, order, mass."""

from __future__ import annotations

import numpy as np
from event_cases import SYSTEM, VALUES
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.data.events import EventTable
from pkpd.kinetics.compartments import linear_system
from pkpd.solve.events.advance import solve_linear
from pkpd.solve.events.timeline import EventOptions

OBSERVED = np.array([0.5, 3.0, 7.0, 11.0, 20.0, 33.0, 50.0])
SUBJECTS = (
    "whole",
    "split",
    "first",
    "second",
    "both",
    "added",
    "written",
    "none",
    "steady",
    "many",
)
MANY = 40
amounts_given = st.floats(1.0, 500.0)
hours = st.floats(0.0, 12.0)


def rows_for(amount, other, t1, t2, rate, interval, lag):
    """Records (subject, time, evid, amt, rate, ii, addl, ss, cmt)."""
    half = amount / 2 / rate
    doses = {
        "whole": [(t1, amount, rate, 0, 0, 0, 2)],
        "split": [(t1, amount / 2, rate, 0, 0, 0, 2), (t1 + half, amount / 2, rate, 0, 0, 0, 2)],
        "first": [(t1, amount, 0, 0, 0, 0, 1)],
        "second": [(t2, other, rate, 0, 0, 0, 2)],
        "both": [(t1, amount, 0, 0, 0, 0, 1), (t2, other, rate, 0, 0, 0, 2)],
        "added": [(t1, amount, 0, interval, 3, 0, 1)],
        "written": [(t1 + k * interval, amount, 0, 0, 0, 0, 1) for k in range(4)],
        "none": [],
        # the train begins so that its last dose falls on the steady-state record
        "steady": [(0.0, amount, 0, 24.0, 0, 1, 1)],
        "many": [(-24.0 * MANY, amount, 0, 24.0, MANY, 0, 1)],
    }
    out = []
    for subject in SUBJECTS:
        mine = [(t, 1, *rest) for t, *rest in doses[subject]]
        mine += [(t, 0, 0, 0, 0, 0, 0, 2) for t in OBSERVED]
        out.append([(subject, *row) for row in sorted(mine, key=lambda r: r[0])])
    return out


def solve(blocks, lag):
    columns = list(zip(*[row for block in blocks for row in block], strict=True))
    names = ("subject", "time", "evid", "amt", "rate", "ii", "addl", "ss", "cmt")
    events = EventTable.from_columns(**dict(zip(names, columns, strict=True)))
    amounts = np.asarray(
        solve_linear(SYSTEM, events, VALUES | {"ALAG1": lag}, options=EventOptions(pending=0))
    )
    return {
        str(label): amounts[b, events.valid[b] & (events.evid[b] == 0)]
        for b, label in enumerate(events.subject)
    }


@settings(max_examples=15, deadline=None)
@given(
    amounts_given,
    amounts_given,
    hours,
    hours,
    st.floats(5.0, 200.0),
    st.floats(2.0, 15.0),
    st.floats(0.0, 4.0),
    st.permutations(range(len(SUBJECTS))),
)
def test_laws(amount, other, t1, t2, rate, interval, lag, order):
    blocks = rows_for(amount, other, t1, t2, rate, interval, lag)
    found = solve(blocks, lag)
    # 1e-9 of the largest amount a subject can hold (four doses)
    close = {"rtol": 1e-9, "atol": 4e-9 * (amount + other)}
    np.testing.assert_allclose(found["whole"], found["split"], **close)
    np.testing.assert_allclose(found["both"], found["first"] + found["second"], **close)
    np.testing.assert_allclose(found["added"], found["written"], **close)
    assert np.all(found["none"] == 0)
    # what 40 days leave of the slowest mode, rate 0.044 /h: exp(-42)
    np.testing.assert_allclose(found["steady"], found["many"], **close)
    again = solve([blocks[i] for i in order], lag)
    for label, values in found.items():
        np.testing.assert_allclose(again[label], values, rtol=1e-13, atol=1e-13)


CLOSED = linear_system(
    "absorption, central, excreted",
    ("depot", "central", "excreted"),
    ("ka", "ke"),
    lambda p: {(0, 1): p["ka"], (1, 2): p["ke"]},
)


@settings(max_examples=15, deadline=None)
@given(amounts_given, hours, st.floats(0.1, 20.0), st.floats(0.05, 1.0), st.floats(0.0, 6.0))
def test_nothing_is_lost(amount, start, duration, fraction, lag):
    events = EventTable.from_columns(
        [1] * 9,
        [0.0, start, *(start + OBSERVED)],
        evid=[1, 1, *[0] * 7],
        amt=[amount, amount, *[0] * 7],
        rate=[0, -2, *[0] * 7],
        cmt=[1, 2, *[2] * 7],
    )
    amounts = np.asarray(
        solve_linear(
            CLOSED, events, {"ka": 0.8, "ke": 0.2, "D2": duration, "F1": fraction, "ALAG1": lag}
        )
    )[0]
    times = events.time[0, 2:]
    entered = amount * np.clip((times - start) / duration, 0.0, 1.0)
    entered = entered + fraction * amount * (times >= lag)
    np.testing.assert_allclose(amounts[2:].sum(axis=1), entered, rtol=1e-9, atol=1e-9 * amount)
