"""Two workloads that peers can run as well, with a reference solution.

W1: 1,000 patients, clofarabine 9 mg as 1-h infusions on days 1-5 (two compartments, variable CL,
V1 and Q), intracellular triphosphate, saturable effect (variable EC50) on a Friberg neutrophil
chain, counts each day for 60 days. W2: W1 with lenalidomide 50 mg daily on days 29-56 through
seven transit compartments and a linear effect, 120 days.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp

from pkpd.kinetics.linear import Disposition, TransitAbsorption
from pkpd.marrow.effects import EmaxEffect, LinearEffect
from pkpd.marrow.friberg import Friberg
from pkpd.solve.grid.grid import Doses
from pkpd.solve.grid.structure import Drug, Line, PopulationStructure

PATIENTS = 1000
SEED = 20260601
CLOFARABINE_MG, LENALIDOMIDE_MG = 9.0, 50.0
V2, EMAX, BASELINE, MTT, GAMMA, SLOPE = 186.0, 1.25, 4.5, 200.0, 0.17, 0.5
K_IN, K_OUT = 200.0 / 57.0, np.log(2.0) / 24.0
CL_LEN, V_LEN, KTR, TRANSITS = 12.0, 68.8, 13.5, 7
PER_UMOL_CLO, PER_UMOL_LEN = 1000.0 / 303.68, 1000.0 / 259.26


@dataclass(frozen=True, eq=False)
class Workload:
    """A population, its doses, and the times it is observed at."""

    name: str
    structure: PopulationStructure
    parameters: dict[str, np.ndarray]  # the five that vary, [L]
    theta: np.ndarray
    doses: Doses
    times_h: np.ndarray
    dose_list: tuple[tuple[float, float, float, int], ...]

    def first(self, n: int) -> Workload:
        """Return the same work for the first ``n`` patients."""
        own = {name: values[:n] for name, values in self.parameters.items()}
        return replace(self, parameters=own, theta=self.theta[:, :n])


def individual_parameters(n: int = PATIENTS, seed: int = SEED) -> dict[str, np.ndarray]:
    """Log-normal CL, V1, Q (18, 13, 65 %) and EC50 (50 %)."""
    draw = np.random.default_rng(seed).standard_normal
    out = {}
    for name, typical, sd in (
        ("CL", 37.7, 0.18),
        ("V1", 268.0, 0.13),
        ("Q", 33.2, 0.65),
        ("V2", V2, 0.0),
        ("EC50", 2.0, 0.5),
    ):
        out[name] = typical * np.exp(sd * draw(n)) if sd else np.full(n, typical)
    return out


def workload(name: str, n: int = PATIENTS) -> Workload:
    """W1 or W2 for ``n`` patients."""
    both = name == "W2"
    own = individual_parameters(n)
    drugs = (Drug("clofarabine", Disposition(2, effect_site=True)),)
    effects = (EmaxEffect(), LinearEffect())
    if both:
        drugs += (Drug("lenalidomide", TransitAbsorption(TRANSITS, 1, unit="umol/L")),)
    line = Line("neutrophils", Friberg(), effects[: len(drugs)])
    structure = PopulationStructure(drugs, (line,))
    kinetics = {
        "clofarabine": {
            **{k: own[k] for k in ("CL", "V1", "Q", "V2")},
            "k_in": K_IN,
            "k_out": K_OUT,
            "per_umol": PER_UMOL_CLO,
        }
    }
    effect = {"clofarabine": {"Emax": EMAX, "EC50": own["EC50"]}}
    if both:
        kinetics["lenalidomide"] = {
            "CL": CL_LEN,
            "V1": V_LEN,
            "KTR": KTR,
            "per_umol": PER_UMOL_LEN,
        }
        effect["lenalidomide"] = {"slope": SLOPE}
    values = structure.values(
        {
            "pk": kinetics,
            "effect": {"neutrophils": effect},
            "marrow": {
                "neutrophils": {
                    "baseline": BASELINE,
                    "set_point": BASELINE,
                    "MTT": MTT,
                    "gamma": GAMMA,
                }
            },
        }
    )
    theta = np.array([np.broadcast_to(v, n) for v in values], dtype=np.float64)
    doses = [(24.0 * d, CLOFARABINE_MG, 1.0, 0) for d in range(5)]
    if both:
        doses += [(24.0 * d, LENALIDOMIDE_MG, 0.0, 1) for d in range(28, 56)]
    days = 120 if both else 60
    return Workload(
        name,
        structure,
        own,
        theta,
        Doses.of([doses]),
        24.0 * np.arange(days + 1),
        tuple(doses),
    )


def segments(work: Workload) -> np.ndarray:
    """Stretches without an event: rows ``(start, end, infusion rate, oral dose at start)``."""
    end = work.times_h[-1]
    edges = {0.0, float(end)}
    for start, _, duration, _ in work.dose_list:
        edges |= {start, start + duration}
    points = sorted(edges)
    rows = []
    for left, right in pairwise(points):
        rate = sum(a / d for t, a, d, k in work.dose_list if k == 0 and t <= left < t + d)
        oral = sum(a for t, a, _, k in work.dose_list if k == 1 and t == left)
        rows.append((left, right, rate, oral))
    return np.array(rows)


def initial_state(work: Workload) -> np.ndarray:
    """State of one patient: clofarabine (3), marrow (5), lenalidomide (9 if given)."""
    state = np.zeros(17 if work.name == "W2" else 8)
    state[3:8] = BASELINE
    return state


def _rates(y: np.ndarray, own: dict[str, np.ndarray], infusion: float) -> np.ndarray:
    """Full differential equations, ``y[states, L]``."""
    d = np.empty_like(y)
    out, back = own["Q"] / own["V1"], own["Q"] / own["V2"]
    d[0] = infusion - (own["CL"] / own["V1"] + out) * y[0] + back * y[1]
    d[1] = out * y[0] - back * y[1]
    d[2] = K_IN * PER_UMOL_CLO * y[0] / own["V1"] - K_OUT * y[2]
    effect = EMAX * y[2] / (own["EC50"] + y[2])
    if y.shape[0] > 8:
        effect = effect + SLOPE * PER_UMOL_LEN * y[16] / V_LEN
        d[8] = -KTR * y[8]
        d[9:16] = KTR * (y[8:15] - y[9:16])
        d[16] = KTR * y[15] - CL_LEN / V_LEN * y[16]
    k = 4.0 / MTT
    d[3] = k * y[3] * ((1.0 - effect) * (BASELINE / y[7]) ** GAMMA - 1.0)
    d[4:8] = k * (y[3:7] - y[4:8])
    return d


def reference(work: Workload, cache: Path | None = None) -> np.ndarray:
    """Solve by DOP853 at 1e-12, restarted at every event; counts ``[L, T]``, kept in ``cache``."""
    n = work.theta.shape[1]
    path = None if cache is None else cache / f"reference_{work.name}_{n}.npy"
    if path is not None and path.exists():
        return np.load(path)
    out = np.empty((n, work.times_h.size))
    state = np.repeat(initial_state(work)[:, None], n, axis=1)
    out[:, 0] = BASELINE
    for left, right, infusion, oral in segments(work):
        if oral:
            state[8] += oral
        inside = np.flatnonzero((work.times_h > left) & (work.times_h <= right))
        solved = solve_ivp(
            lambda _, y, rate=infusion: _rates(y.reshape(-1, n), work.parameters, rate).ravel(),
            (left, right),
            state.ravel(),
            method="DOP853",
            rtol=1e-12,
            atol=1e-14,
            first_step=1e-3,
            t_eval=np.unique(np.append(work.times_h[inside], right)),
        )
        path_of = solved.y.reshape(state.shape[0], n, -1)
        out[:, inside] = path_of[7][:, : inside.size]
        state = path_of[:, :, -1].copy()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, out)
    return out
