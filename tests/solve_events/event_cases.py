"""One table of subjects, one feature each, solved once for all files of this folder.

The expected amounts come from ``given``: superposition of bolus and infusion responses as sums of
exponentials, doses written out one by one, steady states as several hundred doses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pkpd.data.events import EventTable
from pkpd.kinetics.compartments import compartment_model

SYSTEM = compartment_model(2, "first_order")
CL, V1, Q, V2, KA = 3.0, 20.0, 2.0, 30.0, 0.9
VALUES = {"CL": CL, "V1": V1, "Q": Q, "V2": V2, "ka": KA}
DOSING = {"ALAG1": 0.0, "ALAG2": 0.0, "F1": 1.0, "F2": 1.0, "D1": 2.0, "D2": 2.0, "R2": 25.0}
OBSERVED = tuple(np.arange(0.0, 49.0, 2.5))
COLUMNS = ("evid", "amt", "rate", "ii", "addl", "ss", "cmt")


def rate_matrix(cl=CL, v1=V1, q=Q, v2=V2, ka=KA):
    return np.array([[-ka, 0, 0], [ka, -(cl + q) / v1, q / v2], [0, q / v1, -q / v2]])


def given(doses, times, matrix=None):
    """Amounts [T, 3] after doses (time, amount, compartment from 1, duration), by superposition."""
    matrix = rate_matrix() if matrix is None else matrix
    roots, left = np.linalg.eig(matrix)
    roots, left = roots.real, left.real  # NumPy from 2.5 on gives complex arrays
    right = np.linalg.inv(left)
    times = np.asarray(times, dtype=float)
    out = np.zeros((len(times), len(matrix)))
    for start, amount, cmt, duration in doses:
        since = times - start
        entered = since > -1e-12
        since = np.where(entered, np.maximum(since, 0.0), 0.0)[:, None]
        on = np.minimum(since, duration)
        modes = np.exp(roots * since)
        if duration > 0:
            modes = np.exp(roots * (since - on)) * np.expm1(roots * on) / roots / duration
        out += amount * entered[:, None] * ((modes * right[:, cmt - 1]) @ left.T)
    return out


@dataclass
class Case:
    """Records (time, columns) of a subject, and its parameters (scalar or per record)."""

    doses: list
    observed: tuple = OBSERVED
    parameters: dict = field(default_factory=dict)
    first: bool = True  # records at the time of an observation come before it

    def rows(self):
        rows = [(t, 0 if self.first else 2, {"evid": 1, "cmt": 1} | d) for t, d in self.doses]
        rows += [(t, 1, {"evid": 0, "cmt": 2}) for t in self.observed]
        return [(t, columns) for t, _, columns in sorted(rows, key=lambda r: (r[0], r[1]))]


CASES: dict[str, Case] = {
    "bolus": Case([(0, {"amt": 100})]),
    "bolus_central": Case([(0, {"amt": 100, "cmt": 2})]),
    "addl": Case([(0, {"amt": 100, "addl": 3, "ii": 12})]),
    "written": Case([(t, {"amt": 100}) for t in (0, 12, 24, 36)]),
    "addl_at_record": Case([(0, {"amt": 100, "addl": 3, "ii": 10, "cmt": 2})]),
    "lag": Case([(0, {"amt": 100, "addl": 2, "ii": 12})], parameters={"ALAG1": 3.3}),
    "lag_at_record": Case([(0, {"amt": 100, "cmt": 2})], parameters={"ALAG2": 7.5}),
    "lag_rounding": Case([(0.2, {"amt": 100, "cmt": 2})], (0.1, 0.3), {"ALAG2": 0.1}),
    "lag_other_compartment": Case([(0, {"amt": 100})], parameters={"ALAG2": 5.0}),
    "infusion": Case([(1, {"amt": 100, "rate": 15, "cmt": 2})]),
    "infusion_overlap": Case([(0, {"amt": 100, "rate": 5, "cmt": 2, "addl": 3, "ii": 8})]),
    "infusion_depot": Case([(0, {"amt": 100, "rate": 20})]),
    "infusion_f": Case([(0, {"amt": 100, "rate": 10, "cmt": 2})], parameters={"F2": 0.37}),
    "duration": Case([(0, {"amt": 100, "rate": -2, "cmt": 2})], parameters={"D2": 6.1, "F2": 0.5}),
    "duration_lag": Case(
        [(0, {"amt": 100, "rate": -2, "cmt": 2, "addl": 1, "ii": 24})],
        parameters={"D2": 6.1, "ALAG2": 1.7},
    ),
    "rate": Case([(0, {"amt": 100, "rate": -1, "cmt": 2})], parameters={"R2": 12.0, "F2": 0.8}),
    "mixed": Case(
        [(0, {"amt": 100}), (0, {"amt": 100, "rate": -2, "cmt": 2})],
        parameters={"F1": 0.6, "F2": 0.4, "D2": 4.0, "ALAG1": 4.0},
    ),
    "after_observation": Case([(10, {"amt": 100, "cmt": 2})], first=False),
    "two_at_once": Case([(0, {"amt": 60}), (0, {"amt": 40, "cmt": 2})]),
    "reset": Case([(0, {"amt": 100, "addl": 5, "ii": 6}), (20, {"evid": 3})]),
    "reset_dose": Case(
        [(0, {"amt": 100, "rate": 4, "cmt": 2}), (20, {"evid": 4, "amt": 50, "cmt": 2})]
    ),
    "reset_lag": Case([(0, {"amt": 100, "cmt": 2}), (10, {"evid": 3})], parameters={"ALAG2": 15.0}),
    "ss": Case([(0, {"amt": 100, "ss": 1, "ii": 12})]),
    "ss_addl": Case([(0, {"amt": 100, "ss": 1, "ii": 12, "addl": 2})]),
    "ss_lag": Case([(0, {"amt": 100, "ss": 1, "ii": 12, "addl": 1})], parameters={"ALAG1": 5.0}),
    "ss_long_lag": Case(
        [(0, {"amt": 100, "ss": 1, "ii": 12, "addl": 1, "cmt": 2})], parameters={"ALAG2": 29.0}
    ),
    "ss_infusion": Case([(0, {"amt": 100, "ss": 1, "ii": 12, "rate": 20, "cmt": 2})]),
    "ss_long_infusion": Case(
        [(0, {"amt": 100, "ss": 1, "ii": 8, "rate": 4, "cmt": 2})], parameters={"F2": 0.9}
    ),
    "ss_whole_interval": Case([(0, {"amt": 80, "ss": 1, "ii": 8, "rate": 10, "cmt": 2})]),
    "ss_long_infusion_lag": Case(
        [(0, {"amt": 100, "ss": 1, "ii": 8, "rate": 4, "cmt": 2})], parameters={"ALAG2": 5.0}
    ),
    "ss_long_infusion_long_lag": Case(
        [(0, {"amt": 100, "ss": 1, "ii": 8, "rate": 4, "cmt": 2})], parameters={"ALAG2": 19.0}
    ),
    "ss_duration": Case(
        [(0, {"amt": 100, "ss": 1, "ii": 12, "rate": -2, "cmt": 2})],
        parameters={"D2": 15.0, "ALAG2": 2.0},
    ),
    "ss_rate": Case(
        [(0, {"amt": 100, "ss": 1, "ii": 12, "rate": -1, "cmt": 2})],
        parameters={"R2": 6.0, "ALAG2": 2.0},
    ),
    "ss_two": Case(
        [(0, {"amt": 100, "ss": 1, "ii": 24}), (10, {"amt": 50, "ss": 2, "ii": 24})],
    ),
    "ss_cancels": Case(
        [(0, {"amt": 100, "cmt": 2, "rate": 3}), (10, {"amt": 50, "ss": 1, "ii": 12})],
    ),
    "ss_constant": Case([(0, {"ss": 1, "rate": 20, "cmt": 2})]),
    "ss_reset": Case(
        [(0, {"amt": 100}), (20, {"evid": 4, "amt": 50, "ss": 1, "ii": 12})],
        parameters={"ALAG1": 4.0},
    ),
}


def table(cases):
    """Event table of cases, in their order, and parameters [B, N]."""
    columns = {name: [] for name in ("subject", "time", *COLUMNS)}
    for label, case in cases.items():
        for time, given_ in case.rows():
            columns["subject"].append(label)
            columns["time"].append(float(time))
            for name in COLUMNS:
                columns[name].append(given_.get(name, 0))
    events = EventTable.from_columns(**columns)
    parameters = {}
    for name, default in (VALUES | DOSING).items():
        full = np.zeros(events.shape)
        for b, case in enumerate(cases.values()):
            value = np.broadcast_to(case.parameters.get(name, default), len(case.rows()))
            full[b] = np.concatenate([value, np.full(events.shape[1] - len(value), value[-1])])
        parameters[name] = full
    return events, parameters
