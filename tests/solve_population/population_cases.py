"""Small populations that the tests of both engines share."""

from __future__ import annotations

import numpy as np

from pkpd.kinetics.linear import Disposition, TransitAbsorption
from pkpd.marrow.effects import EmaxEffect, LinearEffect, NoEffect
from pkpd.marrow.friberg import Friberg, PlateletChain
from pkpd.solve.grid.grid import Doses
from pkpd.solve.grid.structure import DirectKill, Drug, Line, PopulationStructure

TYPICAL = {
    "CL": 20.0,
    "V1": 100.0,
    "Q": 15.0,
    "V2": 80.0,
    "KTR": 4.0,
    "k_in": 3.0,
    "k_out": 0.05,
    "per_umol": 3.0,
    "F": 0.8,
    "Emax": 1.2,
    "EC50": 1.5,
    "hill": 1.6,
    "slope": 0.4,
    "kill": 0.05,
    "baseline": 4.0,
    "set_point": 5.0,
    "MTT": 120.0,
    "gamma": 0.18,
    "ks": 0.012,
}

STRUCTURE = PopulationStructure(
    (
        Drug("infused", Disposition(2, effect_site=True)),
        Drug("oral", TransitAbsorption(3, 1, unit="umol/L")),
        Drug("companion", DirectKill()),
    ),
    (
        Line("neutrophils", Friberg(), (EmaxEffect(), LinearEffect(), NoEffect())),
        Line(
            "platelets",
            PlateletChain(transits=2, feedback_rule="off"),
            (LinearEffect(), EmaxEffect(hill=True), NoEffect()),
        ),
    ),
)


def parameters(lanes: int, seed: int = 0, structure: PopulationStructure = STRUCTURE) -> np.ndarray:
    """``theta[P, lanes]`` spread by 20 %."""
    spread = np.random.default_rng(seed).standard_normal((len(structure.layout), lanes))
    typical = np.array([[TYPICAL[name[-1]]] for name in structure.layout])
    return typical * np.exp(0.2 * spread)


def schedules(n: int = 3, seed: int = 1) -> Doses:
    """Jittered doses of all three drugs, not on any grid."""
    jitter = np.random.default_rng(seed).uniform
    out = []
    for _ in range(n):
        doses = [(24.0 * d + jitter(0, 3), 9.0, 1.0 + jitter(0, 1), 0) for d in range(3)]
        doses += [(24.0 * d + jitter(0, 5), 5.0, 0.0, 1) for d in range(3, 6)]
        doses.append((12.0, 8.0, 48.0, 2))
        out.append(doses)
    return Doses.of(out)


def times(n: int = 3, count: int = 8, seed: int = 2) -> np.ndarray:
    """Observation times ``[n, count]`` up to day 12, one of them missing."""
    out = np.sort(np.random.default_rng(seed).uniform(0, 288.0, (n, count)), axis=1)
    out[0, 0] = 0.0
    out[-1, -1] = np.nan
    return out


def nested(theta: np.ndarray, structure: PopulationStructure = STRUCTURE) -> dict:
    """Rows of ``theta`` as nested mappings."""
    tree: dict = {}
    for name, row in structure.row.items():
        branch = tree
        for part in name[:-1]:
            branch = branch.setdefault(part, {})
        branch[name[-1]] = theta[row]
    return tree
