"""The likelihood workload: what a fit evaluates thousands of times.

200 patients, three courses of 28 days of clofarabine days 1-5 and lenalidomide days 8-28 at times
that differ from patient to patient, neutrophils and platelets, 30 observations each, seven
individual parameters; the derivative is formed by all parameters.
"""

from __future__ import annotations

import numpy as np

from pkpd.kinetics.linear import Disposition, TransitAbsorption
from pkpd.marrow.effects import EmaxEffect, LinearEffect
from pkpd.marrow.friberg import Friberg, PlateletChain
from pkpd.solve.grid.grid import Doses
from pkpd.solve.grid.structure import Drug, Line, PopulationStructure

INDIVIDUAL = (
    ("pk", "clofarabine", "CL"),
    ("pk", "lenalidomide", "CL"),
    ("effect", "neutrophils", "clofarabine", "EC50"),
    ("marrow", "neutrophils", "MTT"),
    ("marrow", "neutrophils", "baseline"),
    ("marrow", "platelets", "MTT"),
    ("marrow", "platelets", "baseline"),
)
_TYPICAL = {
    "clofarabine": {"CL": 37.7, "V1": 268.0, "Q": 33.2, "V2": 186.0, "k_in": 3.5, "k_out": 0.0289},
    "lenalidomide": {"CL": 12.0, "V1": 68.8, "KTR": 13.5},
    "per_umol": 3.3,
    "F": 1.0,
    "Emax": 1.25,
    "EC50": 2.0,
    "slope": 0.2,
    "MTT": 150.0,
    "gamma": 0.17,
    "ks": 0.01,
}
_BASELINE = {"neutrophils": 4.5, "platelets": 230.0}


def fitting_problem(
    n: int = 200, observations: int = 30, seed: int = 11
) -> tuple[PopulationStructure, np.ndarray, Doses, np.ndarray]:
    """Structure, ``theta[P, n]``, doses, and times ``[n, observations]`` over 84 days."""
    random = np.random.default_rng(seed)
    effects = (EmaxEffect(), LinearEffect())
    structure = PopulationStructure(
        (
            Drug("clofarabine", Disposition(2, effect_site=True)),
            Drug("lenalidomide", TransitAbsorption(7, 1, unit="umol/L")),
        ),
        (Line("neutrophils", Friberg(), effects), Line("platelets", PlateletChain(), effects)),
    )
    theta = np.empty((len(structure.layout), n))
    for name, row in structure.row.items():
        if name[-1] in ("baseline", "set_point"):
            value = _BASELINE[name[1]]
        else:
            value = _TYPICAL.get(name[1], {}).get(name[-1], _TYPICAL.get(name[-1]))
        theta[row] = value
    for name in INDIVIDUAL:
        sd = 0.15 if name[-1] == "MTT" else 0.3
        theta[structure.row[name]] *= np.exp(sd * random.standard_normal(n))
    schedules = []
    for _ in range(n):
        doses = []
        for course in range(3):
            start = 28 * 24.0 * course
            doses += [(start + 24.0 * d + random.uniform(0, 3), 9.0, 1.0, 0) for d in range(5)]
            doses += [(start + 24.0 * d + random.uniform(0, 5), 50.0, 0.0, 1) for d in range(7, 28)]
        schedules.append(doses)
    times = np.sort(random.uniform(0, 84 * 24.0, (n, observations)), axis=1)
    return structure, theta, Doses.of(schedules), times
