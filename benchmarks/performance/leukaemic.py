"""The likelihood workload in the marrow with leukaemia: neutrophils, platelets and marrow blasts.

200 patients with untreated acute myeloid leukaemia, clofarabine days 1-5, a course of chemotherapy
by its intensity on days 1-3, lenalidomide days 29-49, 84 days, 30 observations of each line;
kinetics and marrow differ from patient to patient, and the derivative is formed by all parameters.
"""

from __future__ import annotations

import numpy as np

from pkpd.kinetics.linear import LinearPK
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.patients import who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.simulate import simulate
from pkpd.marrow.actions import DoseKill, MaturationBlock, SaturableKill
from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.schedule import daily
from pkpd.solve.grid.grid import Doses
from pkpd.solve.grid.structure import DirectKill, Drug, PopulationStructure, Whole

CLOFARABINE = daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
LENALIDOMIDE = daily("lenalidomide", "10 mg", days="1-21", route="oral")
_TYPICAL = {
    "clofarabine": {"CL": 37.7, "V1": 268.0, "Q": 33.2, "V2": 186.0, "k_in": 2.5, "k_out": 0.0289,
                    "per_umol": 3.3},
    "lenalidomide": {"CL": 12.0, "V1": 68.8, "KTR": 13.5, "per_umol": 3.9},
    "chemotherapy": {},
}  # fmt: skip


def leukaemic_problem(
    n: int = 200, observations: int = 30, seed: int = 11
) -> tuple[PopulationStructure, np.ndarray, Doses, np.ndarray]:
    """Structure, ``theta[P, n]``, doses of one schedule, and times ``[observations]``."""
    random = np.random.default_rng(seed)
    marrow = LeukaemicMarrow(injury=False, pegfilgrastim=False, care=False)
    actions = (SaturableKill("clofarabine_"), MaturationBlock("lenalidomide_"), DoseKill("mec_"))
    structure = PopulationStructure(
        (
            Drug("clofarabine", LinearPK(None, 2, effect_site=True, unit="umol/L")),
            Drug("lenalidomide", LinearPK(7, 1, unit="umol/L")),
            Drug("chemotherapy", DirectKill()),
        ),
        whole=Whole(marrow, actions, ("neutrophils", "platelets", "marrow_blasts")),
    )
    both = CLOFARABINE.together(LENALIDOMIDE)
    arm = Arm(name="benchmark", disease="aml", schedule=ArmSchedule(both, 1))
    _, patients = simulate(arm, default_theta(), who(arm, n, seed))
    patients["mec_intensity"] = np.ones(n)
    theta = np.empty((len(structure.layout), n))
    for name, row in structure.row.items():
        if name[0] == "marrow":
            theta[row] = patients[name[1]]
        else:
            typical = _TYPICAL[name[1]].get(name[2], 1.0)
            spread = 0.2 if name[2] in ("CL", "V1", "KTR") else 0.0
            theta[row] = typical * np.exp(spread * random.standard_normal(n))
    doses = [(24.0 * d, 36.0, 1.0, 0) for d in range(5)]
    doses += [(24.0 * d, 10.0, 0.0, 1) for d in range(28, 49)]
    doses += [(24.0 * d, 0.1, 24.0, 2) for d in range(3)]
    times = np.sort(random.uniform(1.0, 84 * 24.0, observations))
    return structure, theta, Doses.of([doses]), times
