"""Data sets and an independent solution (scipy, DOP853) that the tests of joint models share."""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp

from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import EventTable


def dataset(rows, lines, *, occasion=None, **observed) -> Dataset:
    """Build a data set from event rows and observations.

    ``rows`` are tuples (subject, time, evid, cmt, amt, rate, ii, addl, ss); every EVID 0 row is an
    observation of line ``cmt - 100`` if its cmt is 100 or more (several lines: several rows).
    """
    table = np.array([row + (0,) * (9 - len(row)) for row in rows], dtype=float)
    events = EventTable.from_columns(
        table[:, 0].astype(int),
        table[:, 1],
        evid=table[:, 2],
        cmt=table[:, 3],
        amt=table[:, 4],
        rate=table[:, 5],
        ii=table[:, 6],
        addl=table[:, 7],
        ss=table[:, 8],
    )
    subject, record = np.nonzero(events.valid & (events.evid == 0) & (events.cmt >= 100))
    n = len(subject)
    seen = Observations(
        subject,
        record,
        events.time[subject, record],
        events.cmt[subject, record] - 100,
        np.ones(n),
        np.zeros(n, dtype=int),
        np.full(n, -np.inf),
        events.row[subject, record],
    )
    return Dataset(events, seen, tuple(lines), occasion=occasion, **observed)


def friberg(state, effect, p, transits=3, k_circ=None):
    """Published Friberg equations on natural scale: Prol, transits, Circ."""
    ktr = (transits + 1) / p["MTT"]
    prol, circ = state[0], state[-1]
    out = np.empty_like(state)
    out[0] = ktr * prol * ((1.0 - effect) * (p["circ0"] / circ) ** p["gamma"] - 1.0)
    out[1:-1] = ktr * (state[:-2] - state[1:-1])
    out[-1] = ktr * state[-2] - (ktr if k_circ is None else k_circ) * circ
    return out


def reference(rhs, y0, jumps, times, rtol=1e-11):
    """State at ``times`` of an ODE that restarts at every jump.

    ``jumps`` are (time, change); ``change(state, rates)`` returns the state after it and may set
    infusion rates. ``rhs(t, y, rates)``. At the time of a jump the state is that after it.
    """
    y, rates = np.array(y0, dtype=float), {}
    times = np.asarray(times, dtype=float)
    out = np.empty((len(times), len(y)))
    stops = sorted({0.0, *(at for at, _ in jumps)})
    for start, stop in zip(stops, [*stops[1:], np.inf], strict=True):
        for at, change in jumps:
            if at == start:
                y = np.asarray(change(y.copy(), rates), dtype=float)
        inside = np.unique(times[(times >= start) & (times < stop)])
        end = stop if np.isfinite(stop) else max(inside.max(initial=start), start)
        if end > start:
            found = solve_ivp(
                lambda t, x: rhs(t, x, rates),
                (start, end),
                y,
                method="DOP853",
                t_eval=np.unique(np.append(inside, end)),
                rtol=rtol,
                atol=1e-12 * np.maximum(np.abs(y0), 1e-3),
            )
            at_times = dict(zip(found.t, found.y.T, strict=True))
            at_times[start] = y
            y = found.y[:, -1]
        else:
            at_times = {start: y}
        for t in inside:
            out[times == t] = at_times[t]
    return out


def infusion(amount, duration, start, into):
    """Jumps of one infusion; ``duration`` 0 is a bolus."""
    if duration == 0:
        return [(start, _added(into, amount))]
    return [
        (start, _rate_changed(into, amount / duration)),
        (start + duration, _rate_changed(into, -amount / duration)),
    ]


def _added(into, amount):
    def change(y, rates):
        y[into] += amount
        return y

    return change


def _rate_changed(into, by):
    def change(y, rates):
        rates[into] = rates.get(into, 0.0) + by
        return y

    return change


ONE_DRUG = {"CL": 5.0, "V": 50.0, "slope": 0.6, "circ0": 5.0, "MTT": 100.0, "gamma": 0.2}
ONE_ROWS = [
    (1, 0.0, 1, 1, 100.0),
    (1, 50.0, 0, 100),
    (2, 5.0, 1, 1, 100.0),
    (2, 55.0, 0, 100),
    (2, 200.0, 0, 100),
]
